"""A model folder as nnU-Net writes it, of any trainer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any

from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_unet3plus.benchmarking.fold import Fold
from nnunetv2_unet3plus.benchmarking.results import Labels
from nnunetv2_unet3plus.errors import UserError
from nnunetv2_unet3plus.json_files import read_object

_HINT = "give a folder that nnUNetv2_train has written, TRAINER__PLANS__CONFIGURATION"
SPELLED_OUT = ("spacing", "patch_size", "batch_size")
OF_PLANS = ("transpose_forward", "image_reader_writer", "label_manager", "foreground_intensity_properties_per_channel")
WITHOUT_EFFECT = ("median_image_size_in_voxels", "next_stage", "inherits_from")
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
        names = {as_tuple(region): name for name, region in self.dataset_json["labels"].items() if name != "ignore"}
        if self.label_manager.has_regions:
            regions = [as_tuple(region) for region in self.label_manager.foreground_regions]
            return Labels({names[region]: region for region in regions}, self.label_manager.ignore_label)
        values = [as_tuple(value) for value in self.label_manager.foreground_labels]
        return Labels({names[value]: value for value in values}, self.label_manager.ignore_label)

    @property
    def is_ct(self) -> bool:
        """Whether the first channel is CT."""
        names = self.dataset_json.get("channel_names") or self.dataset_json.get("modality") or {}
        return bool(names) and str(next(iter(names.values()))).upper() == "CT"


def as_tuple(region: Integral | Sequence[int]) -> tuple[int, ...]:
    """A region's values; nnU-Net writes a single one without brackets."""
    return (int(region),) if isinstance(region, Integral) else tuple(map(int, region))


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
        f"{key} {one.get(key)} and {two.get(key)}" if key in SPELLED_OUT else key
        for key in sorted(one.keys() | two.keys(), key=lambda key: (key not in SPELLED_OUT, key))
        if one.get(key) != two.get(key)
    ]
    return ", ".join(named)


def resolved(plans: dict[str, Any], configuration: str) -> dict[str, Any]:
    """What decides a training, inherited values included, as JSON would give it back."""
    whole = PlansManager(plans).get_configuration(configuration).configuration
    entries = {key: value for key, value in whole.items() if key not in WITHOUT_EFFECT}
    entries |= {key: plans.get(key) for key in OF_PLANS}
    entries = json.loads(json.dumps(entries))
    for option in OURS_ALONE:
        entries["architecture"]["arch_kwargs"].pop(option, None)
    return entries
