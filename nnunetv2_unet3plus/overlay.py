"""A segmentation over a slice of its scan, in the colours of Figure 4 of the UNet 3+ paper."""

from pathlib import Path

import nibabel as nib
import numpy as np

Array = np.ndarray

COLOURS = {
    "true positive": (0.60, 0.20, 0.80),  # purple
    "false negative": (1.00, 0.85, 0.00),  # yellow
    "false positive": (0.10, 0.80, 0.25),  # green
}
OPACITY = 0.5
CT_WINDOW = (-160.0, 240.0)  # HU; the usual one for the abdomen


def largest_slice(mask: Array) -> int:
    """Find the slice along the last axis with the most voxels; the middle one of an empty mask."""
    areas = mask.sum(axis=(0, 1))
    return int(areas.argmax()) if areas.any() else mask.shape[-1] // 2


def grey(intensities: Array, window: tuple[float, float]) -> Array:
    """Bring intensities of any shape into [0, 1]: black at and below the window's lower end, white above the other."""
    low, high = window
    return np.clip((intensities - low) / (high - low or 1.0), 0, 1)


def colour(background: Array, truth: Array, prediction: Array) -> Array:
    """Lay the three kinds of pixels over a grey slice.

    Args:
        background: Grey values in [0, 1], (rows, columns).
        truth: Reference, same shape; a mask, or classes of which 0 is the background.
        prediction: Segmentation to judge, same shape. A pixel given another class than its own is a false negative.

    Returns:
        RGB in [0, 1], (rows, columns, 3).
    """
    rgb = np.repeat(background[..., None].astype(float), 3, axis=-1)
    in_truth, same = truth != 0, truth == prediction
    kinds = (in_truth & same, in_truth & ~same, ~in_truth & ~same)
    for mask, paint in zip(kinds, COLOURS.values(), strict=True):
        rgb[mask] = (1 - OPACITY) * rgb[mask] + OPACITY * np.array(paint)
    return rgb


def as_seen(axial: Array) -> Array:
    """Turn a slice indexed (to the right, to the front) into rows from front to back, the right side first."""
    return axial[::-1, ::-1].T


def load(path: Path) -> nib.Nifti1Image:
    """Open a scan or a segmentation of any format nnU-Net reads, voxels unread where the format allows.

    Raises:
        OSError, RuntimeError, nibabel.filebasedimages.ImageFileError: If it cannot be read.
    """
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return nib.Nifti1Image.from_filename(path)
    import SimpleITK as sitk  # noqa: N813 - its usual name; only for the rarer formats

    image = sitk.ReadImage(str(path))
    voxels = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        voxels = voxels[..., 0]
    dimension = image.GetDimension()
    affine = np.eye(4)
    affine[:dimension, :dimension] = np.reshape(image.GetDirection(), (dimension,) * 2) * image.GetSpacing()
    affine[:2] *= -1  # ITK's axes point to the left and to the back
    return nib.Nifti1Image(voxels.T.reshape((*voxels.T.shape, 1)[:3]), affine)
