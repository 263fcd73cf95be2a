"""Pictures of the demo's segmentations over the CT."""

from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nnunetv2_unet3plus.overlay import COLOURS, CT_WINDOW, as_seen, colour, grey, largest_slice

Array = np.ndarray

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
    scene, *masks = (as_seen(volume[:, :, z]) for volume in (hu, reference, found))
    _save_figure(colour(grey(scene, CT_WINDOW), *masks), image.header.get_zooms(), picture, title)


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
