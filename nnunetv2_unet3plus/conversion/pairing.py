"""Finds files in a source folder and pairs them by the number in their names.

By number, never by sorted order: sorted, `volume-10` comes before `volume-2`, and one missing file
silently shifts every later pair.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from nnunetv2_unet3plus.errors import UserError, explain

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".rar", ".7z")


class SourceFiles(NamedTuple):
    """The NIfTI files below a folder, sorted.

    Attributes:
        volumes: Those that count.
        hidden: Those whose names begin with a dot, such as the `._*` files that macOS puts beside the real ones.
    """

    volumes: list[Path]
    hidden: list[Path]


def nifti_files(folder: Path) -> SourceFiles:
    """All NIfTI files below a folder; links to folders are followed, hidden folders are not looked into.

    Raises:
        UserError: If the folder is missing or is a file, a folder below it cannot be read, a name is not UTF-8, or a
            link leads nowhere.
    """
    check_folder(folder)
    files = [path for path in sorted(_entries(folder)) if path.name.lower().endswith((".nii", ".nii.gz"))]
    hidden = [path for path in files if path.name.startswith(".")]
    return SourceFiles(_that_can_be_read(files), hidden)


def visible_files(folder: Path) -> list[Path]:
    """All files below a folder whose names do not begin with a dot, sorted.

    Raises:
        UserError: As `nifti_files`.
    """
    check_folder(folder)
    return _that_can_be_read(sorted(_entries(folder)))


def check_folder(folder: Path) -> None:
    """Checks that a source is a folder.

    Raises:
        UserError: If it is missing, or a file.
    """
    if not folder.exists():
        raise UserError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise UserError(f"{folder} is a file: unpack it and give the folder")


def archives_in(folder: Path) -> list[str]:
    """Names of the packed files in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir() if path.name.lower().endswith(ARCHIVES))


def _that_can_be_read(files: Iterable[Path]) -> list[Path]:
    visible = [path for path in files if not path.name.startswith(".")]
    for path in visible:
        _require_utf8(path)
        if path.is_symlink() and not path.exists():
            raise UserError(f"{path}: a link that leads nowhere; put the file there or remove the link")
    return [path for path in visible if path.is_file()]


def _entries(folder: Path) -> Iterator[Path]:
    def stop(error: OSError) -> None:  # a folder left out would be cases left out
        raise explain(error) from error

    visited: set[str] = set()
    for current, folders, names in os.walk(folder, onerror=stop, followlinks=True):
        real = os.path.realpath(current)
        if real in visited:  # a link that leads back
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        yield from (Path(current, name) for name in names)


def _require_utf8(path: Path) -> None:
    """ITK ends the whole process on a name that is not."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{str(path)!a}: the name is not UTF-8, which ITK needs; rename it") from error


def by_number(files: Iterable[Path], pattern: re.Pattern[str]) -> dict[int, Path]:
    """The files whose last path parts match a pattern, by their number.

    Args:
        files: The candidates.
        pattern: Matched against the end of the path (`folder/name`), from the start of a path part; its group
            `number` is the case's number.

    Raises:
        UserError: If two files have the same number.
    """
    found: dict[int, Path] = {}
    for path in files:
        match = pattern.fullmatch(path.name) or pattern.fullmatch(f"{path.parent.name}/{path.name}")
        if match is None:
            continue
        number = int(match["number"])
        if number in found:
            raise UserError(f"number {number} is there twice: {found[number]} and {path}; keep only one of them")
        found[number] = path
    return found


def pair_by_number(
    images: Mapping[int, Path], labels: Mapping[int, Path], source: Path
) -> dict[int, tuple[Path, Path]]:
    """Pairs images with labels of the same number, in the order of the numbers.

    Raises:
        UserError: If an image has no label or a label no image.
    """
    for these, others, what, missing in (
        (images, labels, "volumes", "segmentation"),
        (labels, images, "segmentations", "volume"),
    ):
        alone = these.keys() - others.keys()
        if alone:
            raise UserError(
                f"{source}: {what} without their {missing}: {number_ranges(alone)}; "
                "add the missing files (is every part of the download unpacked here?) or move these away"
            )
    return {number: (images[number], labels[number]) for number in sorted(images)}


def number_ranges(numbers: Collection[int]) -> str:
    """Numbers in short: `{1, 2, 3, 7}` becomes `1-3, 7`."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)
