"""All patients of a folder, as cases whose names do not tell who they are."""

import codecs
import csv
import hashlib
import io
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from nnunetv2_unet3plus.conversion.atomic import publish, stage
from nnunetv2_unet3plus.conversion.description import Case
from nnunetv2_unet3plus.conversion.hospital.organs import english
from nnunetv2_unet3plus.conversion.hospital.patient import find_patient, is_scan_or_mask
from nnunetv2_unet3plus.conversion.pairing import archives_in, check_folder
from nnunetv2_unet3plus.errors import UserError, explain

_COLUMNS = ["case", "folder"]
_CASE = re.compile(r"[a-z0-9_]+_[0-9]{3,6}")


@dataclass(frozen=True)
class Cohort:
    """The patients of a folder.

    Attributes:
        cases: Theirs, sorted by name.
        key: Case name -> name of the patient's folder.
    """

    cases: tuple[Case, ...]
    key: dict[str, str]


def find_cohort(source: Path, organ: str, key: dict[str, str]) -> Cohort:
    """Finds the scan and the mask of every patient.

    Args:
        source: A folder with one folder a patient.
        organ: The organ's name.
        key: Names that patients have already, case name -> folder name; others get the numbers behind them.

    Raises:
        UserError: If there are no patients, or a folder cannot be read.
    """
    folders = _patients(source)
    key = _extended(key, list(folders), case_prefix(organ))
    cases = []
    for name, folder in tqdm(sorted(key.items()), "finding scans", unit="patient", disable=None):
        if folder in folders:
            found = find_patient(folders[folder], organ)
            cases.append(Case(name, found.scan, found.mask, tuple(found.findings), label_on_own_grid=True))
    return Cohort(tuple(cases), key)


def _patients(source: Path) -> dict[str, Path]:
    """Name -> folder.

    Raises:
        UserError: If something lies there that would be left out, or a patient would be there twice.
    """
    check_folder(source)
    entries = sorted(path for path in source.iterdir() if not path.name.startswith(".") and path.name != "__MACOSX")
    folders: dict[Path, Path] = {}
    for path in entries:
        if path.is_symlink() and not path.exists():
            raise UserError(f"{path}: a link that leads nowhere; put the folder there or remove the link")
        if path.is_dir() and (other := folders.setdefault(path.resolve(), path)) != path:
            raise UserError(f"{path} and {other} are the same folder; keep one of them")
    if packed := archives_in(source):
        raise UserError(f"{source / packed[0]} is packed; unpack it into the patient's folder, or move it away")
    loose = [path for path in entries if path.is_file() and is_scan_or_mask(path)]
    if not folders:
        hint = f"; put {loose[0].name} and what belongs to it into one" if loose else ""
        expected = "imagesTr and labelsTr of the Decathlon, or one folder a patient"
        raise UserError(f"{source}: no folders in it; expected {expected}{hint}")
    if loose:
        raise UserError(f"{loose[0]} lies beside the patients' folders; move it into one of them, or away")
    return {path.name: path for path in folders.values()}


def case_prefix(organ: str) -> str:
    """What the names of cases begin with: `organs.english`, as far as file names may hold it."""
    plain = unicodedata.normalize("NFKD", english(organ)).encode("ascii", "ignore").decode()
    return "_".join(plain.split()) or "case"


def _extended(key: dict[str, str], folders: list[str], prefix: str) -> dict[str, str]:
    """A key with the patients it lacks, in an order that does not tell that of their folders' names."""
    lacking = sorted(set(folders) - set(key.values()), key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    numbers = [int(case.rpartition("_")[2]) for case in key]
    first = max(numbers, default=0) + 1
    return key | {f"{prefix}_{first + place:03d}": folder for place, folder in enumerate(lacking)}


def read_key(path: Path) -> dict[str, str]:
    """Reads an `--id-map`; an empty key if the file is not there yet.

    Raises:
        UserError: If it is not such a file, or there is no folder for it.
    """
    if not path.parent.is_dir():
        raise UserError(f"--id-map {path}: there is no folder {path.parent}; make it, or choose another file")
    try:
        text = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
        lines = [line for line in csv.reader(io.StringIO(text, newline="")) if line]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise explain(error, path) from error
    except csv.Error:
        lines = []
    rows = lines[1:]
    is_key = lines[:1] == [_COLUMNS] and all(len(row) == 2 and _CASE.fullmatch(row[0]) for row in rows)
    if not is_key or any(len({row[column] for row in rows}) != len(rows) for column in (0, 1)):
        raise UserError(f"--id-map {path} is there and not of an earlier run; choose another file")
    return {row[0]: row[1] for row in rows}


def write_key(key: dict[str, str], path: Path) -> None:
    """Writes an `--id-map`, complete or not at all, for its owner's eyes only.

    Raises:
        UserError: If it cannot be written.
    """
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_COLUMNS, *sorted(key.items())])
    content = text.getvalue().encode("utf-8", "surrogateescape")
    staged = stage(path, path.parent, lambda stream: _write(stream, content))
    publish(staged, path)


def _write(stream: BinaryIO, content: bytes) -> None:
    os.fchmod(stream.fileno(), 0o600)
    stream.write(content)
