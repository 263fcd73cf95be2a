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

_RIGHT_ANGLES = 1e-4


class Slice(NamedTuple):
    """What a slice's header says.

    Attributes:
        path: Its file.
        uid: The SOP instance's.
        series_number: Of its series, as the scanner counts; may be empty.
        number: Its own, as the scanner counts.
        position: Of the first pixel's centre, LPS mm; empty if the header does not say.
        orientation: Directions of the rows, then of the columns; empty if the header does not say.
        spacing: Millimetres between rows, then between columns; empty if the header does not say.
        size: Columns, rows.
        samples: Values a pixel.
        slope: Of the intensities.
    """

    path: Path
    uid: str
    series_number: str
    number: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    size: tuple[int, int]
    samples: int
    slope: float


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

    def in_order(self) -> list[Slice]:
        """The slices along the normal of their rows and columns."""
        along = np.cross(self.slices[0].orientation[:3], self.slices[0].orientation[3:])
        return sorted(self.slices, key=lambda part: float(along @ part.position))

    def geometry(self, about: str, findings: list[Finding]) -> Geometry:
        """Its grid, from the slices' positions: the thickness that headers give is often not their distance.

        Raises:
            FaultyFileError: If slices are missing, twice there, or not parallel, or lean too far (tilted gantry).
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
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
        axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        if np.abs(axes.T @ axes - np.eye(3)).max() > _RIGHT_ANGLES:
            return straightened(self.size(about), affine, self.path, about, findings)
        return from_affine(self.size(about), affine)

    def voxels(self, about: str, findings: list[Finding]) -> np.ndarray:
        """Hounsfield units.

        Raises:
            FaultyFileError: If a file is truncated, damaged, or compressed in a way that GDCM does not know.
        """
        silence()
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames([str(part.path) for part in self.in_order()])
        if any(part.slope % 1 for part in self.slices):
            reader.SetOutputPixelType(sitk.sitkFloat32)
        try:
            voxels = sitk.GetArrayFromImage(reader.Execute()).T
        except (RuntimeError, MemoryError) as error:
            text = f"a slice cannot be read: {reason_of(error, self.files)}; export the series again"
            raise FaultyFileError(self.path, about, "unreadable", text) from error
        limits = np.iinfo(np.int16)  # GDCM makes room for all that the slope and intercept could give
        fits = voxels.dtype.kind in "iu" and limits.min <= voxels.min() and voxels.max() <= limits.max
        return voxels.astype(np.int16, copy=False) if fits else voxels

    def _check_alike(self, about: str) -> None:
        """That the slices lie parallel, on equal grids."""

        def refuse(fault: str, text: str) -> FaultyFileError:
            return FaultyFileError(self.path, about, fault, text)

        first = self.slices[0]
        lengths = [(len(part.position), len(part.orientation), len(part.spacing)) for part in self.slices]
        if without := sum(length != (3, 6, 2) for length in lengths):
            text = f"{without} of {len(lengths)} slices do not say where they lie; export the original axial series"
            raise refuse("no position", text)
        if any(part.samples != 1 for part in self.slices):
            raise refuse("not one volume", "its slices are colour pictures; export the original series")
        if len(sizes := Counter(part.size for part in self.slices)) > 1:
            shown = " and ".join(f"{columns} x {rows}" for columns, rows in sizes)
            raise refuse("mixed sizes", f"slices of {shown} pixels in one series; move away those that do not belong")
        if _apart([part.orientation for part in self.slices], first.orientation):
            text = "slices of several orientations in one series; move away those that do not belong to the axial scan"
            raise refuse("mixed orientations", text)
        if _apart([part.spacing for part in self.slices], first.spacing):
            text = "slices of several pixel spacings in one series; move away those that do not belong"
            raise refuse("mixed sizes", text)
        if not np.isfinite([part.position for part in self.slices]).all() or min(first.spacing) <= 0:
            raise refuse("impossible header", "positions or spacings cannot be; export the series again")
        if len(self.slices) < 2:
            raise refuse("missing slices", "a single slice is no volume; export the whole series")

    def _step(self, positions: np.ndarray, about: str) -> np.ndarray:
        """From one slice to the next, mm; positions `(slices, 3)` in order."""
        steps = np.diff(positions, axis=0)
        distances = np.linalg.norm(steps, axis=1)
        usual = float(np.median(distances))
        if distances.min() <= UNEVEN * usual:
            text = f"{int((distances <= UNEVEN * usual).sum()) + 1} slices at one place; move away all but one copy"
            raise FaultyFileError(self.path, about, "slices twice", text)
        mean = (positions[-1] - positions[0]) / len(steps)
        if np.abs(distances - usual).max() > UNEVEN * usual:
            missing = np.rint(distances / usual) - 1
            whole = np.abs(distances / usual - np.rint(distances / usual)).max() <= UNEVEN
            if whole and missing.sum():
                where = int(np.argmax(missing))
                text = (
                    f"{int(missing.sum())} slices are missing, the first behind slice {where + 1} of {len(positions)}; "
                    "export the series again"
                )
                raise FaultyFileError(self.path, about, "missing slices", text)
            text = (
                f"the distance of its slices goes from {distances.min():.3g} to {distances.max():.3g} mm; slices are "
                "missing, or two series are one: export the series again"
            )
            raise FaultyFileError(self.path, about, "uneven slices", text)
        if np.linalg.norm(steps - mean, axis=1).max() > UNEVEN * usual + 1e-2:
            text = "its slices do not lie on one line; export the original axial series"
            raise FaultyFileError(self.path, about, "uneven slices", text)
        return mean


def _apart(values: list[tuple[float, ...]], first: tuple[float, ...]) -> bool:
    return bool(np.abs(np.array(values) - first).max() > SAME_DIRECTION)
