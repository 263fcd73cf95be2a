"""The spleen of MSD Task09_Spleen (41 training scans, 20 test scans), as an nnU-Net dataset.

    unet3plus convert spleen SOURCE --split paper
    python -m dataset_conversion.Dataset509_Spleen SOURCE --split paper

SOURCE is the unpacked task, with `imagesTr` and `labelsTr`, perhaps `imagesTs`; it may lie in further folders. Cases
keep their names, `spleen_19` and the like.
"""

import argparse
import sys
from collections.abc import Sequence

from nnunetv2_unet3plus.conversion.command import chosen_options, convert_as_asked
from nnunetv2_unet3plus.conversion.decathlon import URL, find_task
from nnunetv2_unet3plus.conversion.description import Case, Dataset, LabelScheme, Splits
from nnunetv2_unet3plus.conversion.options import add_common_options, dataset_folder_name, wishes_of
from nnunetv2_unet3plus.conversion.splits import spread_split
from nnunetv2_unet3plus.errors import UserError

SUMMARY = "the spleen in CT: MSD Task09_Spleen"
SCHEME = LabelScheme({"background": 0, "spleen": 1}, (0, 1))

PAPER_TEST = 9


def paper_split(training: Sequence[Case]) -> Splits:
    """Nine held-out cases, as many as in the UNet 3+ paper, spread evenly over the order of the names.

    The paper's own 40 and 9 are of 49 scans; of the 41 that the Decathlon has labelled, 32 are left to train on.

    Raises:
        UserError: If there are too few cases.
    """
    if len(training) <= PAPER_TEST:
        raise UserError(f"--split paper holds out {PAPER_TEST} cases, found {len(training)}; leave out --split")
    return spread_split([case.name for case in training], held_out=PAPER_TEST)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this converter's options to a parser."""
    add_common_options(parser, dataset_id=509, name="Spleen")
    parser.add_argument(
        "--split",
        choices=["paper"],
        help=f"one fold with {PAPER_TEST} held-out cases, as many as in the paper, for `nnUNetv2_train ... 0`",
    )


def run(args: argparse.Namespace) -> int:
    """Converts, as the options say.

    Returns:
        The exit code, 0.

    Raises:
        UserError: If the input cannot be used or the output not be written.
    """
    task = find_task(args.source)
    training = task.training
    print(f"{task.folder}: {len(training)} training cases, {len(task.cases) - len(training)} test scans")
    dataset = Dataset(
        folder_name=dataset_folder_name(args.dataset_id, args.name),
        source=args.source,
        cases=task.cases,
        scheme=SCHEME,
        channel="CT",
        options=chosen_options(args) | {"split": args.split or "nnU-Net's own"},
        splits=paper_split(training) if args.split == "paper" else None,
        about={"reference": URL, "license": "CC-BY-SA 4.0", "converted_by": "unet3plus convert spleen"},
        wishes=wishes_of(args),
        hidden=task.hidden,
    )
    return convert_as_asked(args, dataset)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs this script; the same as `unet3plus convert spleen`."""
    from nnunetv2_unet3plus import cli

    return cli.main(["convert", "spleen", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
