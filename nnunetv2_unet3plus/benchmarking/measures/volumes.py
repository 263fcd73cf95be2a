"""How much is predicted, and how much of it where nothing is."""

import numpy as np


def measure_volumes(
    truth: np.ndarray, prediction: np.ndarray, voxel_ml: float, axial_axis: int, counted: np.ndarray
) -> dict[str, float]:
    """The error of a mask's volume, and its volume in a scan and in slices without the class.

    Args:
        truth: mask of bool.
        prediction: mask of bool on the same grid.
        voxel_ml: volume of a voxel.
        axial_axis: the axis that counts the axial slices.
        counted: which axial slices have any voxel that is not ignored; the others are not slices without the class.

    Returns:
        `volume_error`, `false_positive_scan` and `false_positive_slices` in ml, as in `results.MEASURES`.
    """
    plane = tuple(axis for axis in range(truth.ndim) if axis != axial_axis)
    present = truth.any(axis=plane)
    without = counted & ~present
    volume = np.count_nonzero(prediction) * voxel_ml
    stray = np.count_nonzero(prediction.compress(without, axis=axial_axis)) * voxel_ml
    return {
        "volume_error": volume - np.count_nonzero(truth) * voxel_ml,
        "false_positive_scan": volume if counted.any() and not present.any() else float("nan"),
        "false_positive_slices": stray if without.any() else float("nan"),
    }
