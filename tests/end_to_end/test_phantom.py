"""From a LiTS folder to masks with the stock commands, once for each configuration, on phantoms: never skipped."""

import nibabel as nib
import numpy as np
import pytest

from tests.end_to_end.nnunet import link_images, write_lits_phantoms

DATASET = "Dataset501_LiTS"
PATCH = {"2d": [64, 64], "3d_fullres": [24, 64, 64]}


@pytest.fixture(scope="module")
def planned(shared_workspace):
    """Converted, verified, planned and preprocessed for both configurations."""
    source = write_lits_phantoms(shared_workspace.root / "LiTS")
    shared_workspace.run("unet3plus", "convert", "lits", source, "--organ")
    output = shared_workspace.run(
        "nnUNetv2_plan_and_preprocess", "-d", 501, "-c", *PATCH, "--verify_dataset_integrity", "-np", 2
    )
    assert "verify_dataset_integrity Done" in output
    for configuration, patch in PATCH.items():
        shared_workspace.edit_plans(DATASET, configuration, batch_size=2, patch_size=patch)
    return shared_workspace


@pytest.mark.parametrize("configuration", PATCH)
def test_convert_plan_train_predict_evaluate(planned, configuration):
    trainer = "nnUNetTrainerUNet3Plus_2epochs_4iters"
    planned.run("nnUNetv2_train", 501, configuration, 0, "-tr", trainer, "-device", "cpu")
    model = planned.model_folder(DATASET, trainer, configuration)
    log = next((model / "fold_0").glob("training_log*.txt")).read_text()
    assert "million parameters" in log
    assert "Epoch 1 of 2 done" in log
    assert (model / "fold_0" / "validation" / "summary.json").is_file()

    images = link_images(planned.raw / DATASET / "imagesTr", planned.root / f"scans_{configuration}", cases=2)
    masks = planned.root / f"masks_{configuration}"
    planned.run(
        "nnUNetv2_predict", "-d", 501, "-c", configuration, "-f", 0, "-tr", trainer, "-i", images, "-o", masks,
        "-device", "cpu", "--disable_tta",
    )  # fmt: skip
    written = sorted(masks.glob("*.nii.gz"))
    assert [m.name for m in written] == ["liver_000.nii.gz", "liver_001.nii.gz"]
    truths = planned.raw / DATASET / "labelsTr"
    dice, _ = planned.evaluate(DATASET, truths, masks)
    assert dice == pytest.approx(np.mean([dice_of(truths / mask.name, mask) for mask in written]))


def dice_of(truth, mask):
    """2 |A n B| / (|A| + |B|) on the scan's own grid."""
    truth, mask = nib.load(truth), nib.load(mask)
    np.testing.assert_allclose(mask.affine, truth.affine, atol=1e-3)
    a, b = (np.asanyarray(image.dataobj) > 0 for image in (truth, mask))
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_bad_trainer_name_is_nnunets_own_error(planned):
    output = planned.run("nnUNetv2_train", 501, "2d", 0, "-tr", "nnUNetTrainerUNet4Plus", check=False)
    assert "Could not find requested nnunet trainer nnUNetTrainerUNet4Plus" in output
