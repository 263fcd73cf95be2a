"""Where a volume lies in the patient: read from the header, compared within a tolerance."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its usual name

from nnunetv2_unet3plus.errors import UserError, explain

TOLERANCE = 1e-3
"""Largest accepted difference of spacing (mm), origin (mm) and direction cosines between an image and its label.

Far above the rounding of NIfTI's 32-bit headers, far below a voxel.
"""

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


def read_geometry(path: Path) -> Geometry:
    """Reads the header only.

    With ITK, as nnU-Net does: a header that can be understood in two ways then means the same here as in training.

    Raises:
        UserError: If the header cannot be read or is not that of one grey-valued 3D volume.
    """
    try:
        path.open("rb").close()  # ITK would say "does not exist" where permission is missing
    except OSError as error:
        raise explain(error) from error
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # ITK's remarks would come between our lines
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].rpartition("ERROR: ")[2]
        raise UserError(f"{path}: the header cannot be read ({reason}); replace the file by a good copy") from error
    if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
        shape = " x ".join(map(str, reader.GetSize()))
        raise UserError(
            f"{path}: expected one grey-valued 3D volume, found {shape} with "
            f"{reader.GetNumberOfComponents()} value(s) a voxel; move the file away or replace it"
        )
    return Geometry(reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())


def check_same_grid(image: Path, label: Path) -> None:
    """Compares the headers of an image and its label.

    Raises:
        UserError: If the sizes differ, or the spacing, origin or direction by more than `TOLERANCE`.
    """
    of_image, of_label = read_geometry(image), read_geometry(label)
    for what in ("size", "spacing", "origin", "direction"):
        expected, found = getattr(of_image, what), getattr(of_label, what)
        if not np.allclose(found, expected, rtol=0, atol=TOLERANCE):
            raise UserError(_mismatch(what, label, found, image, expected))


def _mismatch(what: str, label: Path, found: Vector, image: Path, expected: Vector) -> str:
    return (
        f"{label}: its {what} {_numbers(found)} is not that of {image}, {_numbers(expected)} "
        f"(tolerance {TOLERANCE:g}); correct one of the two or move the pair away"
    )


def _numbers(values: Vector) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"
