"""Plans of `unet3plus plan` through the stock commands, with nnU-Net's own trainer and with ours; on phantoms."""

import json

import nibabel as nib
import pytest

from tests.end_to_end.nnunet import link_images, write_lits_phantoms

pytestmark = pytest.mark.slow

DATASET, PLANS, LENGTH = "Dataset501_LiTS", "nnUNetUNet3PlusPlans", "_2epochs_2iters"
NETWORK = "nnunetv2_unet3plus.architectures.unet3plus.UNet3Plus"


@pytest.fixture(scope="module")
def planned(shared_workspace):
    """As the paper's recipe, with a fingerprint that the command makes itself, and 3d_fullres beside it."""
    workspace = shared_workspace
    workspace.run("unet3plus", "convert", "lits", write_lits_phantoms(workspace.root / "LiTS"), "--organ")
    configurations = ("2d", "2.5d", "3d_fullres")
    output = workspace.run("unet3plus", "plan", "-d", 501, "--configurations", *configurations, "--patch-size", 64, 64)
    (preprocess,) = [line.split() for line in output.splitlines() if "nnUNetv2_preprocess" in line]
    workspace.run(*preprocess, "-np", 1, 1)
    for configuration in configurations:
        workspace.edit_plans(DATASET, configuration, PLANS, batch_size=2)
    # as much memory is for 3D larger patches than two cores compute in a test
    workspace.edit_plans(DATASET, "3d_fullres", PLANS, patch_size=[24, 64, 64])
    return workspace


@pytest.mark.parametrize(
    ("trainer", "configuration"),
    [
        ("nnUNetTrainer", "2d"),
        ("nnUNetTrainer", "2.5d"),
        ("nnUNetTrainer", "3d_fullres"),
        ("nnUNetTrainerUNet3Plus", "2d"),
        ("nnUNetTrainerUNet3PlusCGM", "2.5d"),
        ("nnUNetTrainerUNet3PlusNoDS", "3d_fullres"),
    ],
)
def test_trained_and_predicted_with(planned, trainer, configuration):
    options = ["-tr", trainer + LENGTH, "-p", PLANS, "-device", "cpu"]
    output = planned.run("nnUNetv2_train", 501, configuration, 0, *options)
    model = planned.model_folder(DATASET, trainer + LENGTH, configuration, PLANS)
    summary = json.loads((model / "fold_0" / "validation" / "summary.json").read_text())
    assert summary["metric_per_case"]
    if trainer != "nnUNetTrainer":
        assert "the plan's budget is 8.0 GB" in output
    architecture = json.loads((model / "plans.json").read_text())["configurations"][configuration]["architecture"]
    assert NETWORK in (architecture["network_class_name"], architecture["arch_kwargs"].get("network_class_name"))

    name = f"{trainer}_{configuration}"
    images = link_images(planned.raw / DATASET / "imagesTr", planned.root / f"scans_{name}", cases=1)
    masks = planned.root / f"masks_{name}"
    planned.run(
        "nnUNetv2_predict", "-d", 501, "-c", configuration, "-f", 0, *options, "-i", images, "-o", masks,
        "--disable_tta",
    )  # fmt: skip
    (mask,) = masks.glob("*.nii.gz")
    assert nib.load(mask).shape == nib.load(next(images.iterdir())).shape


def test_nnunets_own_planning_goes_on_beside_it(planned):
    """nnU-Net verifies what was written, makes its own plans, and leaves ours as they are."""
    before = planned.plans(DATASET, PLANS).read_text()
    output = planned.run("nnUNetv2_plan_and_preprocess", "-d", 501, "-c", "2d", "--verify_dataset_integrity", "-np", 1)
    assert "verify_dataset_integrity Done" in output
    assert planned.plans(DATASET, PLANS).read_text() == before
    theirs = json.loads(planned.plans(DATASET).read_text())["configurations"]["2d"]
    assert json.loads(before)["configurations"]["2d"]["data_identifier"] == theirs["data_identifier"]
    # and preprocessed once, for both
    data = planned.preprocessed / DATASET
    assert sorted(folder.name for folder in data.glob("*_2d")) == ["nnUNetPlans_2d"]
    output = planned.run("unet3plus", "plan", "-d", 501, "--name", "Again")
    assert "nnUNetv2_preprocess" not in output
