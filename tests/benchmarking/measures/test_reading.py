import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
import tifffile
from skimage.io import imsave

from nnunetv2_unet3plus.benchmarking.measures.reading import read_mask, read_pair
from nnunetv2_unet3plus.errors import UserError

VOXELS = (np.arange(3 * 4 * 5) % 4).astype(np.uint8).reshape(3, 4, 5)
SPACING = (5.0, 0.7, 0.8)


def write(path, voxels=VOXELS, spacing=SPACING, axes="LPS"):
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing[::-1][: image.GetDimension()])
    if image.GetDimension() == 3:
        direction = nib.orientations.inv_ornt_aff(
            nib.orientations.axcodes2ornt(axes, (("R", "L"), ("A", "P"), ("I", "S"))), (1, 1, 1)
        )[:3, :3]
        image.SetDirection(np.linalg.inv(direction).ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("ending", ["nii.gz", "nii", "nrrd", "mha", "mhd", "gipl"])
def test_volumes(ending, tmp_path):
    mask = read_mask(write(tmp_path / f"mask.{ending}"))
    np.testing.assert_array_equal(mask.voxels, VOXELS)
    assert mask.spacing_mm == pytest.approx(SPACING)
    assert mask.axial_axis == 0


@pytest.mark.parametrize(
    ("axes", "axis"), [("LPS", 0), ("RAI", 0), ("LSP", 1), ("LIA", 1), ("SLP", 2), ("IPR", 2), ("PSL", 1)]
)
def test_the_axial_axis(axes, axis, tmp_path):
    path = write(tmp_path / "mask.nii.gz", axes=axes)
    assert "".join(nib.aff2axcodes(nib.load(path).affine)) == axes
    assert read_mask(path).axial_axis == axis


def test_an_oblique_axial_axis(tmp_path):
    image = sitk.GetImageFromArray(VOXELS)
    turn = np.deg2rad(40)
    image.SetDirection([1, 0, 0, 0, np.cos(turn), -np.sin(turn), 0, np.sin(turn), np.cos(turn)])
    sitk.WriteImage(image, str(tmp_path / "mask.nrrd"))
    assert read_mask(tmp_path / "mask.nrrd").axial_axis == 0


def test_axes_not_at_right_angles(tmp_path):
    """ITK refuses these; nnU-Net reads them with nibabel."""
    affine = np.diag([0.8, 0.7, 5.0, 1.0])
    affine[1, 2] = 1.0  # a tilted gantry
    nib.save(nib.Nifti1Image(VOXELS.T, affine), tmp_path / "mask.nii.gz")
    mask = read_mask(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(mask.voxels, VOXELS)
    assert mask.spacing_mm == pytest.approx((np.hypot(5, 1), 0.7, 0.8))
    assert mask.axial_axis == 0


def test_one_volume_in_four_dimensions(tmp_path):
    nib.save(nib.Nifti1Image(VOXELS.T[..., None], np.diag([0.8, 0.7, 5.0, 1.0])), tmp_path / "mask.nii.gz")
    mask = read_mask(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(mask.voxels, VOXELS)
    assert mask.spacing_mm == pytest.approx(SPACING)


@pytest.mark.parametrize("ending", ["nii.gz", "mha"])
def test_planes_with_spacing(ending, tmp_path):
    mask = read_mask(write(tmp_path / f"mask.{ending}", VOXELS[0]))
    np.testing.assert_array_equal(mask.voxels, VOXELS[:1])
    assert mask.spacing_mm == pytest.approx((1, 0.7, 0.8))


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "tiff", "PNG"])
def test_pictures(ending, tmp_path):
    path = tmp_path / f"mask.{ending}"
    if "tif" in ending:
        tifffile.imwrite(path, VOXELS[0], resolution=(72, 72), resolutionunit="INCH")
    else:
        imsave(path, VOXELS[0], check_contrast=False)
    mask = read_mask(path)
    np.testing.assert_array_equal(mask.voxels, VOXELS[:1])
    assert mask.spacing_mm is None
    pair = read_pair(path, path)
    assert pair.spacing_mm == (1, 1, 1)
    np.testing.assert_array_equal(pair.truth, pair.prediction)


def test_tiff_volumes(tmp_path):
    """Their spacing is in a file beside the prediction, and often not beside the reference."""
    truth, prediction = tmp_path / "truth.tif", tmp_path / "prediction.tif"
    for path in (truth, prediction):
        tifffile.imwrite(path, VOXELS, compression="zlib", photometric="minisblack")
    assert read_pair(truth, prediction).spacing_mm == (1, 1, 1)
    (tmp_path / "prediction.json").write_text(json.dumps({"spacing": [5, 0.7, 0.8]}))
    pair = read_pair(truth, prediction)
    assert pair.spacing_mm == SPACING
    np.testing.assert_array_equal(pair.truth, VOXELS)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("missing.nii.gz", "No such file"),
        ("empty.nii.gz", "cannot be read"),
        ("cut.nii", "more than it can hold"),
        ("cut.nii.gz", "cannot be read"),
        ("cut.png", "cannot be read"),
        ("cut.tif", "cannot be read"),
        ("cut.mha", "cannot be read"),
        ("text.nrrd", "cannot be read"),
        ("text.png", "cannot be read"),
        ("text.tif", "cannot be read"),
        ("colours.png", "one value a voxel"),
        ("colours.mha", "one value a voxel"),
        ("several.nii.gz", "one value a voxel"),
        ("strange.xyz", "cannot be read"),
    ],
)
def test_what_cannot_be_read(damage, says, tmp_path):
    path = tmp_path / damage
    kind = path.name.partition(".")[0]
    if kind in ("empty", "text", "strange"):
        path.write_text("" if kind == "empty" else "no image\n" * 100)
    elif kind == "cut":
        voxels = np.random.default_rng(0).integers(0, 99, (20, 20, 20), np.uint8)
        write(path, voxels.reshape(80, 100) if path.suffix in (".png", ".tif") else voxels)
        path.write_bytes(path.read_bytes()[:2000])
    elif damage == "colours.png":
        imsave(path, np.zeros((4, 5, 3), np.uint8), check_contrast=False)
    elif damage == "colours.mha":
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True), str(path))
    elif kind == "several":
        nib.save(nib.Nifti1Image(np.zeros((3, 4, 5, 2), np.uint8), np.eye(4)), path)
    with pytest.raises(UserError, match=says) as error:
        read_mask(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_different_grids(tmp_path):
    truth = write(tmp_path / "truth.nii.gz")
    with pytest.raises(UserError, match=r"other.nii.gz: 4 x 4 x 3 voxels, the reference .*truth.nii.gz has 5 x 4 x 3"):
        read_pair(truth, write(tmp_path / "other.nii.gz", VOXELS[..., 1:]))
    with pytest.raises(
        UserError, match=r"other.nii.gz: voxels of 0.8 x 0.7 x 4 mm, .*truth.nii.gz of 0.8 x 0.7 x 5 mm"
    ):
        read_pair(truth, write(tmp_path / "other.nii.gz", spacing=(4.0, 0.7, 0.8)))
    assert read_pair(truth, write(tmp_path / "other.nrrd", spacing=(5.0, 0.7000001, 0.8))).axial_axis == 0
