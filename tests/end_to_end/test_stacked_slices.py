"""Configurations of stacked slices through the stock commands: three slices of real CT, and every kind of network.

With `-rP` it prints Dice, and seconds an epoch.
"""

import json
import re
import subprocess
import sys
from math import isfinite
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import timm
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunetv2_unet3plus.trainers.imagenet import WEIGHTS_VARIABLE
from tests.end_to_end.nnunet import link_images, shared_data, write_hippocampus
from tests.end_to_end.test_real_scans import dice_of_everything, mean_dice
from tests.stacked_plans import add_stacked_slices

pytestmark = pytest.mark.slow

LENGTH = "_2epochs_2iters"
CT_TRAINER = "nnUNetTrainerUNet3Plus_12epochs_10iters"
PLANS = "nnUNetUNet3PlusPlans"
UNET3PLUS = "nnunetv2_unet3plus.architectures.unet3plus.UNet3Plus"


def plan_stacked_slices(workspace, dataset, **options):
    """After `2d` has been planned and preprocessed: nothing is left to be preprocessed."""
    file = workspace.plans(dataset)
    plans = json.loads(file.read_text())
    file.write_text(json.dumps(add_stacked_slices(plans, **options)))


def train(workspace, dataset, trainer, plans="nnUNetPlans"):
    return workspace.run(
        "nnUNetv2_train", int(dataset[7:10]), "2.5d", 0, "-tr", trainer, "-p", plans, "-device", "cpu"
    )  # fmt: skip


def predict(workspace, dataset, trainer, cases, plans="nnUNetPlans"):
    """Masks of new scans, each of its scan's shape; nnU-Net's Dice of each."""
    name = f"{trainer}_{plans}"
    images = link_images(workspace.raw / dataset / "imagesTr", workspace.root / f"scans_{name}", cases)
    masks = workspace.root / f"masks_{name}"
    workspace.run(
        "nnUNetv2_predict", "-d", int(dataset[7:10]), "-c", "2.5d", "-f", 0, "-tr", trainer, "-p", plans, "-i", images,
        "-o", masks, "-device", "cpu", "--disable_tta",
    )  # fmt: skip
    for image in images.iterdir():
        mask = masks / image.name.replace("_0000", "")
        assert nib.load(mask).shape == nib.load(image).shape
    _, per_case = workspace.evaluate(dataset, workspace.raw / dataset / "labelsTr", masks)
    return {Path(case["prediction_file"]).name.removesuffix(".nii.gz"): mean_dice(case) for case in per_case}


@pytest.fixture(scope="module")
def trained(shared_workspace):
    """Five abdominal CT scans at 256 x 256 to learn their liver from, and one to see whether it is found there."""
    workspace, dataset = shared_workspace, "Dataset501_LiTS"
    source = workspace.root / "LiTS"
    command = [sys.executable, shared_data(".") / "assemble_lits.py", source, "--inplane", "256"]
    subprocess.run(command, check=True)
    workspace.run("unet3plus", "convert", "lits", source, "--organ")
    workspace.run("unet3plus", "plan", "-d", 501, "--configurations", "2d", "2.5d")
    workspace.run("nnUNetv2_preprocess", "-d", 501, "-plans_name", PLANS, "-c", "2d", "-np", 2)
    file = workspace.plans(dataset, PLANS)
    plans = json.loads(file.read_text())
    stacked = plans["configurations"]["2.5d"]
    stacked |= {"patch_size": [4, *stacked["patch_size"][1:]], "batch_size": 2}
    kwargs = stacked["architecture"]["arch_kwargs"]
    kwargs["features_per_stage"] = [min(8 * 2**stage, 64) for stage in range(kwargs["n_stages"])]  # a quarter
    file.write_text(json.dumps(plans))
    cases = sorted(file.name.removesuffix(".nii.gz") for file in (workspace.raw / dataset / "labelsTr").iterdir())
    split = {"train": cases[:-1], "val": cases[-1:]}  # the first is of another source, with another scale
    (workspace.preprocessed / dataset / "splits_final.json").write_text(json.dumps([split]))
    workspace.long_trainings = True
    train(workspace, dataset, CT_TRAINER, PLANS)
    workspace.long_trainings = False
    return workspace, dataset, split


def test_real_ct(trained):
    workspace, dataset, split = trained
    held_out, seen = split["val"][0], split["train"][-1]
    dice = predict(workspace, dataset, CT_TRAINER, [held_out, seen], PLANS)
    print({case: round(value, 3) for case, value in dice.items()}, "held out:", held_out)
    assert dice[seen] > 0.5
    assert dice[held_out] > 1.5 * dice_of_everything(workspace, dataset)


def test_interior_slices_are_the_2d_networks_on_three_slices(trained):
    """The trained network on one patch of a preprocessed scan, as nnU-Net loads it to predict."""
    workspace, dataset, split = trained
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    folder = workspace.model_folder(dataset, CT_TRAINER, "2.5d", PLANS)
    predictor.initialize_from_trained_model_folder(str(folder), use_folds=(0,))
    network = predictor.network
    network.load_state_dict(predictor.list_of_parameters[0], strict=True)
    scan = workspace.raw / dataset / "imagesTr" / f"{split['val'][0]}_0000.nii.gz"
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    data, *_ = preprocessor.run_case(
        [str(scan)], None, predictor.plans_manager, predictor.configuration_manager, predictor.dataset_json
    )
    depth, *size = predictor.configuration_manager.patch_size
    start = data.shape[1] // 2
    patch = torch.from_numpy(data[:, start : start + depth, : size[0], : size[1]])[None].float()
    with torch.no_grad():
        logits = network.eval()(patch)
        for d in range(1, depth - 1):
            expected = network.network(patch[:, 0, d - 1 : d + 2])
            torch.testing.assert_close(logits[:, :, d], expected, rtol=0, atol=1e-4)
    assert logits.std() > 0.1


@pytest.fixture(scope="module")
def planned(shared_workspace):
    """2d patches of 64 x 64, which six stages need."""
    dataset = write_hippocampus(shared_workspace.raw, cases=5)
    shared_workspace.run("nnUNetv2_plan_and_preprocess", "-d", 4, "-c", "2d", "-np", 2)
    shared_workspace.edit_plans(dataset, "2d", batch_size=2, patch_size=[64, 64])
    plan_stacked_slices(shared_workspace, dataset, depth=8)
    plans = json.loads(shared_workspace.plans(dataset).read_text()) | {"plans_name": "UNet3PlusInside"}
    add_stacked_slices(plans, depth=8, arguments={"network_class_name": UNET3PLUS})
    shared_workspace.plans(dataset, "UNet3PlusInside").write_text(json.dumps(plans))
    return shared_workspace, dataset


@pytest.mark.parametrize(
    ("trainer", "plans"),
    [
        ("nnUNetTrainerUNet3PlusCGM", "nnUNetPlans"),
        ("nnUNetTrainerUNet3PlusVGG16ImageNet", "nnUNetPlans"),
        ("nnUNetTrainerUNetPlusPlus", "nnUNetPlans"),
        ("nnUNetTrainerUNetSharp", "nnUNetPlans"),
        ("nnUNetTrainerUNetSharpCGM", "nnUNetPlans"),
        ("nnUNetTrainerHybridLoss", "nnUNetPlans"),
        ("nnUNetTrainer", "nnUNetPlans"),
        ("nnUNetTrainer", "UNet3PlusInside"),
    ],
)
def test_every_kind_of_network(trainer, plans, planned, tmp_path, monkeypatch):
    """Two short epochs on real MR, too few to learn: it trains, validates, is found again to predict."""
    workspace, dataset = planned
    if trainer.endswith("ImageNet"):
        torch.save(timm.create_model("vgg16_bn").state_dict(), tmp_path / "weights.pth")
        monkeypatch.setitem(workspace.env, WEIGHTS_VARIABLE, str(tmp_path / "weights.pth"))
    output = train(workspace, dataset, trainer + LENGTH, plans)
    assert "do_dummy_2d_data_aug: True" in output  # rotated in the plane, not across slices
    losses = re.findall(r"(?:train|val)_loss (\S+)", output)
    assert len(losses) == 4
    assert all(isfinite(float(loss)) for loss in losses)
    assert ("Gate thresholds" in output) == trainer.endswith("CGM")
    dice = predict(workspace, dataset, trainer + LENGTH, 1, plans)
    assert np.isfinite(list(dice.values())).all()
    seconds = re.findall(r"Epoch time: ([\d.]+) s", output)
    print(f"| {trainer} | {plans} | {float(seconds[1]):.1f} s an epoch | Dice {next(iter(dice.values())):.3f} |")
