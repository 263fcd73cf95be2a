"""A CT series: one file a slice, from which a volume is put together if nothing is missing."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its usual name

from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding
from nnunetv2_unet3plus.conversion.geometry import Geometry, from_affine, straightened
from nnunetv2_unet3plus.conversion.itk import reason_of, silence

SAME_DIRECTION = 1e-3
"""Largest difference of direction cosines and pixel spacings (mm) between the slices of a series."""

UNEVEN = 0.02
"""Of the slice spacing, how far the distance of two neighbours may be from it; positions are often rounded."""

NOT_A_DIRECTION = 1e-2
"""How far lengths of directions may be from 1 and their scalar product from 0: above what exports round to."""

_RIGHT_ANGLES = 1e-4


class Slice(NamedTuple):
    """What a slice's header says.

    Attributes:
        path: Its file.
        uid: The SOP instance's.
        frame: The frame of reference's; empty if the header does not say.
        patient: Number and name of the patient.
        acquisition: Which of the scanner's runs it is of; 0 if the header does not say.
        number: Its own, as the scanner counts; 0 if the header does not say.
        position: Of the first pixel's centre, LPS mm; empty if the header does not say.
        orientation: Directions of the rows, then of the columns; empty if the header does not say.
        spacing: Millimetres between rows, then between columns; empty if the header does not say.
        size: Columns, rows.
        is_grey: Bright is much, in one value a pixel, without a table.
        slope: Of the intensities.
        intercept: Of the intensities.
    """

    path: Path
    uid: str
    frame: str
    patient: str
    acquisition: int
    number: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    size: tuple[int, int]
    is_grey: bool
    slope: float
    intercept: float


class Reference(NamedTuple):
    """What a mask says it was drawn on.

    Attributes:
        series: The series instance's UID; None if it does not say.
        frame: The frame of reference's UID; None if it does not say.
    """

    series: str | None
    frame: str | None


@dataclass(frozen=True)
class DicomSeries:
    """A CT series as a `Volume`; axes x along the rows, y along the columns, z up along their normal.

    Attributes:
        uid: The series instance's.
        slices: In no order.
    """

    uid: str
    slices: tuple[Slice, ...]

    @property
    def path(self) -> Path:
        """The folder the slices are in."""
        return self.slices[0].path.parent

    @property
    def files(self) -> tuple[Path, ...]:
        """Those of the slices."""
        return tuple(part.path for part in self.slices)

    def size(self, about: str) -> tuple[int, ...]:
        """Columns, rows, slices."""
        return (*self.slices[0].size, len(self.slices))

    def is_meant_by(self, reference: Reference) -> bool:
        """Whether a mask was drawn on this series or, where anonymisation has changed its name, in its frame."""
        if reference.series in (None, self.uid):
            return True
        return reference.frame is not None and reference.frame == self.slices[0].frame

    def in_order(self) -> list[Slice]:
        """The slices along the normal of their rows and columns."""
        along = np.cross(self.slices[0].orientation[:3], self.slices[0].orientation[3:])
        return sorted(self.slices, key=lambda part: float(along @ part.position))

    def geometry(self, about: str, findings: list[Finding]) -> Geometry:
        """Its grid, from the slices' positions: the thickness that headers give is often not their distance.

        Raises:
            FaultyFileError: If slices are missing, twice there, or not parallel, or lean too far (tilted gantry).
        """
        affine = self.affine(about)
        self._warn_of_gaps(about, findings)
        axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        if np.abs(axes.T @ axes - np.eye(3)).max() > _RIGHT_ANGLES:
            return straightened(self.size(about), affine, self.path, about, findings)
        return from_affine(self.size(about), affine)

    def affine(self, about: str = "image") -> np.ndarray:
        """NIfTI's 4 x 4 matrix of the slices as they are, be they leaning: what masks were drawn on.

        Raises:
            FaultyFileError: As `geometry`, but for leaning slices.
        """
        self._check_alike(about)
        slices = self.in_order()
        positions = np.array([part.position for part in slices])
        rows, columns = np.array(slices[0].orientation).reshape(2, 3)
        between_rows, between_columns = slices[0].spacing
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1] = rows * between_columns, columns * between_rows
        affine[:3, 2] = self._step(positions, about)
        affine[:3, 3] = positions[0]
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine

    def voxels(self, about: str, findings: list[Finding]) -> np.ndarray:
        """Hounsfield units.

        Raises:
            FaultyFileError: If a file is truncated, damaged, or compressed in a way that GDCM does not know.
        """
        silence()
        for part in self.slices:
            check_complete(part, self.path, about)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames([str(part.path) for part in self.in_order()])
        is_whole = all(part.slope % 1 == part.intercept % 1 == 0 for part in self.slices)
        # ITK would give all slices the type that is enough for the first
        reader.SetOutputPixelType(sitk.sitkInt32 if is_whole else sitk.sitkFloat32)
        try:
            image = reader.Execute()
        except (RuntimeError, MemoryError) as error:
            text, reason = "a slice cannot be read; export the series again", reason_of(error, self.files)
            raise FaultyFileError(self.path, about, "unreadable", text, f" ({reason})") from error
        voxels = sitk.GetArrayViewFromImage(image).T  # no copy of all the series but the one that is kept
        limits = np.iinfo(np.int16)
        fits = is_whole and limits.min <= voxels.min() and voxels.max() <= limits.max
        return voxels.astype(np.int16) if fits else voxels.copy(order="K")

    def _check_alike(self, about: str) -> None:
        """That the slices lie parallel, on equal grids."""

        def refuse(fault: str, text: str) -> FaultyFileError:
            return FaultyFileError(self.path, about, fault, text)

        first = self.slices[0]
        lengths = [(len(part.position), len(part.orientation), len(part.spacing)) for part in self.slices]
        if without := sum(length != (3, 6, 2) for length in lengths):
            text = f"{without} of {len(lengths)} slices do not say where they lie; export the original axial series"
            raise refuse("no position", text)
        if not all(part.is_grey for part in self.slices):
            text = "its slices are colour or inverted pictures, or come with a table; export the original series"
            raise refuse("not one volume", text)
        if len({part.patient for part in self.slices}) > 1:
            raise refuse("several patients", "slices of several patients in one series; export it again")
        numbers = [
            (*part.position, *part.orientation, *part.spacing, part.slope, part.intercept) for part in self.slices
        ]
        if not np.isfinite(numbers).all() or min(first.spacing) <= 0:
            raise refuse("impossible header", "positions, spacings or slopes cannot be; export the series again")
        if len(sizes := Counter(part.size for part in self.slices)) > 1:
            shown = " and ".join(f"{columns} x {rows}" for columns, rows in sizes)
            raise refuse("mixed sizes", f"slices of {shown} pixels in one series; move away those that do not belong")
        if _apart([part.orientation for part in self.slices], first.orientation):
            text = "slices of several orientations in one series; move away those that do not belong to the axial scan"
            raise refuse("mixed orientations", text)
        if _apart([part.spacing for part in self.slices], first.spacing):
            text = "slices of several pixel spacings in one series; move away those that do not belong"
            raise refuse("mixed sizes", text)
        directions = np.reshape(first.orientation, (2, 3))
        if np.abs(directions @ directions.T - np.eye(2)).max() > NOT_A_DIRECTION:
            raise refuse("impossible header", "its rows and columns are no directions; export the series again")
        if len(self.slices) < 2:
            raise refuse("missing slices", "a single slice is no volume; export the whole series")

    def _warn_of_gaps(self, about: str, findings: list[Finding]) -> None:
        """Where the scanner has counted by twos or threes, the slices between may not have been exported."""
        steps = np.diff([part.number for part in self.in_order()])
        if len(steps) and abs(steps[0]) > 1 and (steps == steps[0]).all():
            text = f"its slices are numbered in steps of {abs(int(steps[0]))}: look whether those between are missing"
            findings.append(Finding("warning", about, "missing slices?", text))

    def _step(self, positions: np.ndarray, about: str) -> np.ndarray:
        """From one slice to the next, mm; positions `(slices, 3)` in order."""
        steps = np.diff(positions, axis=0)
        distances = np.linalg.norm(steps, axis=1)
        usual = float(np.median(distances))
        if (again := int((distances <= UNEVEN * distances.max()).sum())) > 0:
            text = f"{again} slices lie where another does; move away all but one copy"
            raise FaultyFileError(self.path, about, "slices twice", text)
        changes = np.diff([part.acquisition for part in self.in_order()]) != 0
        if changes.sum() > len({part.acquisition for part in self.slices}) and changes.sum() > len(changes) / 2:
            text = "slices of several acquisitions lie between one another; export them as series of their own"
            raise FaultyFileError(self.path, about, "several acquisitions", text)
        missing = np.rint(distances / usual) - 1
        is_uneven = np.abs(distances - usual).max() > UNEVEN * usual
        is_whole = np.abs(distances / usual - np.rint(distances / usual)).max() <= UNEVEN
        if is_uneven and is_whole and 0 < missing.sum() <= len(positions):
            text = (
                f"{int(missing.sum())} slices are missing, the first behind slice {int(np.argmax(missing > 0)) + 1} of "
                f"{len(positions)}; export the series again"
            )
            raise FaultyFileError(self.path, about, "missing slices", text)
        if is_uneven:
            text = (
                f"the distance of its slices goes from {distances.min():.3g} to {distances.max():.3g} mm; slices are "
                "missing, or two series are one: export the series again"
            )
            raise FaultyFileError(self.path, about, "uneven slices", text)
        mean = (positions[-1] - positions[0]) / len(steps)
        if np.linalg.norm(steps - mean, axis=1).max() > UNEVEN * usual + 1e-2:
            text = "its slices do not lie on one line; export the original axial series"
            raise FaultyFileError(self.path, about, "uneven slices", text)
        return mean


def check_complete(part: Slice, folder: Path, about: str) -> None:
    """Checks that a slice that is not compressed has all its pixels; GDCM makes up those that are missing.

    Raises:
        FaultyFileError: If it has not.
    """
    from pydicom import dcmread

    from nnunetv2_unet3plus.dicom.damage import DAMAGE, quiet

    try:
        with quiet():
            header = dcmread(part.path, specific_tags=["BitsAllocated", "PixelData"], force=True)
            syntax = header.file_meta.get("TransferSyntaxUID")
            is_packed = syntax is not None and (syntax.is_compressed or syntax.is_deflated)
            has, needs = len(header.PixelData), part.size[0] * part.size[1] * header.BitsAllocated // 8
    except DAMAGE as error:
        text = "a slice cannot be read; export the series again"
        raise FaultyFileError(folder, about, "unreadable", text, f" ({part.path.name}: {error})") from error
    if has < needs and not is_packed:
        text = f"a slice cannot be read, {has} of the {needs} bytes of its pixels are there; export the series again"
        raise FaultyFileError(folder, about, "unreadable", text, f" ({part.path.name})")


def _apart(values: list[tuple[float, ...]], first: tuple[float, ...]) -> bool:
    return bool(np.abs(np.array(values) - first).max() > SAME_DIRECTION)
