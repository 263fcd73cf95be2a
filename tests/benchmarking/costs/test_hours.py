"""The model of hours, by hand and against the published hours it was made from."""

import pytest

from nnunetv2_unet3plus.benchmarking.costs.hours import TERAFLOPS, expected_hours


def test_by_hand():
    # an epoch is 250 steps of three forward passes and 50 of one: 800 x 2 patches of 3 GFLOP, 10 epochs, 48 TFLOP
    assert expected_hours(3, 2, 10, 250, 50, teraflops=1) == pytest.approx(48 / 3600)
    assert expected_hours(3, 2, 10, 250, 50, teraflops=4) == pytest.approx(12 / 3600)
    assert expected_hours(3, 2, 10, 250, 0, teraflops=1) == pytest.approx(45 / 3600)


@pytest.mark.parametrize(("gflop_of_batch", "published"), [(2124, 9), (3209, 12), (10463, 35), (18106, 66)])
def test_nnunets_presets_take_what_their_authors_saw(gflop_of_batch, published):
    """GFLOP as `python -m benchmarks.hours_calibration` counts them for the mean of six data sets."""
    hours = expected_hours(gflop_of_batch, 1, 1000, 250, 50, TERAFLOPS["A100"])
    assert hours == pytest.approx(published, rel=0.125)
