"""What nnU-Net's users do beyond training and predicting, with our trainers, each once, on real scans."""

import json
import re

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunetv2_unet3plus.building_blocks.classification_gate import presence_probability
from nnunetv2_unet3plus.building_blocks.gating import ALL, Gating
from tests.end_to_end.nnunet import Workspace, ignore_every_other_slice, link_images, write_hippocampus

pytestmark = pytest.mark.slow

TRAINER = "nnUNetTrainerUNet3Plus_2epochs_6iters"


def plan(workspace, dataset, *options, name="nnUNetPlans", configurations=("2d",)):
    number = int(dataset[7:10])
    workspace.run("nnUNetv2_plan_and_preprocess", "-d", number, "-c", *configurations, "-np", 2, *options)
    for configuration in configurations:
        workspace.edit_plans(dataset, configuration, name, batch_size=8 if configuration == "2d" else 2)


def train(workspace, dataset, *options, fold=0, trainer=TRAINER, configuration="2d"):
    return workspace.run(
        "nnUNetv2_train", int(dataset[7:10]), configuration, fold, "-tr", trainer, "-device", "cpu", *options
    )


@pytest.fixture(scope="module")
def planned(shared_workspace):
    dataset = write_hippocampus(shared_workspace.raw, cases=15)
    plan(shared_workspace, dataset)
    return shared_workspace, dataset


@pytest.fixture(scope="module")
def trained(planned):
    """Two folds."""
    workspace, dataset = planned
    for fold in (0, 1):
        train(workspace, dataset, "--npz", fold=fold)
    return workspace, dataset, workspace.model_folder(dataset, TRAINER, "2d")


class TestFolds:
    """What is done with two folds once they are trained."""

    def test_npz_probabilities(self, trained):
        _, _, model = trained
        file = next((model / "fold_0" / "validation").glob("*.npz"))
        probabilities = np.load(file)["probabilities"]
        np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-2)

    def test_val(self, trained):
        workspace, dataset, model = trained
        summary = model / "fold_0" / "validation" / "summary.json"
        before = json.loads(summary.read_text())["foreground_mean"]
        summary.unlink()
        train(workspace, dataset, "--val")
        assert json.loads(summary.read_text())["foreground_mean"] == before

    def test_find_best_configuration_and_ensemble(self, trained):
        workspace, dataset, _ = trained
        workspace.run("nnUNetv2_find_best_configuration", 4, "-c", "2d", "-tr", TRAINER, "-f", 0, 1, "-np", 2)
        assert (workspace.results / dataset / "inference_information.json").is_file()
        images = link_images(workspace.raw / dataset / "imagesTr", workspace.root / "ensemble_in", 2)
        folders = []
        for fold in (0, 1):
            folders.append(workspace.root / f"ensemble_{fold}")
            workspace.run(
                "nnUNetv2_predict", "-d", 4, "-c", "2d", "-f", fold, "-tr", TRAINER, "-i", images, "-o", folders[-1],
                "-device", "cpu", "--disable_tta", "--save_probabilities",
            )  # fmt: skip
        together = workspace.root / "ensembled"
        workspace.run("nnUNetv2_ensemble", "-i", *folders, "-o", together, "-np", 2)
        assert len(list(together.glob("*.nii.gz"))) == 2
        both = workspace.root / "two_folds"  # nnU-Net's other way: both folds in one prediction
        workspace.run(
            "nnUNetv2_predict", "-d", 4, "-c", "2d", "-f", 0, 1, "-tr", TRAINER, "-i", images, "-o", both,
            "-device", "cpu", "--disable_tta",
        )  # fmt: skip
        assert len(list(both.glob("*.nii.gz"))) == 2

    def test_export_and_import_on_another_data_root(self, trained):
        workspace, dataset, _ = trained
        archive = workspace.root / "model.zip"
        workspace.run("nnUNetv2_export_model_to_zip", "-d", 4, "-o", archive, "-c", "2d", "-tr", TRAINER, "-f", 0, 1)
        elsewhere = Workspace(workspace.root / "elsewhere")
        elsewhere.run("nnUNetv2_install_pretrained_model_from_zip", archive)
        images = link_images(workspace.raw / dataset / "imagesTr", workspace.root / "zip_in", 1)
        options = ("-d", 4, "-c", "2d", "-f", 0, "-tr", TRAINER, "-i", images, "-device", "cpu", "--disable_tta")
        masks = []
        for where in (workspace, elsewhere):
            masks.append(where.root / "zip_out")
            where.run("nnUNetv2_predict", *options, "-o", masks[-1])
        ours, theirs = (next(m.glob("*.nii.gz")).read_bytes() for m in masks)
        assert ours == theirs


def test_resume_after_kill(planned):
    workspace, dataset = planned
    trainer = "nnUNetTrainerUNet3Plus_5epochs_4iters"
    # the log line of an epoch's end follows its checkpoint
    workspace.run_until(
        workspace.root / "killed.log", r"Epoch 2 of 5 done",
        "nnUNetv2_train", 4, "2d", 0, "-tr", trainer, "-device", "cpu",
    )  # fmt: skip
    fold = workspace.model_folder(dataset, trainer, "2d") / "fold_0"
    assert not (fold / "checkpoint_final.pth").exists()
    resumed_at = torch.load(fold / "checkpoint_latest.pth", weights_only=False)["current_epoch"]
    assert resumed_at >= 2

    output = train(workspace, dataset, "--c", trainer=trainer)
    epochs = [int(n) for n in re.findall(r"Epoch (\d+) of 5 done", output)]
    assert epochs == list(range(resumed_at + 1, 6))
    assert torch.load(fold / "checkpoint_final.pth", weights_only=False)["current_epoch"] == 5


def test_stock_trainer_of_any_length(planned):
    workspace, dataset = planned
    name = "nnUNetTrainer_1epochs_2iters"
    train(workspace, dataset, trainer=name)
    assert (workspace.model_folder(dataset, name, "2d") / "fold_0" / "validation" / "summary.json").is_file()


def test_pruned_model_is_an_ordinary_model_folder(planned):
    """Predicted from its folder, and, under a plans name of its own, exported, imported and predicted."""
    workspace, dataset = planned
    trainer = "nnUNetTrainerUNetSharp_1epochs_6iters"
    train(workspace, dataset, trainer=trainer)
    whole, pruned = (
        workspace.model_folder(dataset, trainer, "2d", plans) for plans in ("nnUNetPlans", "nnUNetPlansL1")
    )
    workspace.run("unet3plus", "prune", whole, "--level", 1, "-o", pruned)
    sizes = [(model / "fold_0" / "checkpoint_final.pth").stat().st_size for model in (pruned, whole)]
    assert sizes[0] < 0.1 * sizes[1]

    archive, images = workspace.root / "pruned.zip", link_images(
        workspace.raw / dataset / "imagesTr", workspace.root / "pruned_in", 2
    )  # fmt: skip
    workspace.run("nnUNetv2_export_model_to_zip", "-d", 4, "-o", archive, "-c", "2d", "-tr", trainer,
                  "-p", "nnUNetPlansL1", "-f", 0)  # fmt: skip
    elsewhere = Workspace(workspace.root / "pruned_elsewhere")
    elsewhere.run("nnUNetv2_install_pretrained_model_from_zip", archive)
    options = ("-i", images, "-f", 0, "-device", "cpu", "--disable_tta")
    masks = [workspace.root / "pruned_out", elsewhere.root / "pruned_out"]
    workspace.run("nnUNetv2_predict_from_modelfolder", "-m", pruned, "-o", masks[0], *options)
    elsewhere.run("nnUNetv2_predict", "-d", 4, "-c", "2d", "-tr", trainer, "-p", "nnUNetPlansL1", "-o", masks[1],
                  *options)  # fmt: skip
    names = sorted(mask.name for mask in masks[0].glob("*.nii.gz"))
    assert len(names) == 2
    for name in names:
        assert (masks[0] / name).read_bytes() == (masks[1] / name).read_bytes()


GATED_TRAINER = "nnUNetTrainerUNet3PlusCGM_2epochs_6iters"


@pytest.fixture(scope="module")
def gated(planned):
    """Thresholds set so that some tiles are called absent: a short training does not get there by itself."""
    workspace, dataset = planned
    output = train(workspace, dataset, trainer=GATED_TRAINER)
    assert len(re.findall("Gate accuracy", output)) == 2
    assert "Gate thresholds, below which a class is absent: anterior" in output
    model = workspace.model_folder(dataset, GATED_TRAINER, "2d")
    images = link_images(workspace.raw / dataset / "imagesTr", workspace.root / "gate_in", 2)
    answers = []
    predict_in_process(model, images, answers.append)
    file = model / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    checkpoint["network_weights"]["gatings.0.thresholds"] = presence_probability(torch.cat(answers)).quantile(
        0.6, dim=0
    )
    torch.save(checkpoint, file)
    return workspace, dataset, model, images


class TestClassificationGate:
    def test_early_exit_changes_no_mask(self, gated, monkeypatch):
        _, _, model, images = gated
        with_exit, network = predict_in_process(model, images)
        count = network.gatings[0].count
        assert 0 < count.skipped < count.seen

        def decode_always(gating, gate_logits, size, decode):
            return gating.hard(decode(ALL), presence_probability(gate_logits) >= gating.thresholds)

        monkeypatch.setattr(Gating, "forward", decode_always)
        without_exit, _ = predict_in_process(model, images)
        for ours, theirs in zip(with_exit, without_exit, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_thresholds_survive_export_and_import(self, gated):
        workspace, _, _, images = gated
        archive = workspace.root / "gated.zip"
        workspace.run("nnUNetv2_export_model_to_zip", "-d", 4, "-o", archive, "-c", "2d", "-tr", GATED_TRAINER, "-f", 0)
        elsewhere = Workspace(workspace.root / "gated_elsewhere")
        elsewhere.run("nnUNetv2_install_pretrained_model_from_zip", archive)
        outputs, masks = [], []
        for where in (workspace, elsewhere):
            masks.append(where.root / "gate_out")
            outputs.append(where.run(
                "nnUNetv2_predict", "-d", 4, "-c", "2d", "-f", 0, "-tr", GATED_TRAINER, "-i", images, "-o", masks[-1],
                "-device", "cpu", "--disable_tta",
            ))  # fmt: skip
        skipped = [re.findall(r"decoder skipped for (\d+) of (\d+) patches", output) for output in outputs]
        assert skipped[0] == skipped[1]
        assert 0 < int(skipped[0][0][0]) < int(skipped[0][0][1])
        for name in sorted(mask.name for mask in masks[0].glob("*.nii.gz")):
            assert (masks[0] / name).read_bytes() == (masks[1] / name).read_bytes()


def predict_in_process(model, images, hear=lambda gate_logits: None):
    """Masks of all scans as arrays, and the network that made them; `hear` gets the gate's answer for every tile."""
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,), "checkpoint_final.pth")
    predictor.network.gate.register_forward_hook(lambda gate, inputs, answer: hear(answer))
    files = [[str(file)] for file in sorted(images.iterdir())]
    masks = predictor.predict_from_files_sequential(files, None)
    return masks, predictor.network


def test_residual_encoder_plan(planned):
    workspace, dataset = planned
    plan(workspace, dataset, "-pl", "nnUNetPlannerResEncM", name="nnUNetResEncUNetMPlans")
    train(workspace, dataset, "-p", "nnUNetResEncUNetMPlans")
    model = workspace.model_folder(dataset, TRAINER, "2d", "nnUNetResEncUNetMPlans")
    assert (model / "fold_0" / "validation" / "summary.json").is_file()


def test_stock_trainer_on_plans_that_name_our_network(planned):
    workspace, dataset = planned
    plans = json.loads(workspace.plans(dataset).read_text())
    architecture = plans["configurations"]["2d"]["architecture"]
    architecture["network_class_name"] = "nnunetv2_unet3plus.architectures.unet3plus.UNet3Plus"
    architecture["arch_kwargs"]["cat_channels"] = 8
    plans["plans_name"] = "UNet3PlusPlans"
    workspace.plans(dataset, "UNet3PlusPlans").write_text(json.dumps(plans))
    train(workspace, dataset, "-p", "UNet3PlusPlans", trainer="nnUNetTrainer_1epochs_2iters")
    model = workspace.model_folder(dataset, "nnUNetTrainer_1epochs_2iters", "2d", "UNet3PlusPlans")
    checkpoint = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)
    assert "decoder.stages.0.fusion.conv.weight" in checkpoint["network_weights"]


def test_regions(workspace):
    labels = {"background": 0, "hippocampus": [1, 2], "posterior": 2}
    dataset = write_hippocampus(workspace.raw, 10, "Dataset005_Regions", labels, regions_class_order=[1, 2])
    plan(workspace, dataset)
    train(workspace, dataset)
    summary = workspace.model_folder(dataset, TRAINER, "2d") / "fold_0" / "validation" / "summary.json"
    assert set(json.loads(summary.read_text())["mean"]) == {"(1, 2)", "2"}


def test_ignore_label(workspace):
    labels = {"background": 0, "anterior": 1, "posterior": 2, "ignore": 3}
    dataset = write_hippocampus(workspace.raw, 10, "Dataset006_Ignore", labels)
    ignore_every_other_slice(workspace.raw / dataset / "labelsTr", ignore_label=3)
    plan(workspace, dataset)
    train(workspace, dataset)
    summary = workspace.model_folder(dataset, TRAINER, "2d") / "fold_0" / "validation" / "summary.json"
    assert set(json.loads(summary.read_text())["mean"]) == {"1", "2"}


@pytest.mark.parametrize(
    "trainer", [TRAINER, "nnUNetTrainerUNetPlusPlus_1epochs_2iters", "nnUNetTrainerUNetSharp_1epochs_2iters"]
)
def test_cascade(trainer, workspace):
    """Low resolution, its predictions for the next stage, then full resolution on top of them."""
    dataset = write_hippocampus(workspace.raw, cases=5)
    workspace.run("nnUNetv2_extract_fingerprint", "-d", 4, "-np", 2)
    workspace.run("nnUNetv2_plan_experiment", "-d", 4)
    file = workspace.plans(dataset)
    plans = json.loads(file.read_text())  # nnU-Net plans a cascade for large images only: write one by hand
    fullres = plans["configurations"]["3d_fullres"]
    fullres["batch_size"] = 2
    plans["configurations"]["3d_lowres"] = fullres | {
        "data_identifier": "nnUNetPlans_3d_lowres",
        "spacing": [1.5, 1.5, 1.5],
        "patch_size": [24, 40, 24],
        "next_stage": ["3d_cascade_fullres"],
    }
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    file.write_text(json.dumps(plans))
    workspace.run("nnUNetv2_preprocess", "-d", 4, "-c", "3d_lowres", "3d_fullres", "-np", 2)
    (workspace.preprocessed / dataset / "splits_final.json").write_text(
        json.dumps([{"train": cases, "val": cases} for cases in [all_cases(workspace.raw / dataset)]])
    )
    train(workspace, dataset, trainer=trainer, configuration="3d_lowres")
    train(workspace, dataset, trainer=trainer, configuration="3d_cascade_fullres")
    model = workspace.model_folder(dataset, trainer, "3d_cascade_fullres")
    assert (model / "fold_0" / "validation" / "summary.json").is_file()


def all_cases(dataset):
    return sorted(f.name.removesuffix(".nii.gz") for f in (dataset / "labelsTr").glob("*.nii.gz"))
