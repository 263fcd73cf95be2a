"""A scan's two masks, as their files have them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 - its usual name

from nnunetv2_unet3plus.conversion import itk
from nnunetv2_unet3plus.errors import UserError, explain

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
    try:
        path.stat()  # ITK does not tell why it could not read
        return _read_picture(path) if path.suffix.lower() in (".png", ".bmp", ".tif", ".tiff") else _read_volume(path)
    except OSError as error:
        raise explain(error, path) from error
    except (RuntimeError, ValueError, KeyError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG
        raise UserError(f"{path}: cannot be read: {itk.reason_of(error, [path])}") from error


def _read_volume(path: Path) -> Mask:
    itk.silence()
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        if path.name.lower().endswith((".nii", ".nii.gz")):
            return _read_sheared(path)
        raise
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[..., 0]
    if image.GetDimension() > 3 or image.GetNumberOfComponentsPerPixel() > 1:
        raise ValueError("expected one 2D or 3D image with one value a voxel")
    voxels, spacing = sitk.GetArrayFromImage(image), image.GetSpacing()[::-1]
    if image.GetDimension() == 2:
        return Mask(voxels[None], (1.0, *spacing))
    superior = np.reshape(image.GetDirection(), (3, 3))[2]
    return Mask(voxels, spacing, _axial_axis(superior))


def _read_sheared(path: Path) -> Mask:
    """Reads a NIfTI file whose axes are not at right angles: ITK refuses it, nnU-Net falls back to nibabel."""
    try:
        image = cast(nib.Nifti1Image, nib.load(path))
        voxels = np.asanyarray(image.dataobj).T
        affine = image.affine
    except nib.filebasedimages.ImageFileError as error:
        raise ValueError(str(error)) from error
    if voxels.ndim != 3:
        raise ValueError("expected one 2D or 3D image with one value a voxel")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return Mask(voxels, tuple(map(float, spacing[::-1])), _axial_axis(affine[2, :3] / spacing))


def _axial_axis(superior: np.ndarray) -> int:
    """The array's axis, given how far each image axis, x, y, z, leads to superior."""
    return 2 - int(np.abs(superior).argmax())


def _read_picture(path: Path) -> Mask:
    """Reads PNG, BMP and TIFF with what nnU-Net reads them.

    ITK would take the dots per inch of a TIFF for its spacing, and does not know the JSON file with a `spacing` that
    nnU-Net looks for beside a TIFF volume.
    """
    from skimage.io import imread

    voxels = imread(path)
    if voxels.ndim == 2:
        return Mask(voxels[None], None)
    if voxels.ndim != 3 or path.suffix.lower() in (".png", ".bmp"):
        raise ValueError("expected one image with one value a pixel")
    beside = path.with_suffix(".json")
    spacing = tuple(map(float, json.loads(beside.read_text())["spacing"])) if beside.is_file() else None
    if spacing is not None and len(spacing) != 3:
        raise ValueError(f"expected three numbers as spacing in {beside.name}")
    return Mask(voxels, spacing)
