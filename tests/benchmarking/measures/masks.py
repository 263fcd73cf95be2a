"""Pairs of masks that measures are tried on."""

import numpy as np
from scipy import ndimage

SHAPE = (9, 22, 25)


def box(shape, *bounds):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*each) for each in bounds)] = True
    return mask


def blob(seed, shape=SHAPE):
    """Smooth random pieces that reach the border here and there."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return noise > 0.5 * noise.std()


def scattered(seed, share, shape=SHAPE):
    return np.random.default_rng(seed).random(shape) < share


VOXEL = box(SHAPE, (4, 5), (11, 12), (12, 13))
FULL = np.ones(SHAPE, bool)
SHEET = box(SHAPE, (5, 6), (3, 18), (2, 20))

PAIRS = {
    "blobs": (blob(0), blob(1)),
    "overlapping blobs": (blob(2), ndimage.shift(blob(2).astype(float), (1, 2, 0), order=0) > 0),
    "equal": (blob(3), blob(3)),
    "noise": (scattered(0, 0.3), scattered(1, 0.3)),
    "noise beside a blob": (scattered(2, 0.01), blob(4)),
    "one voxel each": (VOXEL, np.roll(VOXEL, (2, 3, -4), (0, 1, 2))),
    "one voxel, equal": (VOXEL, VOXEL),
    "one voxel and a blob": (VOXEL, blob(5)),
    "voxels in opposite corners": (box(SHAPE, (0, 1), (0, 1), (0, 1)), box(SHAPE, (8, 9), (21, 22), (24, 25))),
    "along the border": (box(SHAPE, (0, 9), (0, 3), (0, 25)), box(SHAPE, (0, 2), (0, 22), (20, 25))),
    "full and full": (FULL, FULL),
    "full and a blob": (FULL, blob(6)),
    "full and one voxel": (FULL, VOXEL),
    "full with a hole": (FULL & ~np.roll(VOXEL, 1, 1), FULL & ~VOXEL),
    "thin sheets": (SHEET, np.roll(SHEET, 2, 0)),
    "upright sheets": (box(SHAPE, (1, 8), (3, 4), (2, 20)), box(SHAPE, (1, 8), (2, 20), (5, 6))),
    "a line": (box(SHAPE, (0, 9), (7, 8), (7, 8)), box(SHAPE, (4, 5), (7, 8), (0, 25))),
}

SPACINGS = {"isotropic": (1.0, 1.0, 1.0), "thick": (5.0, 0.7, 0.7), "odd": (1.3, 2.9, 0.45)}
