"""A label stored the other way round than its image, under a header that says otherwise.

No header betrays it, and nnU-Net's own check passes. What can betray it is the tissue: a solid organ's voxels are of
one brightness, those of its mirror image are a mixture of whatever lies there. Hollow organs have no such evidence.

How reliable: of seven livers and a spleen in real CT, each mirrored in seven ways, 52 of 56 were noticed, and none of
the eight that lay right was called mirrored (`python -m benchmarks.accuracy.mirrored_labels`).
"""

from itertools import product
from typing import Literal

import numpy as np

from nnunetv2_unet3plus.conversion.findings import Finding

SAMPLED = 20_000
"""Voxels of the label that are looked at."""

FEWEST = 200
"""Voxels a label must have: of fewer, a mirror image is more even by chance."""

SUSPICIOUS = 0.7
"""Of the spread under the label as stored, that of a mirror image must be less than this to be reported."""

_DIRECTIONS = {frozenset("LR"): "left and right", frozenset("AP"): "front and back", frozenset("SI"): "up and down"}


def find_flip(image: np.ndarray, label: np.ndarray, axes: str) -> Finding | None:
    """Looks for a mirror image of the label that fits the image much better than the label itself.

    Args:
        image: Intensities, `(x, y, z)`.
        label: Labels on the same grid; everything above 0 counts as one.
        axes: Where the axes lead, such as `LPS`.

    Returns:
        A warning, or None.
    """
    order: Literal["C", "F"] = "F" if label.flags.f_contiguous else "C"  # of memory, in which no copy is needed
    where = np.flatnonzero(label.ravel(order))
    if where.size < FEWEST:
        return None
    places = np.unravel_index(where[:: max(1, where.size // SAMPLED)], label.shape, order)
    stored_median, stored = _median_and_spread(image, places, (False, False, False))
    background = _brightness_around(image)
    best, lowest = None, SUSPICIOUS * stored
    for mirrored in list(product((False, True), repeat=3))[1:]:
        median, spread = _median_and_spread(image, places, mirrored)
        # air is even, too, but no place for an organ: as bright as the surroundings, unlike what the label lies on
        is_air = abs(median - background) <= stored / 2 and abs(median - stored_median) > stored
        if spread < lowest and not is_air:
            best, lowest = mirrored, spread
    if best is None:
        return None
    directions = " and ".join(
        next(words for pair, words in _DIRECTIONS.items() if axis in pair)
        for axis, is_mirrored in zip(axes, best, strict=True)
        if is_mirrored
    )
    text = (
        f"with {directions} exchanged it would cover tissue of more even brightness (spread {lowest:.3g}, as stored "
        f"{stored:.3g}): look whether it lies on the organ"
    )
    return Finding("warning", "label", "mirrored?", text)


def _brightness_around(image: np.ndarray) -> float:
    """Median over the six faces of the volume, every fourth voxel of them along each axis."""
    faces = [np.moveaxis(image, axis, 0)[end, ::4, ::4].ravel() for axis in range(3) for end in (0, -1)]
    return float(np.median(np.concatenate(faces)))


def _median_and_spread(
    image: np.ndarray, places: tuple[np.ndarray, ...], mirrored: tuple[bool, ...]
) -> tuple[float, float]:
    """Of the intensities under the label or one of its mirror images; spread is the mean distance from the median."""
    indices = tuple(
        size - 1 - index if flip else index for size, index, flip in zip(image.shape, places, mirrored, strict=True)
    )
    values = image[indices].astype(np.float64)
    median = float(np.median(values))
    return median, float(np.abs(values - median).mean())
