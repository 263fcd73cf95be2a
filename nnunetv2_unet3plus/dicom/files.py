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

from nnunetv2_unet3plus.dicom.damage import DAMAGE, quiet
from nnunetv2_unet3plus.dicom.series import DicomSeries, Slice

_LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"  # of 2024; pydicom 3.0 has no name for it
_SEGMENTATIONS = (SegmentationStorage, _LABEL_MAP_SEGMENTATION)

_OF_SLICE = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PatientID",
    "PatientName",
    "SeriesNumber",
    "AcquisitionNumber",
    "InstanceNumber",
    "ImageType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
]


@dataclass
class DicomFiles:
    """What a folder holds.

    Attributes:
        series: CT series, without localizers and single slices.
        segmentations: DICOM-SEG files.
        structure_sets: RTSTRUCT files.
        enhanced: CT series in a single file.
        unreadable: Files that look like DICOM and cannot be read.
        others: Files of other kinds: localizers, single slices, reports, secondary captures, other modalities.
        other_series: What series those belong to.
    """

    series: list[DicomSeries] = field(default_factory=list)
    segmentations: list[Path] = field(default_factory=list)
    structure_sets: list[Path] = field(default_factory=list)
    enhanced: list[Path] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    other_series: set[str] = field(default_factory=set)


def sort_files(paths: Iterable[Path]) -> DicomFiles:
    """Sorts DICOM files by what they hold; reads their headers only."""
    found = DicomFiles()
    slices: dict[str, list[Slice]] = {}
    with quiet():
        for path in paths:
            try:
                _sort(path, found, slices)
            except DAMAGE:
                found.unreadable.append(path)
    series = [DicomSeries(uid, tuple(of_series)) for uid, of_series in sorted(slices.items())]
    found.series = [each for each in series if len(each.slices) > 1] or series
    found.others += [path for each in series if each not in found.series for path in each.files]
    return found


def _sort(path: Path, found: DicomFiles, slices: dict[str, list[Slice]]) -> None:
    # Some scanners' exports lack the preamble, which `force` allows; without a class it is no DICOM then.
    header = dcmread(path, stop_before_pixels=True, specific_tags=list(_OF_SLICE), force=True)
    kind = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")  # as of a DICOMDIR
    if kind is None:
        found.unreadable.append(path)
    elif kind == CTImageStorage and "LOCALIZER" not in (header.get("ImageType") or ()):
        slices.setdefault(str(header.get("SeriesInstanceUID")), []).append(_slice(path, header))
    elif kind in _SEGMENTATIONS:
        found.segmentations.append(path)
    elif kind == RTStructureSetStorage:
        found.structure_sets.append(path)
    elif kind == EnhancedCTImageStorage:
        found.enhanced.append(path)
    else:
        found.others.append(path)
        found.other_series.add(str(header.get("SeriesInstanceUID")))


def _slice(path: Path, header: Dataset) -> Slice:
    def numbers(name: str) -> tuple[float, ...]:
        value = header.get(name)
        return () if value is None else tuple(map(float, value))

    def number(name: str, default: float) -> float:
        value = header.get(name)
        return default if value in (None, "") else float(value)

    is_grey = header.get("SamplesPerPixel", 1) == 1 and header.get("PhotometricInterpretation") == "MONOCHROME2"
    return Slice(
        path=path,
        uid=str(header.get("SOPInstanceUID")),
        frame=str(header.get("FrameOfReferenceUID") or ""),
        patient=f"{header.get('PatientID')}, {header.get('PatientName')}",
        acquisition=int(number("AcquisitionNumber", 0)),
        number=int(number("InstanceNumber", 0)),
        position=numbers("ImagePositionPatient"),
        orientation=numbers("ImageOrientationPatient"),
        spacing=numbers("PixelSpacing"),
        size=(int(header.Columns), int(header.Rows)),
        is_grey=is_grey and "ModalityLUTSequence" not in header,
        slope=number("RescaleSlope", 1) or 1,
        intercept=number("RescaleIntercept", 0),
    )
