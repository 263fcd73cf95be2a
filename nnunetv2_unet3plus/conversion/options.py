"""The options every converter has, and what they mean."""

import argparse
import os
import re
from pathlib import Path

from nnunetv2_unet3plus.errors import UserError

RAW_VARIABLE = "nnUNet_raw"


def add_common_options(parser: argparse.ArgumentParser, dataset_id: int, name: str) -> None:
    """Adds SOURCE, `-d`, `--name`, `--output` and `-np`.

    Args:
        parser: Where to.
        dataset_id: The default of `-d`.
        name: The default of `--name`.
    """
    parser.add_argument("source", metavar="SOURCE", type=_folder, help="folder with the unpacked download; only read")
    parser.add_argument(
        "-d",
        "--dataset-id",
        metavar="ID",
        type=_dataset_id,
        default=dataset_id,
        help="nnU-Net's dataset number (default: %(default)s)",
    )
    parser.add_argument(
        "--name", type=_dataset_name, default=name, help="the dataset's name behind its number (default: %(default)s)"
    )
    parser.add_argument(
        "--output", metavar="FOLDER", type=_folder, help="nnU-Net's raw folder (default: the variable nnUNet_raw)"
    )
    parser.add_argument(
        "-np",
        "--processes",
        metavar="N",
        type=_positive,
        default=2,
        help="cases converted at a time; each needs memory for two volumes (default: %(default)s)",
    )


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


def _folder(text: str) -> Path:
    if not text:  # an unset shell variable; Path("") would be the current folder
        raise argparse.ArgumentTypeError("an empty name is no folder")
    return Path(text)


def _dataset_id(text: str) -> int:
    if not re.fullmatch(r"\d{1,3}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 999")
    return int(text)


def _dataset_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} may hold letters, digits, '_' and '-' only")
    return text


def _positive(text: str) -> int:
    if not re.fullmatch(r"\d+", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
