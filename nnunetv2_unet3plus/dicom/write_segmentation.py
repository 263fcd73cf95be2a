"""Masks as a DICOM-SEG that refers to the series they were made of."""

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from io import BytesIO
from typing import BinaryIO

import highdicom as hd
import numpy as np
from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from nnunetv2_unet3plus.conversion.hospital.organs import synonyms, words_of
from nnunetv2_unet3plus.dicom.damage import DAMAGE, quiet
from nnunetv2_unet3plus.dicom.series import DicomSeries
from nnunetv2_unet3plus.errors import UserError

_PRODUCT = "nnunetv2_unet3plus"
_SERIES_NUMBER = 900  # behind those of the scanner
_CODES = {
    "liver": codes.SCT.Liver,
    "spleen": codes.SCT.Spleen,
    "pancreas": codes.SCT.Pancreas,
    "kidney": codes.SCT.Kidney,
}
_TUMOUR_WORDS = {"tumour", "tumor", "lesion", "neoplasm", "metastasis", "cancer"}
# What the standard wants to be there, though it may be empty, and its form; who removes names from scans often removes
# them whole, or writes what is none.
_MAY_BE_EMPTY = {
    "PatientID": r".{0,64}",
    "PatientName": r".{0,324}",
    "PatientBirthDate": r"(\d{8})?",
    "PatientSex": r"[MFO]?",
    "StudyDate": r"(\d{8})?",
    "StudyTime": r"(\d{2,6}(\.\d{1,6})?)?",
    "StudyID": r".{0,16}",
    "AccessionNumber": r".{0,16}",
    "ReferringPhysicianName": r".{0,324}",
}


def write_segmentation(
    stream: BinaryIO, voxels: np.ndarray, series: DicomSeries, labels: Mapping[str, tuple[int, ...]]
) -> None:
    """Writes a DICOM-SEG, a segment for each label or region.

    Args:
        stream: Where to.
        voxels: Label values `(x, y, z)` on the series' grid.
        series: The series.
        labels: Name -> values that belong to it.

    Raises:
        UserError: If the series' headers lack what a DICOM-SEG needs.
    """
    try:
        with quiet():
            segmentation = _segmentation(voxels, series, labels)
    except DAMAGE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        hint = "export it again, or prepare it as a NIfTI file"
        raise UserError(f"{series.path}: no DICOM-SEG can refer to this series ({reason}); {hint}") from error
    segmentation.save_as(stream)


def _segmentation(voxels: np.ndarray, series: DicomSeries, labels: Mapping[str, tuple[int, ...]]) -> Segmentation:
    masks = np.stack([np.isin(voxels, values) for values in labels.values()], axis=-1)
    return Segmentation(
        source_images=_sources(series),
        pixel_array=masks.transpose(2, 1, 0, 3),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=_descriptions(list(labels)),
        series_instance_uid=generate_uid(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=_PRODUCT,
        manufacturer_model_name=_PRODUCT,
        software_versions=version("nnunetv2-unet3plus"),
        device_serial_number="none",
        content_description="Segmentation by nnU-Net",
    )


def check_referable(series: DicomSeries) -> None:
    """Tries whether a DICOM-SEG can refer to a series, which asks for more of its headers than reading it does.

    Raises:
        UserError: If not.
    """
    voxels = np.zeros(series.size("image"), np.uint8)
    voxels[0, 0, 0] = 1
    write_segmentation(BytesIO(), voxels, series, {"mask": (1,)})


def _sources(series: DicomSeries) -> list[Dataset]:
    """The slices' headers, of which exports get much wrong that a DICOM-SEG copies or compares."""
    headers: list[Dataset] = [dcmread(part.path, stop_before_pixels=True, force=True) for part in series.in_order()]
    for header in headers:
        header.decode()  # by the character set it has; what is written is in UTF-8
        header.SpecificCharacterSet = "ISO_IR 192"
        header.Modality = "CT"
        header.ImageOrientationPatient = headers[0].ImageOrientationPatient
        for name, form in _MAY_BE_EMPTY.items():
            if name not in header or not re.fullmatch(form, str(header[name].value)):
                setattr(header, name, "")
        if not header.get("SliceThickness"):
            header.SliceThickness = float(f"{np.linalg.norm(series.affine()[:3, 2]):.6g}")
    return headers


def _descriptions(names: Sequence[str]) -> list[SegmentDescription]:
    algorithm = hd.AlgorithmIdentificationSequence(
        _PRODUCT, codes.DCM.ArtificialIntelligence, version("nnunetv2-unet3plus")
    )
    return [
        SegmentDescription(number, name, *_codes_of(name), "AUTOMATIC", algorithm)
        for number, name in enumerate(names, start=1)
    ]


def _codes_of(name: str) -> tuple[Code, Code]:
    """Category and type of a structure; tissue where its name is not known."""
    words = set(words_of(name))
    if words & _TUMOUR_WORDS:
        return codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm
    for organ, code in _CODES.items():
        if words & synonyms(organ):
            return codes.SCT.AnatomicalStructure, code
    return codes.SCT.Tissue, codes.SCT.Tissue
