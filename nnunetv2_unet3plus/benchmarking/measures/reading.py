"""A scan's two masks, as their files have them."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its usual name
import skimage.io
import tifffile

from nnunetv2_unet3plus.conversion import itk
from nnunetv2_unet3plus.conversion.nifti import read_voxels
from nnunetv2_unet3plus.conversion.nifti_header import nifti_header
from nnunetv2_unet3plus.errors import UserError, explain

_EXPECTED = "expected one 2D or 3D image with one value a voxel"

_SAME_SPACING = 1e-3
"""The relative difference up to which two spacings are one, written to headers of different precision."""


@dataclass(frozen=True)
class Mask:
    """A segmentation.

    Attributes:
        voxels: label values, (z, y, x); of a 2D image (1, y, x).
        spacing_mm: along those axes; None where the file does not say.
        axial_axis: the axis nearest to the patient's superior-inferior.
    """

    voxels: np.ndarray
    spacing_mm: tuple[float, ...] | None
    axial_axis: int = 0


@dataclass(frozen=True)
class Pair:
    """A reference and a prediction on one grid.

    Attributes:
        truth: label values, (z, y, x).
        prediction: label values, (z, y, x).
        spacing_mm: along those axes.
        axial_axis: the axis nearest to the patient's superior-inferior.
    """

    truth: np.ndarray
    prediction: np.ndarray
    spacing_mm: tuple[float, ...]
    axial_axis: int


def read_pair(truth_path: Path, prediction_path: Path) -> Pair:
    """Reads a reference and its prediction.

    Origin and directions are not compared: nnU-Net does not, and those of labels are often a little off.

    Raises:
        UserError: If one cannot be read, or they differ in shape or spacing.
    """
    truth, prediction = read_mask(truth_path), read_mask(prediction_path)
    if truth.voxels.shape != prediction.voxels.shape:
        size, expected = (" x ".join(map(str, mask.voxels.shape[::-1])) for mask in (prediction, truth))
        raise UserError(f"{prediction_path}: {size} voxels, the reference {truth_path} has {expected}")
    # nnU-Net keeps a TIFF volume's spacing in a file beside it, which it does not copy with the references
    spacing = truth.spacing_mm or prediction.spacing_mm or (1.0, 1.0, 1.0)
    predicted_spacing = prediction.spacing_mm or spacing
    if not np.allclose(predicted_spacing, spacing, rtol=_SAME_SPACING):
        found, expected = (" x ".join(f"{each:g}" for each in mm[::-1]) for mm in (predicted_spacing, spacing))
        raise UserError(f"{prediction_path}: voxels of {found} mm, in the reference {truth_path} of {expected} mm")
    return Pair(truth.voxels, prediction.voxels, spacing, truth.axial_axis)


def read_mask(path: Path) -> Mask:
    """Reads any format that nnU-Net does.

    Raises:
        UserError: If there is no such file, or it is not one 2D or 3D image with one value a voxel.
    """
    name = path.name.lower()
    try:
        path.stat()  # ITK does not tell why it could not read
        if name.endswith((".nii", ".nii.gz")):
            return _read_nifti(path)
        return _read_picture(path) if name.endswith((".png", ".bmp", ".tif", ".tiff")) else _read_volume(path)
    except OSError as error:
        if error.strerror is None:  # Pillow's and tifffile's own
            raise _unreadable(path, error) from error
        raise explain(error, path) from error
    except (RuntimeError, ValueError, KeyError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be read: {itk.reason_of(error, [path])}")


def _read_volume(path: Path) -> Mask:
    itk.silence()
    image = sitk.ReadImage(str(path))
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[..., 0]
    if image.GetDimension() > 3 or image.GetNumberOfComponentsPerPixel() > 1:
        raise ValueError(_EXPECTED)
    voxels, spacing = sitk.GetArrayFromImage(image), image.GetSpacing()[::-1]
    if image.GetDimension() == 2:
        return Mask(voxels[None], (1.0, *spacing))
    return Mask(voxels, spacing, _axial_axis(np.reshape(image.GetDirection(), (3, 3))[2]))


def _read_nifti(path: Path) -> Mask:
    """Reads the header with ITK, as nnU-Net does, and the voxels with nibabel.

    Of a truncated file ITK would make voxels up. It refuses axes that are not at right angles, which nnU-Net reads
    with nibabel then, and measures as if they were.
    """
    header = nifti_header(path, "label")
    if math.prod(header.get_data_shape()[3:]) != 1:
        raise ValueError(_EXPECTED)
    voxels = read_voxels(path, "label").T
    if voxels.ndim == 2:
        return Mask(voxels[None], (1.0, *map(float, header.get_zooms()[1::-1])))
    itk.silence()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        spacing, superior = reader.GetSpacing(), np.reshape(reader.GetDirection(), (3, 3))[2]
    except RuntimeError:
        axes = header.get_best_affine()[:3, :3]
        spacing = tuple(map(float, np.linalg.norm(axes, axis=0)))
        superior = axes[2] / spacing
    return Mask(voxels, spacing[::-1], _axial_axis(superior))


def _axial_axis(superior: np.ndarray) -> int:
    """The array's axis, given how far each image axis, x, y, z, leads to superior."""
    return 2 - int(np.abs(superior).argmax())


def _read_picture(path: Path) -> Mask:
    """Reads PNG, BMP and TIFF with what nnU-Net reads them.

    ITK would take the dots per inch of a TIFF for its spacing, and does not know the JSON file with a `spacing` that
    nnU-Net looks for beside a TIFF volume.
    """
    if not path.suffix.lower().startswith(".tif"):
        voxels = skimage.io.imread(path)
        if voxels.ndim != 2:
            raise ValueError(_EXPECTED)
        return Mask(voxels[None], None)
    voxels = tifffile.imread(path)  # scikit-image swaps the axes of volumes with three or four slices
    if voxels.ndim == 2:
        return Mask(voxels[None], None)
    if voxels.ndim != 3:
        raise ValueError(_EXPECTED)
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return Mask(voxels, None)
    z, y, x = json.loads(beside.read_text())["spacing"]
    return Mask(voxels, (float(z), float(y), float(x)))
