"""A label stored the other way round than its image, under a header that says otherwise.

No header betrays it, and nnU-Net's own check passes. What can betray it is the tissue: an organ's voxels are of one
brightness, those of its mirror image are a mixture of whatever lies there.
"""

from itertools import product

import numpy as np

from nnunetv2_unet3plus.conversion.findings import Finding

SAMPLED = 20_000
"""Voxels of the label that are looked at."""

SUSPICIOUS = 0.7
"""Of the spread under the label as stored, that of a mirror image must be less than this to be reported."""

_NAMES = "xyz"


def find_flip(image: np.ndarray, label: np.ndarray) -> Finding | None:
    """Looks for a mirror image of the label that fits the image much better than the label itself.

    Args:
        image: Intensities, `(x, y, z)`.
        label: Labels on the same grid; everything above 0 counts as one.

    Returns:
        A warning, or None.
    """
    where = np.flatnonzero(label)
    if not where.size:
        return None
    places = np.unravel_index(where[:: max(1, where.size // SAMPLED)], label.shape)
    spreads = {mirrored: _spread(image, places, mirrored) for mirrored in product((False, True), repeat=3)}
    as_stored = spreads.pop((False,) * 3)
    best = min(spreads, key=lambda mirrored: spreads[mirrored])
    if not as_stored > 0 or spreads[best] >= SUSPICIOUS * as_stored:
        return None
    axes = " and ".join(name for name, is_mirrored in zip(_NAMES, best, strict=True) if is_mirrored)
    text = (
        f"mirrored along {axes} it would cover tissue of more even brightness (spread {spreads[best]:.3g}, as stored "
        f"{as_stored:.3g}): look whether it lies on the organ"
    )
    return Finding("warning", "label", "mirrored?", text)


def _spread(image: np.ndarray, places: tuple[np.ndarray, ...], mirrored: tuple[bool, ...]) -> float:
    """Mean distance from the median of the intensities under the label or one of its mirror images."""
    indices = tuple(
        size - 1 - index if flip else index for size, index, flip in zip(image.shape, places, mirrored, strict=True)
    )
    values = image[indices].astype(np.float32)
    return float(np.abs(values - np.median(values)).mean())
