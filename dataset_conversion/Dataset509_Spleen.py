"""The spleen (or another organ) in CT, as an nnU-Net dataset: MSD Task09_Spleen, or a hospital's own scans.

    unet3plus convert spleen SOURCE --split paper
    unet3plus convert spleen SOURCE --organ liver -d 510 --name Liver --id-map key.csv
    python -m dataset_conversion.Dataset509_Spleen SOURCE

SOURCE is one of

- the unpacked task of the Decathlon (41 training scans, 20 test scans), with `imagesTr` and `labelsTr`, perhaps
  `imagesTs`; it may lie in further folders, and cases keep their names, `spleen_19` and the like;
- a folder with one folder a patient, in which lie a CT (DICOM series, NIfTI or NRRD) and a mask of the organ (NIfTI,
  NRRD, DICOM-SEG, RTSTRUCT or PNG pictures). Patients without a mask become test cases. Cases are called `spleen_001`
  and the like; which patient that is, `--id-map` tells, and nothing else.
"""

import argparse
import sys
from collections.abc import Sequence

from nnunetv2_unet3plus.conversion.command import chosen_options, convert_as_asked
from nnunetv2_unet3plus.conversion.decathlon import URL, find_task
from nnunetv2_unet3plus.conversion.description import Case, Dataset, LabelScheme, Splits
from nnunetv2_unet3plus.conversion.options import add_common_options, dataset_folder_name, file, raw_folder, wishes_of
from nnunetv2_unet3plus.conversion.pairing import check_folder
from nnunetv2_unet3plus.conversion.splits import spread_split
from nnunetv2_unet3plus.conversion.target import check_outside
from nnunetv2_unet3plus.errors import UserError

SUMMARY = (
    "the spleen or another organ in CT: MSD Task09_Spleen, or a folder with one folder a patient (DICOM, NIfTI, NRRD)"
)
ORGAN, NAME = "spleen", "Spleen"

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
    add_common_options(parser, dataset_id=509, name=NAME)
    parser.add_argument(
        "--organ",
        default=ORGAN,
        help="which structure of a hospital's masks: spleen, liver, pancreas, kidney in any of twenty languages, or "
        "another name (default: %(default)s)",
    )
    parser.add_argument(
        "--id-map",
        metavar="CSV",
        type=file,
        help="where to write which case is which patient's folder; patients of an earlier run keep their names",
    )
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
    check_folder(args.source)
    # `**` does not follow links, which may well be the folders right below
    has_task = any(path.is_dir() for pattern in ("**/imagesTr", "*/imagesTr") for path in args.source.glob(pattern))
    return _run_decathlon(args) if has_task else _run_hospital(args)


def _run_decathlon(args: argparse.Namespace) -> int:
    if args.organ != ORGAN or args.id_map is not None:
        option = "--id-map" if args.organ == ORGAN else "--organ"
        raise UserError(
            f"{option} is for a hospital's scans, and {args.source} is a task of the Decathlon; leave it out"
        )
    task = find_task(args.source)
    training = task.training
    print(f"{task.folder}: {len(training)} training cases, {len(task.cases) - len(training)} test scans")
    dataset = Dataset(
        folder_name=dataset_folder_name(args.dataset_id, args.name),
        source=args.source,
        cases=task.cases,
        scheme=_scheme(ORGAN),
        channel="CT",
        options=chosen_options(args) | {"split": args.split or "nnU-Net's own"},
        splits=paper_split(training) if args.split == "paper" else None,
        about={"reference": URL, "license": "CC-BY-SA 4.0", "converted_by": "unet3plus convert spleen"},
        wishes=wishes_of(args),
        hidden=task.hidden,
    )
    return convert_as_asked(args, dataset)


def _run_hospital(args: argparse.Namespace) -> int:
    from nnunetv2_unet3plus.conversion.hospital import cohort, organs  # ITK: not for --help

    organ = organs.english(args.organ)
    if organ != ORGAN and args.name == NAME:
        raise UserError(
            f"--organ {args.organ}: give the dataset its own --name, such as {organ.title().replace(' ', '')}, and -d"
        )
    folder_name = dataset_folder_name(args.dataset_id, args.name)
    known = {}
    if args.id_map is not None:
        check_outside(args.id_map, raw_folder(args.output) / folder_name, "--id-map")
        check_outside(args.id_map, args.source, "--id-map")
        known = cohort.read_key(args.id_map)
    found = cohort.find_cohort(args.source, args.organ, known)
    training = [case for case in found.cases if case.label is not None]
    print(f"{args.source}: {len(found.cases)} patients, {len(training)} with a mask")
    dataset = Dataset(
        folder_name=folder_name,
        source=args.source,
        cases=found.cases,
        scheme=_scheme(organ),
        channel="CT",
        options=chosen_options(args) | {"organ": args.organ, "split": args.split or "nnU-Net's own"},
        splits=paper_split(training) if args.split == "paper" else None,
        about={"license": "not given", "converted_by": "unet3plus convert spleen"},
        wishes=wishes_of(args),
        anonymous=True,
    )
    if args.id_map is not None and not args.dry_run:  # first, or a dataset might be made whose key is lost
        cohort.write_key(found.key, args.id_map)
        print(f"{args.id_map} says which case is which patient; keep it apart from the dataset")
    return convert_as_asked(args, dataset)


def _scheme(organ: str) -> LabelScheme:
    return LabelScheme({"background": 0, organ: 1}, (0, 1))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs this script; the same as `unet3plus convert spleen`."""
    from nnunetv2_unet3plus import cli

    return cli.main(["convert", "spleen", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
