"""A model folder as nnU-Net writes it, of any trainer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_unet3plus.benchmarking.fold import Fold
from nnunetv2_unet3plus.benchmarking.results import Labels
from nnunetv2_unet3plus.errors import UserError
from nnunetv2_unet3plus.json_files import read_object

_HINT = "give a folder that nnUNetv2_train has written, TRAINER__PLANS__CONFIGURATION"
COMPARED = ("spacing", "patch_size", "batch_size", "normalization_schemes", "use_mask_for_norm", "architecture")
OURS_ALONE = ("regions",)  # what a trainer of ours adds to the plans in its model folder


@dataclass(frozen=True)
class ModelFolder:
    """One trainer with one plan and configuration."""

    path: Path
    plans: dict[str, Any]
    dataset_json: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "ModelFolder":
        """Read its plans and description.

        Raises:
            UserError: if this is no model folder.
        """
        if path.name.count("__") < 2:
            raise UserError(f"{path}: no model folder; {_HINT}")
        plans = read_object(path / "plans.json", _HINT, ("dataset_name", "plans_name", "configurations"))
        dataset_json = read_object(path / "dataset.json", _HINT, ("labels", "file_ending"))
        model = cls(path, plans, dataset_json)
        if model.configuration not in plans["configurations"]:
            raise UserError(f"{path}: its plans.json has no configuration {model.configuration}; {_HINT}")
        return model

    @property
    def trainer(self) -> str:
        """Name of the trainer."""
        return self.path.name.split("__")[0]

    @property
    def plans_name(self) -> str:
        """`nnUNetPlans`, ..."""
        return self.path.name.split("__")[1]

    @property
    def configuration(self) -> str:
        """`2d`, ..."""
        return self.path.name.split("__", 2)[2]

    @property
    def dataset(self) -> str:
        """`Dataset501_LiTS`."""
        return self.plans["dataset_name"]

    @property
    def folds(self) -> list[Fold]:
        """All folds that were begun."""
        return [Fold(folder) for folder in sorted(self.path.glob("fold_*")) if folder.is_dir()]

    @cached_property
    def label_manager(self) -> LabelManager:
        """nnU-Net's."""
        return PlansManager(self.plans).get_label_manager(self.dataset_json)

    @property
    def labels(self) -> Labels:
        """What is measured: the foreground's labels, or regions, under their names."""
        if self.label_manager.has_regions:
            regions = [as_tuple(region) for region in self.label_manager.foreground_regions]
            names = {as_tuple(region): name for name, region in self.dataset_json["labels"].items() if name != "ignore"}
            return Labels({names[region]: region for region in regions}, self.label_manager.ignore_label)
        foreground = set(self.label_manager.foreground_labels)
        named = {name: (value,) for name, value in self.dataset_json["labels"].items() if value in foreground}
        return Labels(dict(sorted(named.items(), key=lambda item: item[1])), self.label_manager.ignore_label)

    @property
    def is_ct(self) -> bool:
        """Whether the first channel is CT."""
        names = self.dataset_json.get("channel_names") or self.dataset_json.get("modality") or {}
        return bool(names) and str(next(iter(names.values()))).upper() == "CT"


def as_tuple(region: int | Sequence[int]) -> tuple[int, ...]:
    """A region's values; nnU-Net writes a single one without brackets."""
    return (region,) if isinstance(region, int) else tuple(region)


def differences(plans: dict[str, Any], others: dict[str, Any], configuration: str, other_configuration: str) -> str:
    """In what two plans differ that matters to a training; empty if in nothing.

    Args:
        plans: the one.
        others: the other.
        configuration: of the one.
        other_configuration: of the other.
    """
    one, two = (resolved(p, name) for p, name in ((plans, configuration), (others, other_configuration)))
    named = [
        f"{key} {one[key]} and {two[key]}" if key in ("spacing", "patch_size", "batch_size") else key
        for key in COMPARED
        if one[key] != two[key]
    ]
    return ", ".join(named)


def resolved(plans: dict[str, Any], configuration: str) -> dict[str, Any]:
    """What decides a training, inherited values included, as JSON would give it back."""
    whole = PlansManager(plans).get_configuration(configuration).configuration
    entries = {key: whole.get(key) for key in COMPARED}
    entries = json.loads(json.dumps(entries))
    for option in OURS_ALONE:
        entries["architecture"]["arch_kwargs"].pop(option, None)
    return entries
