"""Where a volume lies in the patient: read from the header, repaired where that is safe, compared."""

import gzip
import logging
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import IOBase
from itertools import product
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 - its usual name
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding
from nnunetv2_unet3plus.errors import explain

TOLERANCE = 1e-3
"""Largest accepted difference of spacing (mm), origin (mm) and direction cosines between an image and its label.

Far above the rounding of NIfTI's 32-bit headers, far below a voxel.
"""

LARGEST_SHIFT = 0.5
"""Of its spacing, how far any voxel may be moved when a sheared grid is made orthogonal."""

SAME_PLACE = 0.1
"""Of a voxel, how far the corners of two grids may lie apart that are one grid with its axes in another order."""

Vector = tuple[float, ...]


@dataclass(frozen=True)
class Geometry:
    """The grid of a volume, in ITK's terms: axes x, y, z; millimetres; LPS world coordinates.

    Attributes:
        size: Voxels along x, y, z.
        spacing: Millimetres between voxel centres along x, y, z.
        origin: World coordinates of the first voxel's centre.
        direction: Row-major 3 x 3 matrix; its columns are the axes' directions.
    """

    size: tuple[int, ...]
    spacing: Vector
    origin: Vector
    direction: Vector

    @property
    def affine(self) -> np.ndarray:
        """NIfTI's 4 x 4 matrix: voxel indices to RAS world coordinates."""
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(self.direction, (3, 3)) * self.spacing
        affine[:3, 3] = self.origin
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine

    @property
    def axes(self) -> str:
        """Where the axes lead, such as `LPS`: nearest to left, to posterior, to superior."""
        return "".join(nib.orientations.aff2axcodes(self.affine))


def from_affine(size: tuple[int, ...], affine: np.ndarray) -> Geometry:
    """The geometry of NIfTI's 4 x 4 matrix, whose columns are orthogonal."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    numbers = (spacing, lps[:3, 3], (lps[:3, :3] / spacing).ravel())
    return Geometry(size, *(tuple(map(float, each)) for each in numbers))


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
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # ITK's remarks would come between our lines
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            return _without_shear(header, path, about, findings)
        raise _unreadable(path, about, str(error).splitlines()[-1].rpartition("ERROR: ")[2]) from error
    if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
        shape, values = " x ".join(map(str, reader.GetSize())), reader.GetNumberOfComponents()
        text = f"expected one grey-valued 3D volume, found {shape} with {values} value(s) a voxel"
        raise FaultyFileError(path, about, "not one volume", f"{text}; move the file away or replace it")
    geometry = Geometry(reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
    if about == "image" and not header["qform_code"] and not header["sform_code"]:
        text = f"the header holds no matrix: axes taken as ITK and nnU-Net take them, {geometry.axes}, from the origin"
        findings.append(Finding("warning", about, "no position", text))
    numbers = (*geometry.spacing, *geometry.origin, *geometry.direction)
    if not np.isfinite(numbers).all() or min(geometry.spacing) <= 0 or min(geometry.size) < 1:
        text = f"its size {numbers_of(geometry.size)} or spacing {numbers_of(geometry.spacing)} cannot be"
        raise FaultyFileError(path, about, "impossible header", f"{text}; replace the file by a good copy")
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
    reason = re.sub(r"\(0x[0-9a-f]+\)", "", reason.replace(str(path), "the file"))  # where ITK's objects are in memory
    text = f"the header cannot be read ({reason}); replace the file by a good copy"
    return FaultyFileError(path, about, "unreadable", text)


def size_of(header: nib.Nifti1Header) -> tuple[int, ...]:
    """Voxels along x, y, z."""
    return tuple(map(int, header.get_data_shape()[:3]))


def _without_shear(header: nib.Nifti1Header, path: Path, about: str, findings: list[Finding]) -> Geometry:
    """The orthogonal grid nearest to the sheared one of a NIfTI header, which ITK refuses to read.

    Its axes are the nearest rotation (polar decomposition, by SVD), its spacings the lengths of the sheared axes, its
    centre the same.
    """
    size, affine = size_of(header), np.asarray(header.get_best_affine(), np.float64)
    axes = affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    if not np.isfinite(affine).all() or spacing.min() <= 0:
        text = "its matrix of directions and spacings has no inverse; replace the file by a good copy"
        raise FaultyFileError(path, about, "impossible header", text)
    left, _, right = np.linalg.svd(axes / spacing)
    straight = np.eye(4)
    straight[:3, :3] = (left @ right) * spacing
    centre = (np.array(size) - 1) / 2
    straight[:3, 3] = affine[:3, 3] + (axes - straight[:3, :3]) @ centre
    corners = np.array(list(product(*((0, n - 1) for n in size))))
    moved = np.linalg.norm(nib.affines.apply_affine(affine - straight, corners), axis=1).max()
    if moved > LARGEST_SHIFT * spacing.min():
        text = (
            f"its axes are not at right angles (a tilted gantry?), and making them so moves voxels by {moved:.2g} mm, "
            f"more than {LARGEST_SHIFT:g} of their spacing; resample the scan to a straight grid or move the case away"
        )
        raise FaultyFileError(path, about, "shear", text)
    findings.append(Finding("repaired", about, "shear", f"axes made orthogonal, which moves voxels by {moved:.2g} mm"))
    return from_affine(size, straight)


def check_same_grid(
    of_images: Sequence[Geometry], of_label: Geometry, label: Path, findings: list[Finding]
) -> np.ndarray | None:
    """Compares the headers of an image and its label.

    Where the voxels lie is the image's to say: a label of the same shape whose header says otherwise is taken to lie on
    the image's grid, and reported. Not so where the header says the very same grid, its axes in another order or
    direction: those voxels are to be reordered.

    Args:
        of_images: The image's grid; if it was corrected, both the corrected one and that of the header.
        of_label: The label's.
        label: Its file, for messages.
        findings: What differs is added here.

    Returns:
        None if the label's voxels are in the image's order, else nibabel's orientation that brings them there.

    Raises:
        FaultyFileError: If the sizes differ.
    """
    if any(not _differences(of_image, of_label) for of_image in of_images):
        return None
    for of_image in of_images:
        if (orientation := _reordering(of_image, of_label)) is not None:
            text = f"its axes lead to {of_label.axes}, the image's to {of_image.axes}: voxels put in the image's order"
            findings.append(Finding("repaired", "label", "order of axes", text))
            return orientation
    of_image = of_images[0]
    differing = _differences(of_image, of_label)
    if "size" in differing:
        text = (
            f"its size {numbers_of(of_label.size)} is not the image's, {numbers_of(of_image.size)}; "
            "correct one of the two or move the pair away"
        )
        raise FaultyFileError(label, "label", "different size", text)
    what = differing[0]
    found, expected = numbers_of(getattr(of_label, what)), numbers_of(getattr(of_image, what))
    text = f"its {' and '.join(differing)} differ ({what} {found}, the image's {expected}): the image's header taken"
    findings.append(Finding("repaired", "label", "header differs", text))
    return None


def _differences(of_image: Geometry, of_label: Geometry) -> list[str]:
    """What two grids differ in by more than `TOLERANCE`."""
    return [
        what
        for what in ("size", "spacing", "origin", "direction")
        if not np.allclose(getattr(of_label, what), getattr(of_image, what), rtol=0, atol=TOLERANCE)
    ]


def _reordering(of_image: Geometry, of_label: Geometry) -> np.ndarray | None:
    """Of the label's axes; None where they are in the image's order, or its grid is another."""
    to_image = np.linalg.inv(of_image.affine) @ of_label.affine
    turn = np.round(to_image[:3, :3])
    if (turn == np.eye(3)).all():
        return None
    if not (np.abs(turn).sum(0) == 1).all() or not (np.abs(turn).sum(1) == 1).all():
        return None
    size = np.array(of_label.size)
    if tuple(np.abs(turn).astype(int) @ size) != of_image.size:
        return None
    corners = np.array(list(product(*((0, n - 1) for n in of_label.size))))
    mapped = nib.affines.apply_affine(to_image, corners)
    start = np.where(turn.sum(1) < 0, np.array(of_image.size) - 1, 0)  # a reversed axis begins at the other end
    if np.abs(mapped - (corners @ turn.T + start)).max() > SAME_PLACE:
        return None
    return np.array([[int(np.abs(column).argmax()), column.sum()] for column in turn.T])


def reorient(geometry: Geometry, axes: str) -> tuple[Geometry, np.ndarray]:
    """A grid with its axes in another order.

    Args:
        geometry: The grid.
        axes: Where they shall lead, such as `RAS`; of an oblique grid, nearest to that.

    Returns:
        The grid, and nibabel's orientation for its voxels.
    """
    wanted = nib.orientations.axcodes2ornt(tuple(axes))
    orientation = nib.orientations.ornt_transform(nib.io_orientation(geometry.affine), wanted)
    affine = geometry.affine @ nib.orientations.inv_ornt_aff(orientation, geometry.size)
    size = [0, 0, 0]
    for before, after in enumerate(orientation[:, 0].astype(int)):
        size[after] = geometry.size[before]
    return from_affine(tuple(size), affine), orientation


def numbers_of(values: Vector) -> str:
    """For messages."""
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"
