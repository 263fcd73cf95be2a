"""Whether an image and its label lie on the same grid, and what becomes of a label that does not."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding
from nnunetv2_unet3plus.conversion.geometry import Geometry, numbers_of

TOLERANCE = 1e-3
"""Largest accepted difference of spacing (mm), origin (mm) and direction cosines between an image and its label.

Far above the rounding of NIfTI's 32-bit headers, far below a voxel.
"""

SAME_PLACE = 0.1
"""Of a voxel, how far the corners of two grids may lie apart that are one grid with its axes in another order."""


def check_same_grid(
    of_images: Sequence[Geometry],
    of_label: Geometry,
    label: Path,
    findings: list[Finding],
    *,
    must_lie_there: bool = False,
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
        must_lie_there: The label's header counts, too: refuse what lies elsewhere.

    Returns:
        None if the label's voxels are in the image's order, else nibabel's orientation that brings them there.

    Raises:
        FaultyFileError: If the sizes differ, or the places do and must not.
    """
    if any(not differences(of_image, of_label) for of_image in of_images):
        return None
    for of_image in of_images:
        if (orientation := _reordering(of_image, of_label)) is not None:
            text = f"its axes lead to {of_label.axes}, the image's to {of_image.axes}: voxels put in the image's order"
            findings.append(Finding("repaired", "label", "order of axes", text))
            return orientation
    of_image = of_images[0]
    differing = differences(of_image, of_label)
    if "size" in differing:
        text = (
            f"its size {numbers_of(of_label.size)} is not the image's, {numbers_of(of_image.size)}; "
            "correct one of the two or move the pair away"
        )
        raise FaultyFileError(label, "label", "different size", text)
    what = differing[0]
    found, expected = numbers_of(getattr(of_label, what)), numbers_of(getattr(of_image, what))
    if must_lie_there and _apart(of_image, of_label) > SAME_PLACE:
        text = (
            f"its {' and '.join(differing)} differ ({what} {found}, the image's {expected}): it belongs to another "
            "scan, or lost its place; export it on the image's grid"
        )
        raise FaultyFileError(label, "label", "other grid", text)
    text = f"its {' and '.join(differing)} differ ({what} {found}, the image's {expected}): the image's header taken"
    findings.append(Finding("repaired", "label", "header differs", text))
    return None


def _apart(of_image: Geometry, of_label: Geometry) -> float:
    """How far the same corners of two grids of one size lie apart, in voxels of the image."""
    corners = np.array(list(product(*((0, n - 1) for n in of_image.size))))
    mapped = nib.affines.apply_affine(np.linalg.inv(of_image.affine) @ of_label.affine, corners)
    return float(np.abs(mapped - corners).max())


def is_same_grid(first: Geometry, second: Geometry) -> bool:
    """Whether two grids are the same, perhaps with their axes in another order."""
    return not differences(first, second) or _reordering(first, second) is not None


def differences(of_image: Geometry, of_label: Geometry) -> list[str]:
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
