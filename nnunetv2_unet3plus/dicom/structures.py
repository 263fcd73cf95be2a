"""A structure set of radiotherapy (RTSTRUCT) as a mask on its series."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from skimage.draw import polygon2mask

from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding
from nnunetv2_unet3plus.conversion.geometry import Geometry
from nnunetv2_unet3plus.conversion.hospital.organs import choose
from nnunetv2_unet3plus.dicom.damage import DAMAGE, unreadable_mask
from nnunetv2_unet3plus.dicom.series import DicomSeries

OUT_OF_PLANE = 0.25
"""Of the slice spacing, how far a contour may lie from its slice: rounded by the planning system, not between two."""


@dataclass(frozen=True)
class Structure:
    """One organ of an RTSTRUCT file, on the grid of the series it was drawn on.

    A voxel belongs to the organ if its centre lies inside the contours of its slice; a contour inside another is a
    hole. Contours are filled by scikit-image, which does not round their corners to voxels.

    Attributes:
        path: The file.
        series: The series.
        organ: Its name, in any language that `organs` knows.
    """

    path: Path
    series: DicomSeries
    organ: str

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    def size(self, about: str) -> tuple[int, ...]:
        """See `Volume`."""
        return self.series.size(about)

    def geometry(self, about: str, findings: list[Finding]) -> Geometry:
        """The series' grid, whose own findings are the image's.

        Raises:
            FaultyFileError: If the file cannot be read or has no such organ.
        """
        choose(structure_names(self.path), self.organ, self.path, findings)
        return self.series.geometry("image", [])

    def voxels(self, about: str, findings: list[Finding]) -> np.ndarray:
        """1 where the organ is, else 0.

        Raises:
            FaultyFileError: If the file cannot be read, or contours do not lie on the series' slices.
        """
        number = choose(structure_names(self.path), self.organ, self.path, [])
        geometry = self.series.geometry("image", [])
        mask = np.zeros(geometry.size, bool, order="F")
        for contour in _contours(_read(self.path), number, self.path):
            corners = _in_voxels(contour, geometry)
            place = corners[:, 2].mean()
            index = round(place)
            if np.abs(corners[:, 2] - place).max() > OUT_OF_PLANE or abs(place - index) > OUT_OF_PLANE:
                raise self._refused("between slices", "a contour does not lie in a slice of the series")
            if not 0 <= index < geometry.size[2]:
                raise self._refused("missing slices", "a contour lies where the series has no slice")
            mask[:, :, index] ^= polygon2mask(geometry.size[:2], corners[:, :2])
        return mask.view(np.uint8)

    def _refused(self, fault: str, text: str) -> FaultyFileError:
        text = f"{text}; slices are missing, or it was drawn on another series"
        return FaultyFileError(self.path, "label", fault, text)


def structure_names(path: Path) -> dict[int, str]:
    """ROI number -> name, of those that have contours.

    Raises:
        FaultyFileError: If the file cannot be read.
    """
    header = _read(path)
    try:
        drawn = {int(roi.ReferencedROINumber) for roi in header.ROIContourSequence if roi.get("ContourSequence")}
        names = {int(roi.ROINumber): str(roi.ROIName) for roi in header.StructureSetROISequence}
    except DAMAGE as error:
        raise unreadable_mask(path, "structure set", error) from error
    return {number: name for number, name in names.items() if number in drawn}


def referenced_series(path: Path) -> str | None:
    """The series a structure set says it was drawn on; None if it does not say, or cannot be read."""
    try:
        frame = dcmread(path, force=True).ReferencedFrameOfReferenceSequence[0]
        return str(frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].SeriesInstanceUID)
    except DAMAGE:
        return None


def _read(path: Path) -> Dataset:
    try:
        return dcmread(path, force=True)
    except DAMAGE as error:
        raise unreadable_mask(path, "structure set", error) from error


def _contours(header: Dataset, number: int, path: Path) -> list[np.ndarray]:
    """The closed contours of a structure, each `(corners, 3)` in LPS mm."""
    try:
        roi = next(roi for roi in header.ROIContourSequence if int(roi.ReferencedROINumber) == number)
        return [
            np.array(contour.ContourData, np.float64).reshape(-1, 3)
            for contour in roi.ContourSequence
            if contour.ContourGeometricType in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR") and contour.ContourData
        ]
    except DAMAGE as error:
        raise unreadable_mask(path, "structure set", error) from error


def _in_voxels(contour: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Corners in voxels of the grid, `(corners, 3)`."""
    axes = np.reshape(geometry.direction, (3, 3)) * geometry.spacing
    return np.linalg.solve(axes, (contour - geometry.origin).T).T
