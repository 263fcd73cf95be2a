"""Where a volume lies in the patient."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 - its usual name

from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding

LARGEST_SHIFT = 0.5
"""Of its spacing, how far any voxel may be moved when a sheared grid is made orthogonal."""

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


def grid_of(reader: sitk.ImageFileReader, path: Path, about: str) -> Geometry:
    """The grid of a header that ITK has read.

    Raises:
        FaultyFileError: If it is not that of one grey-valued 3D volume, or cannot be.
    """
    if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
        shape, values = " x ".join(map(str, reader.GetSize())), reader.GetNumberOfComponents()
        text = f"expected one grey-valued 3D volume, found {shape} with {values} value(s) a voxel"
        raise FaultyFileError(path, about, "not one volume", f"{text}; move the file away or replace it")
    geometry = Geometry(reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
    numbers = (*geometry.spacing, *geometry.origin, *geometry.direction)
    if not np.isfinite(numbers).all() or min(geometry.spacing) <= 0 or min(geometry.size) < 1:
        text = f"its size {numbers_of(geometry.size)} or spacing {numbers_of(geometry.spacing)} cannot be"
        raise FaultyFileError(path, about, "impossible header", f"{text}; replace the file by a good copy")
    return geometry


def straightened(
    size: tuple[int, ...], affine: np.ndarray, path: Path, about: str, findings: list[Finding]
) -> Geometry:
    """The orthogonal grid nearest to a sheared one, which ITK refuses to read.

    Its axes are the nearest rotation (polar decomposition, by SVD), its spacings the lengths of the sheared axes, its
    centre the same.

    Args:
        size: Voxels along x, y, z.
        affine: NIfTI's 4 x 4 matrix.
        path: The file, for messages.
        about: "image" or "label", for the findings.
        findings: What was repaired is added here.

    Raises:
        FaultyFileError: If that would move a voxel by more than `LARGEST_SHIFT` of the spacing.
    """
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
