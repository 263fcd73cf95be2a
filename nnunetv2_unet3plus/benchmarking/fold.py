"""One fold of one trainer on disk: what nnU-Net has left there, and how far it got."""

import hashlib
import json
import zipfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from nnunetv2.paths import nnUNet_results

RECORD = "benchmark.json"
"""In a fold's folder: how `unet3plus benchmark` trained it. Its absence says that something else did."""

FINAL, LATEST, BEST = "checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth"

# A folder that is copied may give its files times in any order, within what copying takes.
SECONDS_OF_COPYING = 600


class State(Enum):
    """How far a fold got."""

    MISSING = "not trained"
    INTERRUPTED = "training interrupted"
    TRAINED = "validation interrupted, or older than the checkpoint"
    DONE = "trained and validated"


@dataclass(frozen=True)
class Fold:
    """A fold's folder, `.../nnUNetTrainer__nnUNetPlans__2d/fold_0`."""

    folder: Path

    @property
    def name(self) -> str:
        """`0`, ... or `all`."""
        return self.folder.name.removeprefix("fold_")

    @property
    def state(self) -> State:
        """How far it got; a file that a kill has left half-written counts as absent.

        Masks whose checkpoints have been deleted since are done, too: they can be measured.
        """
        if is_whole(self.folder / FINAL):
            return State.DONE if self.summary is not None and not self._outdated() else State.TRAINED
        if self.resume_from is not None:
            return State.INTERRUPTED
        return State.DONE if self.summary is not None and not self._checkpoints() else State.MISSING

    @property
    def can_predict(self) -> bool:
        """Whether its network is there."""
        return is_whole(self.folder / FINAL)

    @property
    def resume_from(self) -> Path | None:
        """The checkpoint an interrupted training goes on from, as nnU-Net's `--c` chooses it."""
        return next((self.folder / name for name in (LATEST, BEST) if is_whole(self.folder / name)), None)

    @property
    def validation(self) -> Path:
        """Folder of the predicted validation scans."""
        return self.folder / "validation"

    @property
    def summary(self) -> dict[str, Any] | None:
        """What nnU-Net's evaluation says of the validation, which it writes last; None before."""
        return read_or_none(self.validation / "summary.json")

    @property
    def record(self) -> dict[str, Any] | None:
        """How `unet3plus benchmark` trained it; None if it did not."""
        return read_or_none(self.folder / RECORD)

    @property
    def length(self) -> tuple[int, int] | None:
        """Epochs, and training iterations in each, as nnU-Net wrote down when it began; None if it did not."""
        debug = read_or_none(self.folder / "debug.json") or {}
        try:
            return int(debug["num_epochs"]), int(debug["num_iterations_per_epoch"])
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def plans(self) -> dict[str, Any] | None:
        """The plans it was trained on, from its checkpoint; the model folder's are those of the last fold begun."""
        import torch

        for name in self._checkpoints():
            if is_whole(self.folder / name):
                try:
                    checkpoint = torch.load(self.folder / name, map_location="cpu", mmap=True, weights_only=False)
                    return checkpoint["init_args"]["plans"]
                except (RuntimeError, LookupError, TypeError, EOFError, UnpicklingError, ImportError, AttributeError):
                    return None  # a zip file, but none of nnU-Net's
        return None

    def _checkpoints(self) -> list[str]:
        return [name for name in (FINAL, LATEST, BEST) if (self.folder / name).exists()]

    def _outdated(self) -> bool:
        """Whether the masks are those of an earlier training, as after one that was begun anew and not validated."""
        trained, validated = ((self.folder / name).stat().st_mtime for name in (FINAL, "validation/summary.json"))
        return validated < trained - SECONDS_OF_COPYING


def model_folder(dataset: str, trainer: str, plans: str, configuration: str) -> Path:
    """Where nnU-Net keeps a trainer's results."""
    return Path(nnUNet_results) / dataset / f"{trainer}__{plans}__{configuration}"


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint is there to its end: PyTorch's are zip files, whose directory stands last."""
    return checkpoint.is_file() and zipfile.is_zipfile(checkpoint)


def digest(content: Any) -> str:
    """Tells whether two things that go into JSON are the same."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def read_or_none(file: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is none, or only part of one."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
