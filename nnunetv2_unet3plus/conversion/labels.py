"""From the label values of a source to nnU-Net's."""

from pathlib import Path

import numpy as np

from nnunetv2_unet3plus.conversion.description import LabelScheme
from nnunetv2_unet3plus.errors import UserError

_SHOWN = 10


def encode_labels(voxels: np.ndarray, scheme: LabelScheme, path: Path) -> np.ndarray:
    """Checks and merges label values.

    Args:
        voxels: A segmentation of any shape; floating point is fine as long as the values are whole.
        scheme: What to expect and what to make of it.
        path: The segmentation's file, for the message.

    Returns:
        uint8, same shape.

    Raises:
        UserError: If there are values the scheme does not expect.
    """
    strange = voxels[_none_of(voxels, scheme.expected)]
    if strange.size:
        values = np.unique(strange)
        shown = ", ".join(f"{value:g}" for value in values[:_SHOWN]) + (", ..." if values.size > _SHOWN else "")
        expected = ", ".join(map(str, scheme.expected))
        raise UserError(
            f"{path}: unexpected label values {shown} in {strange.size} voxels (expected {expected}); "
            "correct the file or move the pair away"
        )
    encoded = voxels.astype(np.uint8)
    for value, becomes in scheme.merged.items():
        encoded[encoded == value] = becomes
    return encoded


def _none_of(voxels: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    """`~np.isin`, which needs many times the memory of a volume."""
    found = np.zeros_like(voxels, bool)  # in the memory order of the voxels
    for value in values:
        found |= voxels == value
    return ~found
