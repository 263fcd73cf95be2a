import nibabel as nib
import numpy as np
import pytest
from matplotlib.image import imread

from nnunetv2_unet3plus.demo.overlay import save_overlay
from nnunetv2_unet3plus.overlay import COLOURS, OPACITY


@pytest.fixture
def corner(tmp_path):
    """A scan whose right front part is liver and predicted as such, stored along any axes."""

    def write(axes):
        mask = np.zeros((20, 30, 4), dtype=np.uint8)
        mask[10:, 15:, 2] = 1  # in RAS: right half, front half
        files = []
        for name, voxels in (("scan", mask.astype(np.int16) - 160), ("truth", mask), ("prediction", mask)):
            image = nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 5.0, 1.0]))
            orientation = nib.orientations.axcodes2ornt(axes)
            files.append(tmp_path / f"{name}.nii.gz")
            nib.save(image.as_reoriented(orientation), files[-1])
        return files

    return write


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PLI", "SAR"])
def test_right_is_on_the_left_and_front_is_up(corner, tmp_path, axes):
    picture = tmp_path / "picture.png"
    save_overlay(*corner(axes), picture, "a scan")
    pixels = imread(picture)[..., :3]
    is_purple = np.abs(pixels - OPACITY * np.array(COLOURS["true positive"])).max(axis=-1) < 0.03
    rows, columns = np.nonzero(is_purple)
    black = np.nonzero((pixels < 0.01).all(axis=-1))
    assert is_purple.sum() > 1000
    assert rows.max() < np.median(black[0])
    assert columns.max() < np.median(black[1])


def test_a_scan_without_any_organ(corner, tmp_path):
    scan, truth, _ = corner("RAS")
    empty = tmp_path / "empty.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((20, 30, 4), np.uint8), nib.load(truth).affine), empty)
    save_overlay(scan, empty, empty, tmp_path / "picture.png", "nothing")
    assert (tmp_path / "picture.png").stat().st_size > 0
