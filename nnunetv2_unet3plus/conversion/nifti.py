"""Reads and writes the voxels of NIfTI files, strictly.

With nibabel and not with ITK: ITK reads a truncated file without complaint (the rest is whatever was in memory) and
does not notice a full disk when it writes.
"""

import gzip
import zlib
from io import IOBase
from math import prod
from pathlib import Path
from typing import BinaryIO, cast

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding
from nnunetv2_unet3plus.conversion.geometry import Geometry

_COMPRESSION = 1  # nibabel's own default: several times faster than level 6, files of CT noise hardly larger
_HEADER = 352  # bytes, of a NIfTI-1 file that holds header and voxels
_DENSEST = 1032  # the most that deflate makes of one byte
_DAMAGE = (OSError, EOFError, zlib.error, ValueError, ArithmeticError, ImageFileError, HeaderDataError, WrapStructError)


def read_voxels(path: Path, about: str = "image", findings: list[Finding] | None = None) -> np.ndarray:
    """Reads the whole file, to its last byte.

    Args:
        path: A NIfTI file.
        about: "image" or "label", for the findings.
        findings: What had to be repaired is added here.

    Returns:
        Voxels indexed x, y, z, in the type they are stored in. Voxels stored with a scale come scaled: as integers
        if the scale's two numbers are whole, else in 32-bit floating point.

    Raises:
        FaultyFileError: If the file is truncated, damaged or cannot be read.
    """
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            # A memory map would turn a read error into a crash of the process, at some later time.
            holder = nib.Nifti1Image.make_file_map({"image": cast(IOBase, file)})
            proxy = cast(ArrayProxy, nib.Nifti1Image.from_file_map(holder, mmap=False).dataobj)
            _check_place(proxy, path, about)
            voxels = _plain_numbers(proxy)
            while file.read(1 << 20):  # gzip compares its checksum at the end only
                pass
    except MemoryError as error:
        text = (
            "too large for this machine's memory; use -np 1 or a larger machine, or replace the file if its header is "
            "wrong"
        )
        raise FaultyFileError(path, about, "too large", text) from error
    except _DAMAGE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        text = f"cannot be read ({str(reason).replace(str(path), 'the file')}); replace the file by a good copy"
        raise FaultyFileError(path, about, "unreadable", text) from error
    if voxels.ndim > 3 and findings is not None:
        text = f"{' x '.join(map(str, voxels.shape))} voxels: axes of one entry dropped"
        findings.append(Finding("repaired", about, "fourth axis", text))
    return voxels.reshape(voxels.shape[:3])


def _check_place(proxy: ArrayProxy, path: Path, about: str) -> None:
    """That the voxels begin behind the header, and that the file can hold as many.

    Memory for all of them is taken before the first is read: more than there is would end the process.
    """
    if proxy.offset < _HEADER:
        text = f"its voxels would begin at byte {proxy.offset}, within the header; replace the file by a good copy"
        raise FaultyFileError(path, about, "impossible header", text)
    meant = prod(proxy.shape) * proxy.dtype.itemsize
    held = path.stat().st_size * (_DENSEST if path.suffix.lower() == ".gz" else 1)
    if meant > held:
        text = (
            f"its header means {meant / 1e9:.3g} GB of voxels, more than it can hold; replace the file by a good copy"
        )
        raise FaultyFileError(path, about, "unreadable", text)


def _plain_numbers(proxy: ArrayProxy) -> np.ndarray:
    voxels = np.asanyarray(proxy)
    slope, inter = proxy.slope, proxy.inter
    if (slope, inter) == (1, 0):
        return voxels.astype(voxels.dtype.newbyteorder("="), copy=False)
    if proxy.dtype.kind in "iu" and slope % 1 == inter % 1 == 0:
        for dtype in (np.int16, np.int32):
            limits = np.iinfo(dtype)
            if limits.min <= voxels.min() and voxels.max() <= limits.max:
                return voxels.astype(dtype)
    with np.errstate(over="ignore"):  # infinite then, and refused
        return voxels.astype(np.float32)


def write_nifti(stream: BinaryIO, voxels: np.ndarray, geometry: Geometry) -> None:
    """Writes a `.nii.gz` file.

    The header is a new one: it holds the grid and nothing of the source's free-text fields. Equal input gives equal
    bytes.

    Args:
        stream: Where to.
        voxels: Indexed x, y, z; written in their own type.
        geometry: Their grid.
    """
    image = nib.Nifti1Image(voxels, geometry.affine, dtype=voxels.dtype)
    image.set_sform(geometry.affine, code="scanner")
    image.set_qform(geometry.affine, code="scanner")
    image.header.set_xyzt_units("mm")
    with gzip.GzipFile(fileobj=stream, mode="wb", filename="", mtime=0, compresslevel=_COMPRESSION) as packed:
        image.to_stream(packed)
