"""The options of `unet3plus demo`."""

import argparse
from pathlib import Path

from nnunetv2_unet3plus.errors import UserError

# Short enough for two CPU cores, long enough for a Dice above 0.9 on phantoms that it has not seen.
TRAINER = "nnUNetTrainerUNet3Plus_2epochs_25iters"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the demo's options to a parser."""
    parser.add_argument(
        "--data", metavar="FOLDER", type=Path, help="a LiTS download to use instead of the phantom; it is only read"
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        type=Path,
        default=Path("demo_output"),
        help="where everything is written; an earlier demo there is replaced (default: %(default)s)",
    )
    parser.add_argument(
        "--trainer",
        default=TRAINER,
        help="any trainer; give real data more time, such as nnUNetTrainerUNet3Plus_100epochs (default: %(default)s)",
    )
    parser.add_argument(
        "--test-scans", metavar="N", type=int, help="scans of --data to keep for the test (default: one in five)"
    )
    parser.add_argument(
        "--device", choices=["cpu", "cuda", "mps"], default="cpu", help="where to train (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo.

    Args:
        args: The options that `add_arguments` adds.

    Returns:
        The exit code, 0.

    Raises:
        UserError: If the input or the output folder cannot be used, or a step fails.
    """
    from nnunetv2_unet3plus.demo.pipeline import Demo  # nibabel, SciPy and matplotlib: not for --help

    _check_trainer_and_device(args.trainer, args.device)
    Demo.prepare(args.output, args.data, args.test_scans).run(args.trainer, args.device)
    return 0


def _check_trainer_and_device(trainer: str, device: str) -> None:
    """What nnU-Net would refuse only after minutes of conversion and preprocessing."""
    import torch

    from nnunetv2_unet3plus.doctor import find_trainer

    found = find_trainer(trainer)
    if not isinstance(found, type):
        raise UserError(f"--trainer {trainer}: nnU-Net finds no trainer of this name; unet3plus doctor may say why")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[device]:
        raise UserError(f"--device {device}: PyTorch finds no such device here; choose --device cpu")
