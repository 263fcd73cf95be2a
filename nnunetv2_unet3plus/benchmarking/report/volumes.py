"""Scans and segmentations, read a slice at a time."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunetv2_unet3plus.overlay import largest_slice, load

Array = np.ndarray


class Volume:
    """A scan or a segmentation.

    Attributes:
        image: as opened.
        axis: its axial axis.
        is_flipped: that axis points down.
        shape: voxels to the right, to the front and up.
        spacing: of a slice, millimetres to the right and to the front.

    Raises:
        ValueError: for an affine that is not of three axes; and whatever `overlay.load` raises.
    """

    def __init__(self, path: Path) -> None:
        self.image = load(path)
        orientation = nib.io_orientation(self.image.affine)
        if np.isnan(orientation).any():
            raise ValueError("its affine leaves out an axis")
        self.axis = int(np.flatnonzero(orientation[:, 0] == 2)[0])
        self.is_flipped = orientation[self.axis, 1] < 0
        order = np.argsort(orientation[:, 0])
        self.shape = tuple(int(self.image.shape[axis]) for axis in order)
        zooms = self.image.header.get_zooms()
        self.spacing = (float(zooms[order[0]]), float(zooms[order[1]]))

    def axial(self, z: int) -> Array:
        """Slice z from below, indexed (to the right, to the front)."""
        k = self.shape[2] - 1 - z if self.is_flipped else z
        index = tuple(slice(k, k + 1) if axis == self.axis else slice(None) for axis in range(3))
        return np.asanyarray(nib.as_closest_canonical(self.image.slicer[index]).dataobj).reshape(*self.shape[:2])

    def largest(self, values: Sequence[int]) -> int | None:
        """The axial slice with most voxels of these label values; None if they are nowhere."""
        mask = np.isin(np.asanyarray(self.image.dataobj), values).reshape(self.image.shape[:3])
        if not mask.any():
            return None
        k = largest_slice(np.moveaxis(mask, self.axis, -1))
        return self.shape[2] - 1 - k if self.is_flipped else k
