"""Finds the DICOM files of a folder and tells series, segmentations and structure sets apart."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    RTStructureSetStorage,
    SegmentationStorage,
)

from nnunetv2_unet3plus.dicom.damage import DAMAGE
from nnunetv2_unet3plus.dicom.series import DicomSeries, Slice

_LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"  # of 2024; pydicom 3.0 has no name for it
_SEGMENTATIONS = (SegmentationStorage, _LABEL_MAP_SEGMENTATION)

_OF_SLICE = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "InstanceNumber",
    "ImageType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "RescaleSlope",
]


@dataclass
class DicomFiles:
    """What a folder holds.

    Attributes:
        series: CT series, without localizers.
        segmentations: DICOM-SEG files.
        structure_sets: RTSTRUCT files.
        enhanced: CT series in a single file.
        unreadable: Files that look like DICOM and cannot be read.
        others: Number of files of other kinds: localizers, reports, secondary captures, other modalities.
    """

    series: list[DicomSeries] = field(default_factory=list)
    segmentations: list[Path] = field(default_factory=list)
    structure_sets: list[Path] = field(default_factory=list)
    enhanced: list[Path] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)
    others: int = 0


def sort_files(paths: Iterable[Path]) -> DicomFiles:
    """Sorts DICOM files by what they hold; reads their headers only."""
    found = DicomFiles()
    slices: dict[str, list[Slice]] = {}
    for path in paths:
        try:
            # Some scanners' exports lack the preamble, which `force` allows; without a class it is no DICOM then.
            header = dcmread(path, stop_before_pixels=True, specific_tags=list(_OF_SLICE), force=True)
            kind = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")  # as of a DICOMDIR
            if kind is None:
                found.unreadable.append(path)
            elif kind == CTImageStorage and "LOCALIZER" not in header.get("ImageType", ()):
                slices.setdefault(str(header.get("SeriesInstanceUID")), []).append(_slice(path, header))
            elif kind in _SEGMENTATIONS:
                found.segmentations.append(path)
            elif kind == RTStructureSetStorage:
                found.structure_sets.append(path)
            elif kind == EnhancedCTImageStorage:
                found.enhanced.append(path)
            else:
                found.others += 1
        except DAMAGE:
            found.unreadable.append(path)
    found.series = [DicomSeries(uid, tuple(of_series)) for uid, of_series in sorted(slices.items())]
    return found


def _slice(path: Path, header: Dataset) -> Slice:
    def numbers(name: str) -> tuple[float, ...]:
        value = header.get(name)
        return () if value is None else tuple(map(float, value))

    return Slice(
        path,
        str(header.get("SOPInstanceUID")),
        str(header.get("SeriesNumber") or ""),
        int(header.get("InstanceNumber") or 0),
        numbers("ImagePositionPatient"),
        numbers("ImageOrientationPatient"),
        numbers("PixelSpacing"),
        (int(header.Columns), int(header.Rows)),
        int(header.get("SamplesPerPixel") or 1),
        float(header.get("RescaleSlope") or 1),
    )
