"""Trainers of any length: `<AnyTrainer>_<N>epochs` and `<AnyTrainer>_<N>epochs_<M>iters`.

The class is made when nnU-Net asks for its name, at training as well as at inference (the checkpoint holds the name),
so no list of lengths has to be kept anywhere.
"""

import contextlib
import io
import re
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunetv2_unet3plus.trainers.time_left import TimeLeftMixin

LENGTH_SUFFIX = re.compile(r"(?P<base>\w+)_(?P<epochs>[1-9]\d*)epochs?(_(?P<iterations>[1-9]\d*)iters?)?", re.ASCII)

TRAINING_TO_VALIDATION_ITERATIONS = 5  # nnU-Net's own ratio: 250 to 50
CHECKPOINTS_PER_TRAINING = 10  # so that a short training, too, can be resumed


class TrainingLengthMixin(nnUNetTrainer):
    """Replaces a trainer's number of epochs and, if asked for, of iterations per epoch."""

    requested_epochs: int
    requested_iterations: int | None
    save_every: int

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's own default
    ) -> None:
        # nnU-Net reads these parameter names by introspection: no *args, no extra ones.
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.requested_epochs
        self.save_every = min(self.save_every, max(1, self.num_epochs // CHECKPOINTS_PER_TRAINING))
        if self.requested_iterations is not None:
            self.num_iterations_per_epoch = self.requested_iterations
            self.num_val_iterations_per_epoch = max(1, self.requested_iterations // TRAINING_TO_VALIDATION_ITERATIONS)


def find_trainer_of_length(name: str) -> type[nnUNetTrainer] | None:
    """Find the trainer that a name with a length suffix stands for.

    Args:
        name: What the user asked nnU-Net for, such as `nnUNetTrainerUNet3Plus_50epochs_100iters`.

    Returns:
        A class of exactly that name, or None if the name has no length suffix or nobody knows the trainer before it.
    """
    suffix = LENGTH_SUFFIX.fullmatch(name)
    if suffix is None:
        return None
    base = _find_trainer(suffix["base"])
    if base is None:
        return None
    iterations = int(suffix["iterations"]) if suffix["iterations"] else None
    return trainer_of_length(base, name, int(suffix["epochs"]), iterations)


def trainer_of_length(
    base: type[nnUNetTrainer], name: str, epochs: int, iterations: int | None = None
) -> type[nnUNetTrainer]:
    """Derive a trainer that differs from `base` in its length and logs the time left.

    Args:
        base: Any nnU-Net trainer.
        name: The new class's name; nnU-Net names the results folder and the checkpoint's trainer by it.
        epochs: Number of epochs.
        iterations: Training iterations per epoch; None leaves them as they are.

    Returns:
        The new class.
    """
    mixins = tuple(mixin for mixin in (TrainingLengthMixin, TimeLeftMixin) if not issubclass(base, mixin))
    attributes = {
        "__module__": base.__module__,
        "__doc__": f"{base.__name__} with {epochs} epochs" + (f" of {iterations} iterations." if iterations else "."),
        "requested_epochs": epochs,
        "requested_iterations": iterations,
    }
    return type(name, (*mixins, base), attributes)


def _find_trainer(name: str) -> type[nnUNetTrainer] | None:
    """Look a trainer up as nnU-Net does: in nnU-Net, in the user's own directories and among ours."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the outer look-up has said where it searches
            return recursive_find_trainer_class_by_name(name)
    except RuntimeError:  # nnU-Net's "not found": the outer look-up will say it, with the name the user typed
        return None
