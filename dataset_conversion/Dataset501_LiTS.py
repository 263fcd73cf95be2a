"""LiTS, the Liver Tumor Segmentation Benchmark (131 training scans, 70 test scans), as an nnU-Net dataset.

    unet3plus convert lits SOURCE
    python -m dataset_conversion.Dataset501_LiTS SOURCE

SOURCE is the unpacked download in any of its three forms, told apart by what is found:

- the challenge's folders: `Training Batch 1/volume-0.nii`, `segmentation-0.nii`, ..., `test-volume-0.nii`
- Kaggle's: `volume_pt1/volume-0.nii` (or `volumes/`), `segmentations/segmentation-0.nii`
- the Medical Segmentation Decathlon's Task03_Liver: `imagesTr/liver_0.nii.gz`, `labelsTr`, `imagesTs`

Files may lie in further folders and may be gzipped or not. Training case N becomes `liver_NNN`, test scan N
`liver_test_NNN`.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_unet3plus.conversion.command import chosen_options, convert_as_asked
from nnunetv2_unet3plus.conversion.description import Case, Dataset, LabelScheme, Splits
from nnunetv2_unet3plus.conversion.options import add_common_options, dataset_folder_name, wishes_of
from nnunetv2_unet3plus.conversion.pairing import (
    SourceFiles,
    archives_in,
    by_number,
    nifti_files,
    number_ranges,
    pair_by_number,
)
from nnunetv2_unet3plus.conversion.splits import spread_split
from nnunetv2_unet3plus.errors import UserError

SUMMARY = "LiTS (liver and liver tumour in CT): challenge, Kaggle or MSD Task03_Liver download"

_BACKGROUND, _LIVER, _TUMOUR = _VALUES = (0, 1, 2)
SCHEMES = {
    "tumour": LabelScheme({"background": _BACKGROUND, "liver": _LIVER, "tumour": _TUMOUR}, _VALUES),
    "organ": LabelScheme({"background": _BACKGROUND, "liver": _LIVER}, _VALUES, merged={_TUMOUR: _LIVER}),
    "regions": LabelScheme(
        {"background": _BACKGROUND, "liver": (_LIVER, _TUMOUR), "tumour": _TUMOUR},
        _VALUES,
        regions_class_order=(_LIVER, _TUMOUR),
    ),
}

PAPER_TRAINING, PAPER_TEST = 103, 28

_CHALLENGE_URL = "https://competitions.codalab.org/competitions/17094"
_DECATHLON_URL = "http://medicaldecathlon.com"


@dataclass(frozen=True)
class _Naming:
    """Patterns of the file names; `number` is the case's number."""

    images: re.Pattern[str]
    labels: re.Pattern[str]
    tests: re.Pattern[str]
    reference: str


def _pattern(stem: str) -> re.Pattern[str]:
    return re.compile(stem + r"(?P<number>\d+)\.nii(\.gz)?", re.IGNORECASE)


_LITS = _Naming(
    _pattern("volume[-_ ]"), _pattern("segmentation[-_ ]"), _pattern("test[-_ ]volume[-_ ]"), _CHALLENGE_URL
)
_DECATHLON = _Naming(
    _pattern("imagesTr/liver_"), _pattern("labelsTr/liver_"), _pattern("imagesTs/liver_"), _DECATHLON_URL
)
_KAGGLE_FOLDER = re.compile(r"volumes?([-_ ]pt\d+)?|segmentations", re.IGNORECASE)


@dataclass(frozen=True)
class Download:
    """What a source folder holds.

    Attributes:
        layout: Its form, in words.
        reference: Where the data comes from.
        pairs: Number -> (image, label).
        tests: Number -> image.
        others: NIfTI files with names of neither form.
        hidden: NIfTI files left out because their names begin with a dot.
    """

    layout: str
    reference: str
    pairs: dict[int, tuple[Path, Path]]
    tests: dict[int, Path]
    others: int
    hidden: tuple[Path, ...]

    @property
    def cases(self) -> tuple[Case, ...]:
        """Training cases, then test cases, each in the order of their numbers."""
        from nnunetv2_unet3plus.conversion.volumes import NiftiFile  # ITK and nibabel: not for --help

        training = [
            Case(f"liver_{number:03d}", NiftiFile(image), NiftiFile(label))
            for number, (image, label) in self.pairs.items()
        ]
        tests = [Case(f"liver_test_{number:03d}", NiftiFile(self.tests[number])) for number in sorted(self.tests)]
        return (*training, *tests)


def find_cases(source: Path) -> Download:
    """Recognises the form of a download and pairs its files.

    Raises:
        UserError: If the folder is missing, holds no pairs, files without their partner, a number twice, or the
            files of two downloads.
    """
    files = nifti_files(source)
    found = [download for naming in (_LITS, _DECATHLON) if (download := _match(naming, files, source)) is not None]
    archives = archives_in(source)
    if len(found) > 1:
        first, second = (download.layout for download in found)
        raise UserError(f"{source} holds two downloads, {first} and {second}; give the folder of one of them")
    if not found or not found[0].pairs:
        raise UserError(
            f"{source}: no training pairs; expected volume-N.nii[.gz] with segmentation-N.nii[.gz], "
            "or imagesTr/liver_N.nii[.gz] with labelsTr/liver_N.nii[.gz]"
            + (f"; unpack {archives[0]} first" if archives else "")
        )
    return found[0]


def _match(naming: _Naming, files: SourceFiles, source: Path) -> Download | None:
    images, labels, tests = (
        by_number(files.volumes, pattern) for pattern in (naming.images, naming.labels, naming.tests)
    )
    matched = [*images.values(), *labels.values(), *tests.values()]
    if not matched:
        return None
    pairs = pair_by_number(images, labels, source)
    return Download(
        _layout(naming, matched), naming.reference, pairs, tests, len(files.volumes) - len(matched), tuple(files.hidden)
    )


def _layout(naming: _Naming, files: Sequence[Path]) -> str:
    if naming is _DECATHLON:
        return "MSD Task03_Liver"
    if any(_KAGGLE_FOLDER.fullmatch(path.parent.name) for path in files):
        return "Kaggle's LiTS"
    return "the LiTS challenge's"


def paper_split(cases: Sequence[Case]) -> Splits:
    """103 cases to train, 28 to test, as many as in the UNet 3+ paper.

    The paper does not say which ones. Here they are spread evenly over the numbers: LiTS is numbered by where the
    scans come from (28-47 are 3D-IRCADb), so both parts get their share of every source.

    Raises:
        UserError: If there are not 131 training cases.
    """
    names = [case.name for case in cases if case.label is not None]
    if len(names) != PAPER_TRAINING + PAPER_TEST:
        raise UserError(
            f"--split paper needs all {PAPER_TRAINING + PAPER_TEST} training cases, found {len(names)}; "
            "add the missing ones or leave out --split"
        )
    return spread_split(names, held_out=PAPER_TEST)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this converter's options to a parser."""
    add_common_options(parser, dataset_id=501, name="LiTS")
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument(
        "--organ",
        dest="labels",
        action="store_const",
        const="organ",
        help="merge the tumour into the liver, as the UNet 3+ paper does",
    )
    labels.add_argument(
        "--regions",
        dest="labels",
        action="store_const",
        const="regions",
        help="region-based training: the whole liver and the tumour in it",
    )
    parser.set_defaults(labels="tumour")
    parser.add_argument(
        "--split",
        choices=["paper"],
        help="one fold with 103 training and 28 held-out cases, as in the paper, for `nnUNetv2_train ... 0`",
    )


def run(args: argparse.Namespace) -> int:
    """Converts, as the options say.

    Returns:
        The exit code, 0.

    Raises:
        UserError: If the input cannot be used or the output not be written.
    """
    download = find_cases(args.source)
    cases = download.cases
    print(
        f"{args.source}: {download.layout} layout, {len(download.pairs)} training cases "
        f"({number_ranges(download.pairs)}), {len(download.tests)} test scans"
        + (f", {download.others} other NIfTI files ignored" if download.others else "")
    )
    dataset = Dataset(
        folder_name=dataset_folder_name(args.dataset_id, args.name),
        source=args.source,
        cases=cases,
        scheme=SCHEMES[args.labels],
        channel="CT",
        options=chosen_options(args) | {"labels": args.labels, "split": args.split or "nnU-Net's own"},
        splits=paper_split(cases) if args.split == "paper" else None,
        about={
            "reference": download.reference,
            "license": f"that of the source, see {download.reference}",
            "converted_by": "unet3plus convert lits",
        },
        wishes=wishes_of(args),
        hidden=download.hidden,
    )
    return convert_as_asked(args, dataset)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs this script; the same as `unet3plus convert lits`."""
    from nnunetv2_unet3plus import cli

    return cli.main(["convert", "lits", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
