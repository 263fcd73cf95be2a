"""What nnU-Net's trainer look-up sees of this package: every trainer, and any trainer with a length suffix.

nnU-Net imports each module of the directories in `nnUNet_extTrainer` as a top-level module, asks it
`hasattr(module, name)` and afterwards drops from `sys.modules` whatever came from that directory. So this directory
holds this one file, and everything that must live on stays in the package.
"""

from nnunetv2_unet3plus.trainers import *  # noqa: F403
from nnunetv2_unet3plus.trainers.training_length import find_trainer_of_length as _find_trainer_of_length


def __getattr__(name: str) -> type:
    """Make trainers such as `nnUNetTrainerUNet3Plus_50epochs` on demand."""
    trainer = _find_trainer_of_length(name)
    if trainer is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = trainer  # the look-up asks twice (hasattr, getattr): one class for both
    return trainer
