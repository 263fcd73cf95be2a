"""What a benchmark is asked to compare."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunetv2_unet3plus.benchmarking.fold import Fold, model_folder
from nnunetv2_unet3plus.conversion.atomic import write_text
from nnunetv2_unet3plus.errors import UserError
from nnunetv2_unet3plus.json_files import read_object

FILE = "benchmark.json"
"""In the output folder: the request, so that `unet3plus report OUTPUT` can make the report again."""

SAME_FOR_ALL = ("dataset", "configuration", "plans", "epochs", "iterations", "seed")


@dataclass(frozen=True)
class Request:
    """Trainers and folds on one plan.

    Attributes:
        dataset: `Dataset501_LiTS`.
        configuration: `2d`, ...
        plans: their name, `nnUNetPlans`.
        folds: of the cross-validation, or `all`.
        trainers: with their length; the first is what the others are compared with.
        epochs: of every training.
        iterations: in every epoch.
        seed: of every training.
        test_images: folder of test scans, if there is one.
        test_labels: folder of their references.
    """

    dataset: str
    configuration: str
    plans: str
    folds: tuple[str, ...]
    trainers: tuple[str, ...]
    epochs: int
    iterations: int
    seed: int
    test_images: str | None = None
    test_labels: str | None = None

    def model_folder(self, trainer: str) -> Path:
        """Where nnU-Net keeps a trainer's results."""
        return model_folder(self.dataset, trainer, self.plans, self.configuration)

    def fold(self, trainer: str, fold: str) -> Fold:
        """One fold of a trainer."""
        return Fold(self.model_folder(trainer) / f"fold_{fold}")

    def write(self, output: Path) -> None:
        """Keep it beside the report; other trainers and folds may join, other conditions may not.

        Raises:
            UserError: if the folder is another benchmark's.
        """
        if (output / FILE).exists():
            before = Request.read(output)
            differ = [name for name in SAME_FOR_ALL if getattr(before, name) != getattr(self, name)]
            if differ:
                was = ", ".join(f"{name} {getattr(before, name)}" for name in differ)
                raise UserError(f"{output}: holds a benchmark with {was}; choose another -o")
        write_text(output / FILE, output, json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, output: Path) -> "Request":
        """The request that an output folder answers.

        Raises:
            UserError: if the file cannot be used.
        """
        hint = "run `unet3plus benchmark` again, or name model folders instead"
        content: dict[str, Any] = read_object(output / FILE, hint, list(cls.__annotations__))
        content = {name: content[name] for name in cls.__annotations__}
        return cls(**content | {name: tuple(content[name]) for name in ("folds", "trainers")})
