"""Volumes and what is ignored, by hand."""

import numpy as np
import pytest

from nnunetv2_unet3plus.benchmarking.measures.case import measure_case
from nnunetv2_unet3plus.benchmarking.results import MEASURES, Labels
from tests.benchmarking.measures.masks import blob, box

ORGAN = Labels({"organ": (1,)})
SHAPE = (4, 5, 5)
SPACING = (5.0, 2.0, 1.0)  # 0.01 ml a voxel
NAN = float("nan")


def organ(*bounds):
    return box(SHAPE, *bounds).astype(np.uint8)


def volumes(truth, prediction, labels=ORGAN, axis=0):
    (measured,) = measure_case(truth, prediction, SPACING, labels, axis).values()
    return [measured[name] for name in ("volume_error", "false_positive_scan", "false_positive_slices")]


def test_all_measures_of_all_classes_in_order():
    labels = Labels({"tumour": (2,), "liver": (1, 2)})
    truth = organ((0, 3), (0, 3), (0, 3))
    truth[1, 1, 1] = 2
    measured = measure_case(truth, np.roll(truth, 1, 2), (1, 1, 1), labels, 0)
    assert list(measured) == ["tumour", "liver"]
    assert all(list(each) == list(MEASURES) for each in measured.values())
    assert all(type(figure) is float for each in measured.values() for figure in each.values())
    assert measured["tumour"]["dice"] == 0
    assert measured["tumour"]["hd95"] == 1
    assert measured["liver"]["dice"] == pytest.approx(2 * 18 / 54)
    assert measured["liver"]["iou"] == pytest.approx(18 / 36)


def test_volumes():
    truth, prediction = organ((1, 3), (0, 4), (0, 4)), organ((0, 2), (0, 2), (0, 5))
    assert volumes(truth, prediction) == pytest.approx([0.2 - 0.32, NAN, 0.1], nan_ok=True)
    # along x: the reference lacks in the last of five columns, of which the prediction has 4 voxels
    assert volumes(truth, prediction, axis=2) == pytest.approx([0.2 - 0.32, NAN, 0.04], nan_ok=True)


def test_no_slice_without_the_class():
    truth = organ((0, 4), (0, 1), (0, 1))
    assert volumes(truth, truth * 0) == pytest.approx([-0.04, NAN, NAN], nan_ok=True)


def test_a_scan_without_the_class():
    prediction = organ((0, 4), (0, 1), (0, 2))
    assert volumes(prediction * 0, prediction) == pytest.approx([0.08, 0.08, 0.08])
    assert volumes(prediction * 0, prediction * 0) == [0, 0, 0]


def test_ignored_voxels_count_nowhere():
    labels = Labels({"organ": (1,)}, ignore=2)
    truth = organ((0, 2), (0, 5), (0, 5))
    truth[:, :, 3:] = 2
    prediction = organ((0, 4), (0, 5), (0, 5))
    prediction[0, 0, 0] = 2  # which a network does not predict: no class
    measured = measure_case(truth, prediction, SPACING, labels, 0)["organ"]
    assert measured["dice"] == pytest.approx(2 * 29 / (30 + 59))
    assert volumes(truth, prediction, labels) == pytest.approx([0.29, NAN, 0.3], nan_ok=True)
    kept = measure_case(truth[..., :3], prediction[..., :3], SPACING, labels, 0)["organ"]
    assert measured == pytest.approx(kept, nan_ok=True)


def test_wholly_ignored_slices_are_not_slices_without_the_class():
    labels = Labels({"organ": (1,)}, ignore=2)
    truth = organ((0, 2), (0, 1), (0, 1))
    truth[2:] = 2
    assert volumes(truth, np.ones_like(truth), labels) == pytest.approx([0.48, NAN, NAN], nan_ok=True)
    measured = measure_case(np.full_like(truth, 2), np.ones_like(truth), SPACING, labels, 0)["organ"]
    assert {name for name, figure in measured.items() if not np.isnan(figure)} == {"volume_error"}


def test_a_2d_image():
    truth, prediction = (blob(seed, (1, 20, 20)).astype(np.uint8) for seed in (0, 1))
    measured = measure_case(truth, prediction, (1, 1, 1), ORGAN, 0)["organ"]
    assert 0 < measured["surface_dice"] < 1
    assert np.isnan(measured["false_positive_slices"])
    assert measured["volume_error"] == pytest.approx((prediction.sum() - truth.sum(dtype=float)) / 1000)
    assert measure_case(truth * 0, truth, (1, 1, 1), ORGAN, 0)["organ"]["hd95"] == pytest.approx(np.hypot(20, 20))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_label_values_of_any_type(dtype):
    truth = blob(0).astype(dtype)
    measured = measure_case(truth, blob(1).astype(np.uint8), (1, 1, 1), Labels({"organ": (1, 300)}), 0)
    expected = measure_case(blob(0).astype(np.uint8), blob(1).astype(dtype), (1, 1, 1), ORGAN, 0)
    assert measured["organ"] == pytest.approx(expected["organ"], nan_ok=True)


def test_masks_of_different_shape():
    with pytest.raises(ValueError, match="one grid"):
        measure_case(np.zeros((2, 3, 4)), np.zeros((2, 3, 5)), (1, 1, 1), ORGAN, 0)
