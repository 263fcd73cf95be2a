"""The headers of NIfTI files: read, repaired where that is safe."""

import gzip
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import IOBase
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 - its usual name
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding
from nnunetv2_unet3plus.conversion.geometry import Geometry, grid_of, straightened
from nnunetv2_unet3plus.conversion.itk import reason_of, silence
from nnunetv2_unet3plus.errors import explain


def read_geometry(path: Path, about: str = "image", findings: list[Finding] | None = None) -> Geometry:
    """Reads the header only.

    With ITK, as nnU-Net does: a header that can be understood in two ways then means the same here as in training.

    Args:
        path: A NIfTI file.
        about: "image" or "label", for the findings.
        findings: What had to be repaired is added here.

    Raises:
        FaultyFileError: If the header cannot be read or is not that of one grey-valued 3D volume.
    """
    findings = [] if findings is None else findings
    header = nifti_header(path, about)
    silence()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            affine = np.asarray(header.get_best_affine(), np.float64)
            return straightened(size_of(header), affine, path, about, findings)
        raise _unreadable(path, about, reason_of(error, [path])) from error
    geometry = grid_of(reader, path, about)
    if about == "image" and not header["qform_code"] and not header["sform_code"]:
        text = f"the header holds no matrix: axes taken as ITK and nnU-Net take them, {geometry.axes}, from the origin"
        findings.append(Finding("warning", about, "no position", text))
    return geometry


def nifti_header(path: Path, about: str) -> nib.Nifti1Header:
    """The header by nibabel, before ITK, which calls a file missing that may not be read, and prints on its own.

    Raises:
        FaultyFileError: If it cannot be read, or holds numbers that are none.
    """
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file, _silent_nibabel():
            header = nib.Nifti1Header.from_fileobj(cast(IOBase, file))
    except OSError as error:
        if error.strerror is None:  # gzip's own
            raise _unreadable(path, about, str(error)) from error
        raise FaultyFileError(path, about, "unreadable", str(explain(error, path)).removeprefix(f"{path}: ")) from error
    except (
        EOFError,
        zlib.error,
        ValueError,
        ArithmeticError,
        ImageFileError,
        HeaderDataError,
        WrapStructError,
    ) as error:
        raise _unreadable(path, about, str(error)) from error
    fields = ("pixdim", "vox_offset", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d", "qoffset_x")
    if not all(np.isfinite(header[field]).all() for field in (*fields, "qoffset_y", "qoffset_z")):
        text = "numbers in its header are NaN or infinite; replace the file by a good copy"
        raise FaultyFileError(path, about, "impossible header", text)
    return header


@contextmanager
def _silent_nibabel() -> Iterator[None]:
    """Its remarks would come between our lines, too."""
    logger = logging.getLogger("nibabel.global")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _unreadable(path: Path, about: str, reason: str) -> FaultyFileError:
    text = f"the header cannot be read ({reason.replace(str(path), 'the file')}); replace the file by a good copy"
    return FaultyFileError(path, about, "unreadable", text)


def size_of(header: nib.Nifti1Header) -> tuple[int, ...]:
    """Voxels along x, y, z."""
    return tuple(map(int, header.get_data_shape()[:3]))
