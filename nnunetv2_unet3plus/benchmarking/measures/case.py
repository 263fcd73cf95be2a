"""All measures of one scan."""

from collections.abc import Sequence
from functools import reduce

import numpy as np

from nnunetv2_unet3plus.benchmarking.measures.overlap import measure_overlap
from nnunetv2_unet3plus.benchmarking.measures.surface import measure_surfaces
from nnunetv2_unet3plus.benchmarking.measures.volumes import measure_volumes
from nnunetv2_unet3plus.benchmarking.results import MEASURES, Labels

MM3_PER_ML = 1000


def measure_case(
    truth: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float], labels: Labels, axial_axis: int
) -> dict[str, dict[str, float]]:
    """The measures of every class of a scan.

    Voxels that the reference ignores belong to no class, neither in the reference nor in the prediction: surfaces end
    there, in both.

    Args:
        truth: label values of the reference, (z, y, x); of a 2D image (1, y, x).
        prediction: predicted label values on the same grid.
        spacing_mm: voxel spacing along (z, y, x).
        labels: the classes.
        axial_axis: the axis of the arrays that counts the axial slices.

    Returns:
        Label -> measure -> figure, both in their order in `labels` and `MEASURES`; NaN where it is not defined.

    Raises:
        ValueError: If the two are not on one three-dimensional grid.
    """
    if truth.shape != prediction.shape or truth.ndim != 3:
        raise ValueError(f"expected masks on one grid (z, y, x), found {truth.shape} and {prediction.shape}")
    counted = np.ones(truth.shape[axial_axis], bool)
    if labels.ignore is not None:
        ignored = truth == labels.ignore
        counted = ~ignored.all(axis=tuple(axis for axis in range(3) if axis != axial_axis))
        truth, prediction = np.where(ignored, 0, truth), np.where(ignored, 0, prediction)
    voxel_ml = float(np.prod(spacing_mm)) / MM3_PER_ML
    found = {}
    for label, values in labels.values.items():
        reference, predicted = _mask(truth, values), _mask(prediction, values)
        measured = {
            **measure_overlap(reference, predicted),
            **measure_surfaces(reference, predicted, spacing_mm),
            **measure_volumes(reference, predicted, voxel_ml, axial_axis, counted),
        }
        found[label] = {measure: float(measured[measure]) for measure in MEASURES}
    return found


def _mask(segmentation: np.ndarray, values: Sequence[int]) -> np.ndarray:
    return reduce(np.logical_or, (segmentation == value for value in values))
