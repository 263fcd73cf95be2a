"""Pictures of a segmentation over the CT, in the colours of Figure 4 of the UNet 3+ paper."""

from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

Array = np.ndarray

COLOURS = {
    "true positive": (0.60, 0.20, 0.80),  # purple
    "false negative": (1.00, 0.85, 0.00),  # yellow
    "false positive": (0.10, 0.80, 0.25),  # green
}
OPACITY = 0.5
WINDOW = (-160.0, 240.0)  # HU; the usual one for the abdomen
INCHES = 5.0


def save_overlay(scan: Path, truth: Path, prediction: Path, picture: Path, title: str) -> None:
    """Draw the axial slice with the largest organ area.

    Every label counts as organ. The patient's right is on the left of the picture, as radiologists look at it.

    Args:
        scan: CT in HU; all three files on the same grid.
        truth: Reference segmentation.
        prediction: Segmentation to judge.
        picture: PNG to write.
        title: Line above the picture.
    """
    image = nib.as_closest_canonical(nib.load(scan))
    hu = np.asanyarray(image.dataobj)
    reference, found = (
        np.asanyarray(nib.as_closest_canonical(nib.load(path)).dataobj) > 0 for path in (truth, prediction)
    )
    z = largest_slice(reference if reference.any() else found)
    rgb = colour(*(_as_seen(volume[:, :, z]) for volume in (hu, reference, found)))
    _save_figure(rgb, image.header.get_zooms(), picture, title)


def largest_slice(mask: Array) -> int:
    """Find the slice along the last axis with the most voxels; the middle one of an empty mask."""
    areas = mask.sum(axis=(0, 1))
    return int(areas.argmax()) if areas.any() else mask.shape[-1] // 2


def colour(hu: Array, truth: Array, prediction: Array) -> Array:
    """Lay the three kinds of pixels over a grey slice.

    Args:
        hu: Intensities, (rows, columns).
        truth: Reference mask, same shape.
        prediction: Mask to judge, same shape.

    Returns:
        RGB in [0, 1], (rows, columns, 3).
    """
    low, high = WINDOW
    rgb = np.repeat(np.clip((hu[..., None] - low) / (high - low), 0, 1), 3, axis=-1)
    kinds = (truth & prediction, truth & ~prediction, ~truth & prediction)
    for mask, paint in zip(kinds, COLOURS.values(), strict=True):
        rgb[mask] = (1 - OPACITY) * rgb[mask] + OPACITY * np.array(paint)
    return rgb


def _as_seen(axial: Array) -> Array:
    """Turn a slice indexed (to the right, to the front) into rows from front to back, the right side first."""
    return axial[::-1, ::-1].T


def _save_figure(rgb: Array, millimetres: tuple[float, ...], picture: Path, title: str) -> None:
    rows, columns = rgb.shape[0] * millimetres[1], rgb.shape[1] * millimetres[0]
    figure = Figure(figsize=(INCHES, INCHES * rows / columns + 0.7), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(rgb, extent=(0, columns, rows, 0), interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title)
    legend = [Patch(color=paint, label=kind) for kind, paint in COLOURS.items()]
    figure.legend(handles=legend, loc="outside lower center", ncols=len(legend), frameon=False, fontsize="small")
    figure.savefig(picture, dpi=150)
