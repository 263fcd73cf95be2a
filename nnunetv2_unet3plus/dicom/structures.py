"""A structure set of radiotherapy (RTSTRUCT) as a mask on its series."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydicom import Dataset, dcmread
from skimage.draw import polygon2mask

from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding
from nnunetv2_unet3plus.conversion.hospital.organs import choose
from nnunetv2_unet3plus.dicom.damage import DAMAGE, quiet, unreadable_mask
from nnunetv2_unet3plus.dicom.drawn import DrawnMask
from nnunetv2_unet3plus.dicom.series import Reference

OUT_OF_PLANE = 0.25
"""Of the slice spacing, how far a contour may lie from its slice: rounded by the planning system, not between two."""

_XOR = "CLOSEDPLANAR_XOR"


class Structure(DrawnMask):
    """One organ of an RTSTRUCT file.

    A voxel belongs to the organ if its centre lies inside the contours of its slice, see `joined`. Contours are filled
    by scikit-image, which does not round their corners to voxels.
    """

    def voxels(self, about: str, findings: list[Finding]) -> np.ndarray:
        """1 where the organ is, else 0.

        Raises:
            FaultyFileError: If the file cannot be read, or contours do not lie on the series' slices.
        """
        number = self.number([])
        size, to_voxels = self.series.size("image"), np.linalg.inv(np.diag([-1.0, -1, 1, 1]) @ self.series.affine())
        drawn: dict[int, list[tuple[np.ndarray, bool]]] = {}
        for contour in _contours(_read(self.path), number, self.path):
            corners = contour.corners @ to_voxels[:3, :3].T + to_voxels[:3, 3]
            index = self._slice_of(corners, size)
            drawn.setdefault(index, []).append((polygon2mask(size[:2], corners[:, :2]), contour.is_xor))
        mask = np.zeros(size, bool, order="F")
        for index, filled in drawn.items():
            mask[:, :, index] = joined(filled)
        self._tell_of_gaps(sorted(drawn), findings)
        return mask.view(np.uint8)

    def number(self, findings: list[Finding]) -> int:
        """The structure's, by its name."""
        return choose(structure_names(self.path), self.organ, self.path, findings)

    def _slice_of(self, corners: np.ndarray, size: tuple[int, ...]) -> int:
        """The slice that a contour lies in; corners in voxels."""
        place = corners[:, 2].mean()
        index = round(place)
        if np.abs(corners[:, 2] - place).max() > OUT_OF_PLANE or abs(place - index) > OUT_OF_PLANE:
            raise self._refused("between slices", "a contour does not lie in a slice of the series")
        if not 0 <= index < size[2]:
            raise self._refused("missing slices", "a contour lies where the series has no slice")
        if (corners[:, :2] < -1).any() or (corners[:, :2] > size[:2]).any():
            raise self._refused("other grid", "a contour reaches out of the slices")
        return index

    def _tell_of_gaps(self, slices: list[int], findings: list[Finding]) -> None:
        between = slices[-1] - slices[0] + 1 - len(slices) if slices else 0
        if between > len(slices) / 3:
            text = f"drawn on {len(slices)} slices, not on {between} between them; fill these, and export it again"
            raise FaultyFileError(self.path, "label", "gaps", text)
        if between:
            text = f"not drawn on {between} slices between its first and its last: look whether that is meant"
            findings.append(Finding("warning", "label", "gaps", text))

    def _refused(self, fault: str, text: str) -> FaultyFileError:
        text = f"{text}; slices are missing, or it was drawn on another series"
        return FaultyFileError(self.path, "label", fault, text)


def joined(filled: Sequence[tuple[np.ndarray, bool]]) -> np.ndarray:
    """What the contours of a slice enclose.

    One inside another is a hole, one in a hole an island; those that cross or lie apart add up, and one that is there
    twice counts once. Those of the kind CLOSEDPLANAR_XOR change what they cover, as the standard has it.

    Args:
        filled: For each contour the pixels in it, bool, and whether it is of that kind.

    Returns:
        bool, of the shape of each.
    """
    mask = np.zeros_like(filled[0][0])
    known: list[np.ndarray] = []
    for pixels, is_xor in sorted(filled, key=lambda each: -int(each[0].sum())):
        if is_xor:
            mask ^= pixels
        elif not any(np.array_equal(pixels, other) for other in known):
            is_hole = mask[pixels].all()
            mask[pixels] = not is_hole
            known.append(pixels)
    return mask


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


def reference(path: Path) -> Reference:
    """The series and the frame of reference that a structure set says it was drawn on."""
    try:
        with quiet():
            frame = dcmread(path, force=True).ReferencedFrameOfReferenceSequence[0]
            study = frame.get("RTReferencedStudySequence")
            series = study[0].get("RTReferencedSeriesSequence") if study else None
            uid = str(series[0].SeriesInstanceUID) if series else None
            return Reference(uid, str(frame.get("FrameOfReferenceUID") or "") or None)
    except DAMAGE:
        return Reference(None, None)


def _read(path: Path) -> Dataset:
    try:
        with quiet():
            return dcmread(path, force=True)
    except DAMAGE as error:
        raise unreadable_mask(path, "structure set", error) from error


class _Contour(NamedTuple):
    """Its corners `(corners, 3)` in LPS mm, and whether it is of the kind CLOSEDPLANAR_XOR."""

    corners: np.ndarray
    is_xor: bool


def _contours(header: Dataset, number: int, path: Path) -> list[_Contour]:
    """The contours of a structure.

    Raises:
        FaultyFileError: If they cannot be read, or are not closed.
    """
    try:
        roi = next(roi for roi in header.ROIContourSequence if int(roi.ReferencedROINumber) == number)
        kinds = [str(contour.ContourGeometricType).strip().upper() for contour in roi.ContourSequence]
        corners = [np.array(contour.ContourData, np.float64).reshape(-1, 3) for contour in roi.ContourSequence]
    except DAMAGE as error:
        raise unreadable_mask(path, "structure set", error) from error
    if not all(np.isfinite(each).all() and len(each) for each in corners):
        raise unreadable_mask(path, "structure set", ValueError("corners without a place"))
    if not_closed := sorted(set(kinds) - {"CLOSED_PLANAR", _XOR}):
        text = f"contours of the kind {', '.join(not_closed)} enclose nothing; draw it with closed contours"
        raise FaultyFileError(path, "label", "not closed", text)
    return [_Contour(each, kind == _XOR) for each, kind in zip(corners, kinds, strict=True)]
