"""The options of `unet3plus demo`."""

import argparse
from pathlib import Path

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

    Demo.prepare(args.output, args.data, args.test_scans).run(args.trainer, args.device)
    return 0
