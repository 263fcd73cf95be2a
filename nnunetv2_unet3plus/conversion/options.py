"""The options every converter has, and what they mean."""

import argparse
import csv
import os
import re
from pathlib import Path

from nnunetv2_unet3plus.conversion.description import Wishes
from nnunetv2_unet3plus.errors import UserError, explain

RAW_VARIABLE = "nnUNet_raw"


def add_common_options(parser: argparse.ArgumentParser, dataset_id: int | None, name: str | None) -> None:
    """Adds SOURCE, `-d`, `--name`, `--output`, `-np` and what every converter can do with a case.

    Args:
        parser: Where to.
        dataset_id: The default of `-d`; None where it must be given.
        name: The default of `--name`; None where it must be given.
    """
    parser.add_argument("source", metavar="SOURCE", type=folder, help="folder with the unpacked download; only read")
    parser.add_argument(
        "-d",
        "--dataset-id",
        metavar="ID",
        type=_dataset_id,
        default=dataset_id,
        required=dataset_id is None,
        help=f"nnU-Net's dataset number{_default(dataset_id)}",
    )
    parser.add_argument(
        "--name",
        type=_dataset_name,
        default=name,
        required=name is None,
        help=f"the dataset's name behind its number{_default(name)}",
    )
    parser.add_argument(
        "--output", metavar="FOLDER", type=folder, help="nnU-Net's raw folder (default: the variable nnUNet_raw)"
    )
    add_processes(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="read and check everything, say what would be done, write nothing"
    )
    add_leave_out_refused(parser, "make the dataset of the cases that can be converted, instead of stopping")
    add_orientation(parser)
    parser.add_argument(
        "--spacing-from",
        metavar="CSV",
        type=Path,
        help="true spacings in mm of cases whose headers are wrong; columns case,x,y,z, such as liver_028,0.7,0.7,1.25",
    )


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Adds `-np`."""
    parser.add_argument(
        "-np",
        "--processes",
        metavar="N",
        type=positive,
        default=2,
        help="scans worked on at a time; each needs memory for two volumes (default: %(default)s)",
    )


def add_leave_out_refused(parser: argparse.ArgumentParser, text: str) -> None:
    """Adds `--leave-out-refused`, which does what `text` says."""
    parser.add_argument("--leave-out-refused", action="store_true", help=text)


def add_orientation(parser: argparse.ArgumentParser) -> None:
    """Adds `--orientation`."""
    parser.add_argument(
        "--orientation",
        metavar="AXES",
        type=axes,
        help="where the axes shall lead in all cases, such as RAS (default: as they are)",
    )


def wishes_of(args: argparse.Namespace) -> Wishes:
    """What `--orientation` and `--spacing-from` ask for.

    Raises:
        UserError: If the table cannot be used.
    """
    return Wishes(read_spacings(args.spacing_from) if args.spacing_from else {}, args.orientation)


def read_spacings(path: Path) -> dict[str, tuple[float, ...]]:
    """Case name -> spacing in mm along x, y, z, from a table with the columns case,x,y,z.

    Raises:
        UserError: If it cannot be read, or a line is not of that kind or names a case again.
    """
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except OSError as error:
        raise explain(error, path) from error
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: not a table in UTF-8; save it as CSV with the columns case,x,y,z") from error
    if not lines or [name.strip() for name in lines[0]] != ["case", "x", "y", "z"]:
        raise UserError(f"{path}: its first line must be case,x,y,z")
    spacings: dict[str, tuple[float, ...]] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        try:
            case, *texts = (text.strip() for text in line)
            spacing = tuple(map(float, texts))
        except ValueError:
            spacing = ()
        if len(spacing) != 3 or not all(1e-3 <= mm < 1000 for mm in spacing):
            raise UserError(f"{path}: line {number}, {','.join(line)!r}, is not a case and three spacings in mm")
        if case in spacings:
            raise UserError(f"{path}: line {number} names {case} again; keep one of the two")
        spacings[case] = spacing
    return spacings


def raw_folder(output: Path | None) -> Path:
    """The folder datasets are written to.

    Raises:
        UserError: If neither `--output` nor `nnUNet_raw` is given.
    """
    if output is not None:
        return output
    variable = os.environ.get(RAW_VARIABLE)
    if not variable:
        raise UserError(f"{RAW_VARIABLE} is not set; set it to nnU-Net's raw folder, or give that folder with --output")
    return Path(variable)


def dataset_folder_name(dataset_id: int, name: str) -> str:
    """nnU-Net's folder name, such as `Dataset501_LiTS`."""
    return f"Dataset{dataset_id:03d}_{name}"


def _default(value: object) -> str:
    return "" if value is None else f" (default: {value})"


def folder(text: str) -> Path:
    """The type of arguments that name a folder."""
    if not text:  # an unset shell variable; Path("") would be the current folder
        raise argparse.ArgumentTypeError("an empty name is no folder")
    return Path(text)


def file(text: str) -> Path:
    """The type of arguments that name a file."""
    if not text:
        raise argparse.ArgumentTypeError("an empty name is no file")
    return Path(text)


def _dataset_id(text: str) -> int:
    if not re.fullmatch(r"\d{1,3}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 999")
    return int(text)


def _dataset_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} may hold letters, digits, '_' and '-' only")
    return text


def axes(text: str) -> str:
    """The type of arguments that say where axes lead, such as RAS."""
    letters = text.upper()
    if len(letters) != 3 or not all(set(letters) & set(pair) for pair in ("LR", "AP", "SI")):
        raise argparse.ArgumentTypeError(f"{text!r} is not one of L/R, A/P and S/I each, such as RAS")
    return letters


def not_negative(text: str) -> int:
    """The type of arguments that are whole numbers from 0."""
    if not re.fullmatch(r"\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def positive(text: str) -> int:
    """The type of arguments that are whole numbers above 0."""
    if not re.fullmatch(r"\d+", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
