import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunetv2_unet3plus.overlay import COLOURS, CT_WINDOW, OPACITY, as_seen, colour, grey, largest_slice, load

TINTS = [OPACITY * np.array(paint) for paint in COLOURS.values()]


def test_each_kind_of_pixel_has_its_colour():
    truth = np.array([[True, True], [False, False]])
    prediction = np.array([[True, False], [True, False]])
    rgb = colour(np.zeros((2, 2)), truth, prediction)
    purple, yellow, green = TINTS
    np.testing.assert_allclose(rgb, [[purple, yellow], [green, [0, 0, 0]]])


def test_the_wrong_class_is_a_miss():
    purple, yellow, green = TINTS
    rgb = colour(np.zeros((1, 5)), np.array([[1, 2, 2, 0, 0]]), np.array([[1, 1, 0, 2, 0]]))
    np.testing.assert_allclose(rgb, [[purple, yellow, yellow, green, [0, 0, 0]]])


def test_the_window_clips():
    np.testing.assert_allclose(grey(np.array([-1000.0, -160.0, 40.0, 3000.0]), CT_WINDOW), [0.0, 0.0, 0.5, 1.0])


def test_a_window_without_width():
    assert np.isfinite(grey(np.array([3.0, 4.0]), (3.0, 3.0))).all()


def test_largest_slice():
    mask = np.zeros((4, 4, 9), dtype=bool)
    assert largest_slice(mask) == 4
    mask[0, 0, 2] = mask[:2, 0, 7] = True
    assert largest_slice(mask) == 7


@pytest.mark.parametrize("name", ["scan.mha", "scan.nrrd"])
def test_other_formats_lie_as_nifti_does(tmp_path, name):
    image = sitk.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    image.SetSpacing((0.7, 0.8, 5.0))
    image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))
    sitk.WriteImage(image, str(tmp_path / name))
    sitk.WriteImage(image, str(tmp_path / "scan.nii.gz"))
    one, other = (nib.as_closest_canonical(load(tmp_path / each)) for each in (name, "scan.nii.gz"))
    np.testing.assert_array_equal(one.get_fdata(), other.get_fdata())
    np.testing.assert_allclose(one.header.get_zooms(), other.header.get_zooms(), rtol=1e-6)


def test_a_photograph_stays_upright(tmp_path):
    photograph = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)  # rows, columns, colours
    sitk.WriteImage(sitk.GetImageFromArray(photograph, isVector=True), str(tmp_path / "photograph.png"))
    seen = as_seen(np.asanyarray(nib.as_closest_canonical(load(tmp_path / "photograph.png")).dataobj)[..., 0])
    np.testing.assert_array_equal(seen, photograph[..., 0])
