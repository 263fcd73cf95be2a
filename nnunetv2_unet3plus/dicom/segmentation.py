"""A DICOM segmentation (DICOM-SEG) as a mask on its series."""

from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
from highdicom.seg import segread
from pydicom import Dataset, dcmread

from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding
from nnunetv2_unet3plus.conversion.hospital.organs import choose, matching
from nnunetv2_unet3plus.conversion.same_grid import SAME_PLACE
from nnunetv2_unet3plus.dicom.damage import DAMAGE, quiet, unreadable_mask
from nnunetv2_unet3plus.dicom.drawn import DrawnMask
from nnunetv2_unet3plus.dicom.series import DicomSeries, Reference


class DicomSegmentation(DrawnMask):
    """One organ of a DICOM-SEG file."""

    def voxels(self, about: str, findings: list[Finding]) -> np.ndarray:
        """1 where the organ is, else 0.

        Raises:
            FaultyFileError: If the file cannot be read or does not lie on the series' grid.
        """
        number = self.number([])
        try:
            with quiet():
                volume = segread(self.path).get_volume(segment_numbers=[number], combine_segments=True, relabel=True)
        except DAMAGE as error:
            raise unreadable_mask(self.path, "segmentation", error) from error
        return _on_grid(volume, self.series, self.path)

    def number(self, findings: list[Finding]) -> int:
        """The segment's: by its label or, where no label is of the organ, by the coded name of the structure."""
        labels = segment_names(self.path)
        if not matching(labels, self.organ):
            coded = _names(self.path, lambda segment: segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning)
            if matching(coded, self.organ):
                return choose(coded, self.organ, self.path, findings)
        return choose(labels, self.organ, self.path, findings)


def segment_names(path: Path) -> dict[int, str]:
    """Segment number -> label.

    Raises:
        FaultyFileError: If the file cannot be read.
    """
    return _names(path, lambda segment: segment.SegmentLabel)


def _names(path: Path, name_of: Callable[[Dataset], str]) -> dict[int, str]:
    try:
        with quiet():
            header = dcmread(path, stop_before_pixels=True)
        # a label map has its background as segment 0
        return {int(each.SegmentNumber): str(name_of(each)) for each in header.SegmentSequence if each.SegmentNumber}
    except DAMAGE as error:
        raise unreadable_mask(path, "segmentation", error) from error


def reference(path: Path) -> Reference:
    """The series and the frame of reference that a segmentation says it was drawn on."""
    try:
        with quiet():
            header = dcmread(path, stop_before_pixels=True)
            series = header.get("ReferencedSeriesSequence")
            uid = str(series[0].SeriesInstanceUID) if series else None
            return Reference(uid, str(header.get("FrameOfReferenceUID") or "") or None)
    except DAMAGE:
        return Reference(None, None)


def _on_grid(volume: hd.Volume, series: DicomSeries, path: Path) -> np.ndarray:
    """The voxels of a segmentation, which may cover a part of the series and have its axes in another order.

    Raises:
        FaultyFileError: If its voxels are not at the places of the series', or lie outside.
    """
    size = series.size("image")
    to_grid = np.linalg.inv(_straight(series, volume)) @ volume.affine
    in_plane = np.rint(to_grid[:3, 1:3])  # the first axis is that of the frames, which may leave out slices
    inside = np.argwhere(volume.array)
    exact = inside @ to_grid[:3, :3].T + to_grid[:3, 3]
    places = np.rint(exact).astype(int)
    if (np.abs(in_plane).sum(0) != 1).any() or (inside.size and np.abs(exact - places).max() > SAME_PLACE):
        text = "its voxels are not where those of the series are; export it on the series' own grid"
        raise FaultyFileError(path, "label", "other grid", text)
    if inside.size and ((places < 0) | (places >= size)).any():
        text = "it reaches out of the series; slices are missing, or it belongs to another series"
        raise FaultyFileError(path, "label", "other grid", text)
    mask = np.zeros(size, np.uint8, order="F")
    mask[tuple(places.T)] = 1
    return mask


def _straight(series: DicomSeries, volume: hd.Volume) -> np.ndarray:
    """The series' grid, LPS, as highdicom sees that of a segmentation: upright on its first frame, should they lean."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ series.affine()
    step, normal = affine[:3, 2].copy(), np.cross(affine[:3, 0], affine[:3, 1])
    height = normal * (normal @ step) / (normal @ normal)
    affine[:3, 2] = height
    first_frame = round((np.linalg.inv(affine) @ volume.affine)[2, 3])
    affine[:3, 3] += first_frame * (step - height)
    return affine
