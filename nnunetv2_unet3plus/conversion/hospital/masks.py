"""Masks of one organ in files of their own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skimage.io import imread

from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding
from nnunetv2_unet3plus.conversion.geometry import Geometry
from nnunetv2_unet3plus.conversion.hospital.organs import choose
from nnunetv2_unet3plus.conversion.labels import ROUNDING
from nnunetv2_unet3plus.conversion.volumes import ItkFile, NiftiFile
from nnunetv2_unet3plus.dicom.series import DicomSeries

_SHOWN = 10


@dataclass(frozen=True)
class MaskFile:
    """One organ of a NIfTI or NRRD file.

    Attributes:
        file: The file. It may hold one value besides 0, whichever; of several, 3D Slicer's names tell which is meant.
        organ: The organ's name.
    """

    file: NiftiFile | ItkFile
    organ: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.file.path

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return self.file.files

    def size(self, about: str) -> tuple[int, ...]:
        """See `Volume`."""
        return self.file.size(about)

    def geometry(self, about: str, findings: list[Finding]) -> Geometry:
        """See `Volume`."""
        return self.file.geometry(about, findings)

    def voxels(self, about: str, findings: list[Finding]) -> np.ndarray:
        """1 where the organ is, else 0; values that are neither 0 nor the organ's stay, to be refused.

        Raises:
            FaultyFileError: If it cannot be read, or holds several values without names.
        """
        voxels = self.file.voxels(about, findings)
        if voxels.dtype.kind == "f" and not (np.abs(voxels - np.rint(voxels)) <= ROUNDING).all():
            return voxels  # no mask of whole numbers: refused by its values
        values = [int(value) for value in np.unique(np.rint(voxels)) if value]
        names = self.file.segment_names() if isinstance(self.file, ItkFile) else {}
        if not names and values in ([], [1]):
            return voxels
        if names:
            value = choose(names, self.organ, self.path, findings)
        elif len(values) == 1:
            (value,) = values
            findings.append(Finding("repaired", about, "value", f"its only value, {value}, taken as 1"))
        else:
            shown = ", ".join(map(str, values[:_SHOWN])) + (", ..." if len(values) > _SHOWN else "")
            text = f"holds the values {shown} and no names for them; give the {self.organ} a file of its own"
            raise FaultyFileError(self.path, about, "several masks", text)
        return (np.rint(voxels) == value).view(np.uint8)


@dataclass(frozen=True)
class PngMask:
    """A mask as a PNG picture a slice, as CHAOS has them, in the order in which the scanner has counted the slices.

    Attributes:
        pictures: The files.
        series: The series they were drawn on.
    """

    pictures: tuple[Path, ...]
    series: DicomSeries

    @property
    def path(self) -> Path:
        """Their folder."""
        return self.pictures[0].parent

    @property
    def files(self) -> tuple[Path, ...]:
        """The pictures."""
        return self.pictures

    def size(self, about: str) -> tuple[int, ...]:
        """See `Volume`."""
        return self.series.size(about)

    def geometry(self, about: str, findings: list[Finding]) -> Geometry:
        """The series' grid, whose own findings are the image's.

        Raises:
            FaultyFileError: If there are not as many pictures as slices, or the slices are not counted.
        """
        slices = self.series.slices
        if len(self.pictures) != len(slices):
            text = f"{len(self.pictures)} pictures for {len(slices)} slices; add or move away some"
            raise FaultyFileError(self.path, about, "different size", text)
        if len({part.number for part in slices}) != len(slices):
            text = "the series does not number its slices, so that no picture can be told to belong to one"
            raise FaultyFileError(self.path, about, "different size", f"{text}; give the mask as NIfTI")
        return self.series.geometry("image", [])

    def voxels(self, about: str, findings: list[Finding]) -> np.ndarray:
        """1 where a picture is not black, else 0.

        Raises:
            FaultyFileError: If a picture cannot be read or has another size than the slices.
        """
        counted = sorted(self.series.slices, key=lambda part: part.number)
        picture_of = {part.uid: path for part, path in zip(counted, in_counted_order(self.pictures), strict=True)}
        return np.stack([self._read(picture_of[part.uid]) for part in self.series.in_order()], axis=2)

    def _read(self, path: Path) -> np.ndarray:
        """One slice, indexed x, y."""
        try:
            picture = np.asarray(imread(path))
        except (OSError, ValueError, SyntaxError) as error:
            text = "a picture cannot be read; replace it by a good copy"
            raise FaultyFileError(path, "label", "unreadable", text) from error
        if picture.ndim == 3:
            picture = picture[..., :3].max(axis=2)
        if picture.T.shape != self.series.slices[0].size:
            text = f"a picture has {picture.shape[1]} x {picture.shape[0]} pixels, which the slices have not"
            raise FaultyFileError(path, "label", "different size", f"{text}; replace it")
        return (picture.T > 0).astype(np.uint8)


def in_counted_order(pictures: Sequence[Path]) -> list[Path]:
    """By the last number in their names; those without one by their names."""
    return sorted(pictures, key=lambda path: (int((re.findall(r"\d+", path.stem) or ["0"])[-1]), path.name))
