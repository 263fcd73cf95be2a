"""Every trainer through the stock commands on real MR, two short epochs: it trains, validates, is found again.

With `-rP` it prints a line each: parameters in millions, seconds an epoch, Dice of nnU-Net's validation.
Two epochs of two steps teach a network little: the Dice says that the pipeline works, not which network is better.
"""

import json
import re
import subprocess
from math import isfinite

import pytest
import timm
import torch

from nnunetv2_unet3plus import trainers
from nnunetv2_unet3plus.trainers.imagenet import WEIGHTS_VARIABLE
from tests.end_to_end.nnunet import write_hippocampus

pytestmark = pytest.mark.slow

LENGTH = "_2epochs_2iters"
CASES = 5  # one of them held out
NESTED_IN_3D = ["nnUNetTrainerUNetPlusPlus", "nnUNetTrainerUNetSharp", "nnUNetTrainerVNetSharp"]


@pytest.fixture(scope="module")
def planned(shared_workspace):
    """2d patches of 64 x 64, which six stages need."""
    dataset = write_hippocampus(shared_workspace.raw, cases=CASES)
    shared_workspace.run("nnUNetv2_plan_and_preprocess", "-d", 4, "-c", "2d", "3d_fullres", "-np", 2)
    shared_workspace.edit_plans(dataset, "2d", batch_size=2, patch_size=[64, 64])
    shared_workspace.edit_plans(dataset, "3d_fullres", batch_size=2)
    return shared_workspace, dataset


@pytest.fixture
def imagenet_weights(tmp_path, monkeypatch, planned):
    """imagenet_weights(trainer): a file in the place of what timm would download, weights at random."""

    def provide(trainer):
        name = {"VGG16": "vgg16_bn", "ResNet101": "resnet101"}[re.search("VGG16|ResNet101", trainer)[0]]
        torch.save(timm.create_model(name).state_dict(), tmp_path / "weights.pth")
        monkeypatch.setitem(planned[0].env, WEIGHTS_VARIABLE, str(tmp_path / "weights.pth"))

    return provide


def check(workspace, dataset, configuration, trainer):
    output = workspace.run("nnUNetv2_train", 4, configuration, 0, "-tr", trainer + LENGTH, "-device", "cpu")
    summary = workspace.model_folder(dataset, trainer + LENGTH, configuration) / "fold_0" / "validation/summary.json"
    scans = json.loads(summary.read_text())
    dice = scans["foreground_mean"]["Dice"]
    assert len(scans["metric_per_case"]) == 1
    losses = re.findall(r"(?:train|val)_loss (\S+)", output)
    assert len(losses) == 4
    assert all(isfinite(float(loss)) for loss in losses)
    parameters = re.search(r"([\d.]+) million parameters", output)[1]
    seconds = re.findall(r"Epoch time: ([\d.]+) s", output)
    assert len(seconds) == 2
    print(f"| `{trainer}` | {configuration} | {parameters} | {float(seconds[1]):.1f} | {dice:.3f} |")
    return output


@pytest.mark.parametrize("trainer", trainers.__all__)
def test_2d(trainer, planned, imagenet_weights):
    if not trainer.endswith("ImageNet"):
        check(*planned, "2d", trainer)
        return
    imagenet_weights(trainer)
    assert "Encoder starts from ImageNet's weights, " in check(*planned, "2d", trainer)


@pytest.mark.parametrize("trainer", NESTED_IN_3D)
def test_3d_fullres(trainer, planned):
    check(*planned, "3d_fullres", trainer)


@pytest.mark.parametrize("trainer", ["nnUNetTrainerPSPNet", "nnUNetTrainerUNet3PlusVGG16"])
def test_2d_network_on_a_3d_plan(trainer, planned):
    workspace, _ = planned
    command = ("nnUNetv2_train", 4, "3d_fullres", 0, "-tr", trainer + LENGTH, "-device", "cpu")
    process = workspace.start(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output, _ = process.communicate()
    assert process.returncode == 2
    assert "is a 2D network: train it with the configuration 2d" in output.splitlines()[-1]
    assert "Traceback" not in output


def test_prune_to_the_first_level_that_is_good_enough(planned):
    """The table counts the validation scans as nnU-Net did: the whole network's Dice is that of its validation."""
    workspace, dataset = planned
    trainer = "nnUNetTrainerUNetPlusPlus" + LENGTH
    model, output = workspace.model_folder(dataset, trainer, "2d"), workspace.root / "pruned"
    if not model.exists():
        check(workspace, dataset, "2d", "nnUNetTrainerUNetPlusPlus")
    printed = workspace.run("unet3plus", "prune", model, "--auto", "--tolerance", 100, "--device", "cpu", "-o", output)
    assert "Level 1 is the first within 100 percentage points" in printed
    print(printed[printed.index("level   parameters") :])
    levels = json.loads((output / "pruning.json").read_text())
    whole = json.loads((model / "fold_0" / "validation" / "summary.json").read_text())["foreground_mean"]
    assert levels[-1]["dice"] == pytest.approx(whole["Dice"], abs=1e-3)
    assert levels[-1]["iou"] == pytest.approx(whole["IoU"], abs=1e-3)
    assert levels[0]["seconds"] > 0
    images, masks = workspace.raw / dataset / "imagesTr", workspace.root / "pruned_out"
    workspace.run(
        "nnUNetv2_predict_from_modelfolder", "-m", output, "-f", 0, "-i", images, "-o", masks, "-device", "cpu",
        "--disable_tta",
    )  # fmt: skip
    assert len(list(masks.glob("*.nii.gz"))) == CASES
