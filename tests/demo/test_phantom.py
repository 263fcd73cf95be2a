import numpy as np
import pytest

from nnunetv2_unet3plus.demo.phantom import LIVER, SHAPE, SPACING, TUMOUR, make_phantom


@pytest.fixture(scope="module", params=[0, 7])
def phantom(request):
    return make_phantom(request.param)


def test_the_same_seed_is_the_same_patient(phantom):
    first, again = make_phantom(3), make_phantom(3)
    np.testing.assert_array_equal(first.intensities, again.intensities)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert (first.labels != phantom.labels).any()


def test_types_and_grid(phantom):
    assert phantom.intensities.shape == phantom.labels.shape == SHAPE
    assert (phantom.intensities.dtype, phantom.labels.dtype) == (np.int16, np.uint8)
    np.testing.assert_allclose(np.abs(np.diag(phantom.affine))[:3], SPACING)
    assert SPACING[0] == SPACING[1] < SPACING[2]  # nnU-Net's 2d configuration slices along the largest spacing


def test_hounsfield_units_are_those_of_tissue(phantom):
    hu, labels = phantom.intensities, phantom.labels
    assert hu[0, 0].mean() == pytest.approx(-1000, abs=10)
    assert 90 < hu[labels == LIVER].mean() < 120
    assert hu.max() > 300  # bone


def test_the_liver_is_on_the_right_and_reaches_far(phantom):
    liver = phantom.labels > 0
    x, _, z = np.nonzero(liver)
    assert x.mean() < SHAPE[0] / 2 - 3  # x runs to the patient's left
    assert 0.04 < liver.mean() < 0.12
    assert np.ptp(z) > SHAPE[2] / 2


def test_no_threshold_finds_the_liver(phantom):
    """A window around the liver's own HU stays below the Dice that the demo has to reach."""
    liver = phantom.labels > 0
    low, high = np.percentile(phantom.intensities[liver], [5, 95])
    window = (phantom.intensities >= low) & (phantom.intensities <= high)
    assert 2 * (window & liver).sum() / (window.sum() + liver.sum()) < 0.8


def test_some_livers_have_tumours_darker_than_the_liver():
    patients = [make_phantom(seed) for seed in range(8)]
    contrasts = [
        p.intensities[p.labels == LIVER].mean() - p.intensities[p.labels == TUMOUR].mean()
        for p in patients
        if (p.labels == TUMOUR).any()
    ]
    assert 0 < len(contrasts) < len(patients)
    assert min(contrasts) > 15


def test_another_shape():
    assert make_phantom(0, shape=(33, 40, 12)).labels.shape == (33, 40, 12)
