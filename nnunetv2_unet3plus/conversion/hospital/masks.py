"""Masks of one organ in files of their own."""

import re
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
        """1 where a picture is not black or transparent, else 0.

        Raises:
            FaultyFileError: If a picture cannot be read, has another size than the slices, or other grey values than
                black and one more; if their names do not number them.
        """
        counted = sorted(self.series.slices, key=lambda part: part.number)
        picture_of = {part.uid: path for part, path in zip(counted, self._in_order(), strict=True)}
        grey = np.stack([self._read(picture_of[part.uid]) for part in self.series.in_order()], axis=2)
        if (values := np.unique(grey[grey > 0])).size > 1:
            shown = ", ".join(map(str, values[:_SHOWN])) + (", ..." if values.size > _SHOWN else "")
            text = f"the pictures hold the grey values {shown}, not black and one more; give the organ its own"
            raise FaultyFileError(self.path, about, "several masks", text)
        mask = (grey > 0).astype(np.uint8)
        if 2 * int(mask.sum()) > mask.size:
            text = "most of the pictures is not black, and was taken for the organ: look whether they are inverted"
            findings.append(Finding("warning", about, "inverted?", text))
        return mask

    def _in_order(self) -> list[Path]:
        """By that number in their names which is another in each."""
        numbers = [[int(digits) for digits in re.findall(r"\d+", path.stem)] for path in self.pictures]
        columns = list(zip(*numbers, strict=False))
        telling = [column for column in columns if len(set(column)) == len(self.pictures)]
        if not telling:
            text = "the pictures' names do not number them; rename them, with the number of the slice at the end"
            raise FaultyFileError(self.path, "label", "not numbered", text)
        return [path for _, path in sorted(zip(telling[-1], self.pictures, strict=True))]

    def _read(self, path: Path) -> np.ndarray:
        """One slice, grey values indexed x, y; what is transparent is black."""
        try:
            picture = np.asarray(imread(path))
        except (OSError, ValueError, SyntaxError) as error:
            text = "a picture cannot be read; replace it by a good copy"
            raise FaultyFileError(path, "label", "unreadable", text) from error
        if picture.ndim == 3:
            has_alpha = picture.shape[2] in (2, 4)
            grey = picture[..., : picture.shape[2] - has_alpha].max(axis=2)
            picture = np.where(picture[..., -1] > 0, grey, 0) if has_alpha else grey
        if picture.T.shape != self.series.slices[0].size:
            text = f"a picture has {picture.shape[1]} x {picture.shape[0]} pixels, which the slices have not"
            raise FaultyFileError(path, "label", "different size", f"{text}; replace it")
        return picture.T.astype(np.uint16)
