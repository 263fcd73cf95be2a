"""Small made-up DICOM studies, written with pydicom and highdicom."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

PATIENT = "Rosalind^Elsie^Franklin"
PATIENT_ID = "MRN-4711"
SPACING = (0.8, 0.7, 2.5)
"""Millimetres between voxels along x (columns), y (rows), z."""
ORIGIN = (-101.5, -87.25, 412.5)

Change = Callable[[list[FileDataset]], None]


def scan(number: int, size: tuple[int, int, int] = (12, 10, 6)) -> np.ndarray:
    return np.random.default_rng(number).integers(-1000, 1000, size).astype(np.int16)


def mask(size: tuple[int, int, int] = (12, 10, 6)) -> np.ndarray:
    voxels = np.zeros(size, np.uint8)
    voxels[3:8, 2:6, 1:4] = 1
    voxels[5, 6, 2] = 1
    return voxels


def write_series(folder: Path, voxels: np.ndarray, change: Change | None = None, downward: bool = False) -> list[Path]:
    """A CT series with voxels `(x, y, z)`, z up; file names in the order of the scanner, which may go down."""
    folder.mkdir(parents=True, exist_ok=True)
    study, series = generate_uid(), generate_uid()
    frame = generate_uid()
    slices = []
    order = range(voxels.shape[2])[::-1] if downward else range(voxels.shape[2])
    for number, index in enumerate(order, start=1):
        header = _empty(CTImageStorage)
        header.Modality, header.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = study, series, frame
        header.SeriesNumber, header.InstanceNumber = 3, number
        header.StudyID = "1"
        header.ImagePositionPatient = [ORIGIN[0], ORIGIN[1], ORIGIN[2] + SPACING[2] * index]
        header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        header.PixelSpacing = [SPACING[1], SPACING[0]]
        header.SliceThickness = 3.2  # not the distance of the slices, as in real scans
        header.Columns, header.Rows = voxels.shape[:2]
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated = header.BitsStored = 16
        header.HighBit, header.PixelRepresentation = 15, 1
        header.RescaleSlope, header.RescaleIntercept = 1, -24
        header.PixelData = np.ascontiguousarray(voxels[:, :, index].T + 24).astype("<i2").tobytes()
        slices.append(header)
    if change is not None:
        change(slices)
    paths = [folder / f"IM{number:04d}.dcm" for number in range(len(slices))]
    for header, path in zip(slices, paths, strict=True):
        header.save_as(path)
    return paths


def write_segmentation(path: Path, slices: Sequence[Path], masks: Mapping[str, np.ndarray]) -> Path:
    """A DICOM-SEG with a segment for each mask `(x, y, z)`, z up; empty slices left out, as programs do."""
    sources = sorted((dcmread(each) for each in slices), key=lambda header: float(header.ImagePositionPatient[2]))
    segments = [
        hd.seg.SegmentDescription(
            number, name, codes.SCT.Organ, codes.SCT.Organ, hd.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for number, name in enumerate(masks, start=1)
    ]
    pixels = np.stack([voxels.transpose(2, 1, 0).astype(bool) for voxels in masks.values()], axis=-1)
    hd.seg.Segmentation(
        sources, pixels, hd.seg.SegmentationTypeValues.BINARY, segments, generate_uid(), 7, generate_uid(), 1,
        "made up", "made up", "1", "1",
    ).save_as(path)  # fmt: skip
    return path


def write_structures(path: Path, slices: Sequence[Path], contours: Mapping[str, Sequence[np.ndarray]]) -> Path:
    """An RTSTRUCT with the closed contours `(corners, 3)`, LPS mm, of each structure."""
    header = _empty(RTStructureSetStorage)
    header.Modality = "RTSTRUCT"
    reference, study, series = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = dcmread(slices[0]).SeriesInstanceUID
    study.RTReferencedSeriesSequence = [series]
    reference.RTReferencedStudySequence = [study]
    header.ReferencedFrameOfReferenceSequence = [reference]
    header.StructureSetROISequence, header.ROIContourSequence = [], []
    for number, (name, of_structure) in enumerate(contours.items(), start=1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for corners in of_structure:
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(corners)
            contour.ContourData = [float(f"{value:.4f}") for value in np.ravel(corners)]
            drawn.ContourSequence.append(contour)
        header.StructureSetROISequence.append(roi)
        header.ROIContourSequence.append(drawn)
    header.save_as(path)
    return path


def _empty(kind: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    header.PatientName, header.PatientID = PATIENT, PATIENT_ID
    header.PatientBirthDate, header.PatientSex = "19200725", "F"
    header.StudyDate, header.StudyTime, header.AccessionNumber = "20260101", "120000", "A-99"
    header.ReferringPhysicianName = ""
    header.StudyInstanceUID = generate_uid()
    return header
