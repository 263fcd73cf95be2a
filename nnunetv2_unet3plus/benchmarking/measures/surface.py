"""How far two masks' surfaces are apart.

HD95 measures between boundary voxels, surface Dice between surface elements: the pieces of surface, with their areas,
that marching cubes puts between 2 x 2 x 2 voxels (S. Nikolov et al., https://arxiv.org/abs/1809.04430). Both are what
MONAI's `compute_hausdorff_distance` and `compute_surface_dice(..., use_subvoxels=True)` define, and the tests hold
them against MONAI. MONAI itself is not called: its nearest neighbours come from a k-d tree without bounds, which takes
minutes where a prediction fills the scan, its convolution takes gigabytes for a liver, and every worker process would
have to import it (`benchmarks/surface_measures.py`).
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its usual name
from scipy import ndimage
from scipy.spatial import KDTree
from skimage.measure import marching_cubes, mesh_surface_area

TOLERANCE_MM = 2.0

_ROUNDING = 1 + 1e-6
"""So that five voxels of 0.4 mm, single precision in a NIfTI header, are 2 mm."""


def measure_surfaces(truth: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> dict[str, float]:
    """HD95 in mm and surface Dice of two masks.

    Voxels beyond the border of the scan count as outside: a mask that touches the border has a surface there. A scan
    of a single slice is measured in the plane; in space every voxel of it would be surface.

    Args:
        truth: mask of bool with two or three axes.
        prediction: mask of bool on the same grid.
        spacing_mm: along those axes.
    """
    if truth.ndim == 3 and 1 in truth.shape:
        axis = truth.shape.index(1)
        truth, prediction = truth.squeeze(axis), prediction.squeeze(axis)
        spacing_mm = [*spacing_mm[:axis], *spacing_mm[axis + 1 :]]
    present = truth.any(), prediction.any()
    if not any(present):
        return {"hd95": float("nan"), "surface_dice": float("nan")}
    if not all(present):
        return {"hd95": float(np.linalg.norm(np.multiply(truth.shape, spacing_mm))), "surface_dice": 0.0}
    (box,) = ndimage.find_objects((truth | prediction).view(np.uint8))
    # the margin lets surfaces at the border of the box be surfaces
    truth, prediction = np.pad(truth[box], 1), np.pad(prediction[box], 1)
    return {
        "hd95": _hd95(truth, prediction, spacing_mm),
        "surface_dice": _surface_dice(truth, prediction, spacing_mm),
    }


def _hd95(truth: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> float:
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (truth, prediction)]
    return max(
        float(np.percentile(_distance_map(other, spacing_mm)[surface].astype(float), 95))
        for surface, other in (surfaces, surfaces[::-1])
    )


def _distance_map(surface: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """The distance in mm of every voxel from the nearest of a surface, in time that grows with the voxels alone.

    C. R. Maurer et al., A linear time algorithm for computing exact Euclidean distance transforms, 2003.
    """
    image = sitk.GetImageFromArray(surface.view(np.uint8))
    image.SetSpacing([float(each) for each in reversed(spacing_mm)])
    return sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True))


def _surface_dice(truth: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> float:
    (points, areas), (other_points, other_areas) = (_elements(mask, spacing_mm) for mask in (truth, prediction))
    near = areas[_near(points, other_points)].sum() + other_areas[_near(other_points, points)].sum()
    return float(near / (areas.sum() + other_areas.sum()))


def _near(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which points have one of the others within the tolerance."""
    # with an upper bound, the tree is quick however far the surfaces are apart
    distances, _ = KDTree(others).query(points, distance_upper_bound=TOLERANCE_MM * _ROUNDING)
    return np.isfinite(distances)


def _elements(mask: np.ndarray, spacing_mm: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Where a mask with a margin of background has surface elements: points in mm, and areas in mm^2 (2D: mm)."""
    voxels = mask.view(np.uint8)
    codes = np.zeros([size - 1 for size in mask.shape], np.uint8)
    for bit, corner in enumerate(np.ndindex(*[2] * mask.ndim)):
        window = tuple(slice(start, start + size) for start, size in zip(corner, codes.shape, strict=True))
        codes |= voxels[window] << bit
    surface = (codes != 0) & (codes != 2 ** (2**mask.ndim) - 1)
    areas = _areas(tuple(float(each) for each in spacing_mm))
    return np.argwhere(surface) * np.array(spacing_mm), areas[codes[surface]]


@lru_cache
def _areas(spacing_mm: tuple[float, ...]) -> np.ndarray:
    """The area of the surface between 2 x 2 x 2 voxels for each of the 256 ways in which they can be set.

    Between 2 x 2 pixels, the length of the contour: that is the area of what stands on it, 1 mm high.
    """
    flat = len(spacing_mm) == 2
    corners = list(np.ndindex(*[2] * len(spacing_mm)))
    areas = np.zeros(2 ** len(corners))
    for code in range(1, len(areas) - 1):
        cell = np.zeros([2] * len(spacing_mm), bool)
        for bit, corner in enumerate(corners):
            cell[corner] = code >> bit & 1
        # a surface has the same area from both sides; of more than four voxels marching cubes may join the holes
        cell = np.broadcast_to(cell if cell.mean() <= 0.5 else ~cell, (2, 2, 2))
        vertices, faces, _, _ = marching_cubes(
            cell.astype(np.float32), 0.5, spacing=(1.0, *spacing_mm) if flat else spacing_mm, method="lorensen"
        )
        areas[code] = mesh_surface_area(vertices, faces)
    return areas
