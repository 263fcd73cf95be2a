"""Against a distance of every boundary voxel from every other, DeepMind's surface-distance, and MONAI."""

import itertools

import numpy as np
import pytest
import surface_distance
from scipy.spatial.distance import cdist
from surface_distance import lookup_tables

from nnunetv2_unet3plus.benchmarking.measures.surface import measure_surfaces
from tests.benchmarking.measures.masks import PAIRS, SHAPE, SPACINGS, blob, box, scattered

EMPTY = np.zeros(SHAPE, bool)


def boundary_points(mask, spacing):
    """Voxels with one of their direct neighbours outside of the mask, found one by one."""
    points = []
    for at in zip(*np.nonzero(mask), strict=True):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            beside = list(at)
            beside[axis] += step
            if not 0 <= beside[axis] < mask.shape[axis] or not mask[tuple(beside)]:
                points.append(np.multiply(at, spacing))
                break
    return np.array(points)


def pairwise_hd95(one, other, spacing):
    distances = cdist(boundary_points(one, spacing), boundary_points(other, spacing))
    return max(np.percentile(distances.min(axis=1), 95), np.percentile(distances.min(axis=0), 95))


def deepmind_surface_dice(one, other, spacing):
    distances = surface_distance.compute_surface_distances(one, other, spacing)
    return surface_distance.compute_surface_dice_at_tolerance(distances, 2)


def monai_measures(one, other, spacing):
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    masks = {"y": torch.from_numpy(one.copy())[None, None], "y_pred": torch.from_numpy(other.copy())[None, None]}
    options = {"include_background": True, "spacing": spacing}
    hd95 = compute_hausdorff_distance(**masks, **options, percentile=95)
    dice = compute_surface_dice(**masks, **options, class_thresholds=[2.0], use_subvoxels=True)
    return {"hd95": hd95.item(), "surface_dice": dice.item()}


@pytest.mark.parametrize("spacing", SPACINGS.values(), ids=SPACINGS)
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_in_space(pair, spacing):
    measured = measure_surfaces(*pair, spacing)
    assert measured["hd95"] == pytest.approx(pairwise_hd95(*pair, spacing), rel=1e-6)
    assert measured["surface_dice"] == pytest.approx(deepmind_surface_dice(*pair, spacing), rel=1e-6)
    assert measured == pytest.approx(monai_measures(*pair, spacing), rel=1e-5)
    assert measure_surfaces(*pair[::-1], spacing) == pytest.approx(measured, rel=1e-6)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 5.0), (2.9, 0.45)])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_in_a_plane(pair, spacing):
    """All but the pairs that have nothing in that plane."""
    pair = [mask.any(axis=0) for mask in pair]
    measured = measure_surfaces(*pair, spacing)
    assert measured["hd95"] == pytest.approx(pairwise_hd95(*pair, spacing), rel=1e-6)
    assert measured["surface_dice"] == pytest.approx(deepmind_surface_dice(*pair, spacing), rel=1e-6)
    assert measured == pytest.approx(monai_measures(*pair, spacing), rel=1e-5)


@pytest.mark.parametrize("axis", range(3))
def test_a_single_slice_is_measured_in_its_plane(axis):
    """DeepMind's package, given such a volume, counts the slice's two faces, which agree wherever the masks do."""
    one, other = (mask.any(axis=0) for mask in PAIRS["overlapping blobs"])
    spacing = [2.7, 2.9]
    volumes = [np.expand_dims(mask, axis) for mask in (one, other)]
    measured = measure_surfaces(*volumes, [*spacing[:axis], 5.0, *spacing[axis:]])
    assert measured == measure_surfaces(one, other, spacing)
    solid = deepmind_surface_dice(*volumes, [*spacing[:axis], 5.0, *spacing[axis:]])
    assert abs(measured["surface_dice"] - solid) > 0.01


def test_a_single_row():
    one, other = box((1, 1, 9), (0, 1), (0, 1), (0, 4)), box((1, 1, 9), (0, 1), (0, 1), (0, 9))
    # the other's five further pixels are 1 to 5 mm from the first's: 0 0 0 0 1 2 3 4 5, at rank 0.95 x 8 = 7.6
    assert measure_surfaces(one, other, (1, 1, 1))["hd95"] == pytest.approx(4.6)


@pytest.mark.parametrize("shape", [SHAPE, SHAPE[1:], (1, *SHAPE[1:])])
@pytest.mark.parametrize("pair", ["both empty", "no reference", "no prediction"])
def test_empty_masks(shape, pair):
    """DeepMind's package fails on these, MONAI says inf."""
    some, none = blob(0, shape), np.zeros(shape, bool)
    truth, prediction = {"both empty": (none, none), "no reference": (none, some), "no prediction": (some, none)}[pair]
    spacing = (3.0, 4.0, 12.0)[: len(shape)]
    measured = measure_surfaces(truth, prediction, spacing)
    extent = [size * mm for size, mm in zip(shape, spacing, strict=True) if size > 1]
    expected = {"hd95": np.sqrt(np.square(extent).sum()), "surface_dice": 0}
    if pair == "both empty":
        expected = {"hd95": np.nan, "surface_dice": np.nan}
    assert measured == pytest.approx(expected, nan_ok=True)


def test_the_diagonal_is_the_whole_scan():
    truth = box((3, 4, 12), (1, 2), (1, 2), (1, 2))
    assert measure_surfaces(truth, np.zeros_like(truth), (1, 1, 1))["hd95"] == pytest.approx(13)
    assert measure_surfaces(truth, np.zeros_like(truth), (2, 1.5, 1))["hd95"] == pytest.approx(np.sqrt(36 + 36 + 144))


def test_by_hand():
    """Two rods along z, 2 slices apart: the 4 voxels that one has beyond the other are 5 and 10 mm away."""
    one, other = box((12, 5, 5), (1, 9), (2, 3), (2, 3)), box((12, 5, 5), (3, 11), (2, 3), (2, 3))
    measured = measure_surfaces(one, other, (5.0, 1.0, 1.0))
    # distances 0 0 0 0 0 0 5 10 in both directions: at rank 0.95 x 7 = 6.65
    assert measured["hd95"] == pytest.approx(5 + 0.65 * 5)
    assert measure_surfaces(one, other, (1.0, 1.0, 1.0))["surface_dice"] == 1  # 2 mm at most
    shifted = np.roll(one, 2, 2)
    assert measure_surfaces(one, shifted, (1.0, 1.0, 1.01))["hd95"] == pytest.approx(2.02)


@pytest.mark.parametrize("spacing", [0.4, float(np.float32(0.4)), 2.0, 1.0])
def test_exactly_the_tolerance_is_within(spacing):
    one = box((3, 12), (1, 2), (1, 2))
    steps = round(2 / spacing)
    other = np.roll(one, steps, 1)
    assert measure_surfaces(one, other, (spacing, spacing))["surface_dice"] == 1
    farther = np.roll(one, steps + 1, 1)
    assert measure_surfaces(one, farther, (spacing, spacing))["surface_dice"] < 1


@pytest.mark.parametrize("spacing", [*SPACINGS.values(), (0.3, 7.0, 2.0)])
def test_areas_of_surface_elements(spacing):
    """Every way in which the corners of a cell can be set, against DeepMind's table."""
    from nnunetv2_unet3plus.benchmarking.measures.surface import _areas

    expected = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    weights = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL.ravel()
    places = [sum(int(weight) for bit, weight in enumerate(weights) if code >> bit & 1) for code in range(256)]
    np.testing.assert_allclose(_areas(spacing), expected[places], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_random_shapes_spacings_and_masks(seed):
    random = np.random.default_rng(seed)
    shape, spacing = tuple(random.integers(2, 14, 3)), tuple(random.uniform(0.3, 6, 3))
    pair = [scattered(2 * seed + k, random.uniform(0.02, 0.98), shape) for k in (1, 2)]
    for mask in pair:
        mask[tuple(random.integers(0, shape))] = True
    measured = measure_surfaces(*pair, spacing)
    assert measured["hd95"] == pytest.approx(pairwise_hd95(*pair, spacing), rel=1e-6, abs=1e-9)
    assert measured["surface_dice"] == pytest.approx(deepmind_surface_dice(*pair, spacing), rel=1e-6)


def test_axes_are_alike():
    one, other = PAIRS["blobs"]
    spacing = SPACINGS["odd"]
    expected = measure_surfaces(one, other, spacing)
    for order in itertools.permutations(range(3)):
        turned = measure_surfaces(one.transpose(order), other.transpose(order), [spacing[axis] for axis in order])
        assert turned == pytest.approx(expected, rel=1e-6)
