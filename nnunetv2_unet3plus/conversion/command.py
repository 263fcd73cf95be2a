"""What the scripts in `dataset_conversion` do once they know their dataset."""

import argparse
import json
from collections.abc import Mapping

from nnunetv2_unet3plus.conversion.description import Dataset
from nnunetv2_unet3plus.conversion.options import raw_folder, wishes_of


def chosen_options(args: argparse.Namespace) -> dict[str, str]:
    """The common options that a stopped conversion must be continued with.

    Raises:
        UserError: If the table of spacings cannot be used.
    """
    spacings = wishes_of(args).spacings
    return {
        "source": str(args.source.resolve()),
        "orientation": args.orientation or "as it is",
        "spacing-from": json.dumps(spacings, sort_keys=True) if spacings else "the headers",
    }


def convert_as_asked(args: argparse.Namespace, dataset: Dataset) -> int:
    """Converts, or only looks, and says what comes next.

    Returns:
        The exit code, 0.

    Raises:
        UserError: If the input cannot be used or the output not be written.
    """
    from nnunetv2_unet3plus.conversion.dataset import convert_dataset  # ITK and nibabel: not for --help

    how: Mapping[str, bool] = {"leave_out_refused": args.leave_out_refused, "dry_run": args.dry_run}
    folder = convert_dataset(dataset, raw_folder(args.output), args.processes, **how)
    if args.dry_run:
        print(f"nothing was written; without --dry-run this makes {folder}")
        return 0
    number = args.dataset_id
    print(
        f"{folder} is complete. Next: nnUNetv2_plan_and_preprocess -d {number} --verify_dataset_integrity, or, for "
        f"plans made for UNet 3+, unet3plus plan -d {number}"
    )
    return 0
