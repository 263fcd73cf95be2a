"""From the label values of a source to nnU-Net's."""

from pathlib import Path

import numpy as np

from nnunetv2_unet3plus.conversion.description import LabelScheme
from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding

ROUNDING = 1e-3
"""How far a label stored in floating point may lie from a whole number."""

_SHOWN = 10


def encode_labels(
    voxels: np.ndarray, scheme: LabelScheme, path: Path, findings: list[Finding] | None = None
) -> np.ndarray:
    """Checks and merges label values.

    Args:
        voxels: A segmentation of any shape; floating point is fine as long as the values are whole but for rounding.
        scheme: What to expect and what to make of it.
        path: The segmentation's file, for the message.
        findings: That values were rounded is added here.

    Returns:
        uint8, same shape.

    Raises:
        FaultyFileError: If there are values the scheme does not expect.
    """
    if voxels.dtype.kind == "f":
        voxels = _rounded(voxels, findings)
    strange = voxels[_none_of(voxels, scheme.expected)]
    if strange.size:
        values = np.unique(strange)
        shown = ", ".join(f"{value:g}" for value in values[:_SHOWN]) + (", ..." if values.size > _SHOWN else "")
        expected = ", ".join(map(str, scheme.expected))
        text = (
            f"unexpected label values {shown} in {strange.size} voxels (expected {expected}); "
            "correct the file or move the pair away"
        )
        raise FaultyFileError(path, "label", "unexpected labels", text)
    encoded = voxels.astype(np.uint8)
    for value, becomes in scheme.merged.items():
        encoded[encoded == value] = becomes
    return encoded


def _rounded(voxels: np.ndarray, findings: list[Finding] | None) -> np.ndarray:
    """Whole numbers where they are meant; what is further away stays, to be refused by its value."""
    whole = np.rint(voxels)
    with np.errstate(invalid="ignore"):  # infinite minus infinite
        apart = np.abs(voxels - whole)
        meant = (apart > 0) & (apart <= ROUNDING)
    if not meant.any():
        return voxels
    if findings is not None:
        text = f"{int(meant.sum())} voxels are not whole numbers, by up to {apart[meant].max():.2g}: rounded"
        findings.append(Finding("repaired", "label", "labels not whole", text))
    return np.where(meant, whole, voxels)


def _none_of(voxels: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    """`~np.isin`, which needs many times the memory of a volume."""
    found = np.zeros_like(voxels, bool)  # in the memory order of the voxels
    for value in values:
        found |= voxels == value
    return ~found
