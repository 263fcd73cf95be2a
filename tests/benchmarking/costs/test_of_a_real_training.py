"""What nnU-Net itself leaves behind is read: a training that is killed and resumed, and one that is validated."""

import json

import pytest

from nnunetv2_unet3plus.benchmarking.costs.network import network_costs
from nnunetv2_unet3plus.benchmarking.costs.training_log import read_training
from nnunetv2_unet3plus.benchmarking.fold import Fold
from tests.end_to_end.nnunet import Workspace, write_lits_phantoms

DATASET, TRAINER = "Dataset501_LiTS", "nnUNetTrainer_4epochs_3iters"


@pytest.mark.slow
def test_killed_and_resumed(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.run("unet3plus", "convert", "lits", write_lits_phantoms(tmp_path / "lits"))
    workspace.run("nnUNetv2_plan_and_preprocess", "-d", 501, "-c", "2d", "-npfp", 1, "-np", 1)
    workspace.edit_plans(DATASET, "2d", patch_size=[64, 64], batch_size=2)
    model = workspace.model_folder(DATASET, TRAINER, "2d")
    train = ("nnUNetv2_train", 501, "2d", 0, "-tr", TRAINER, "-device", "cpu")
    workspace.run_until(tmp_path / "log.txt", "Epoch 2", *train)
    workspace.run(*train, "--c")

    training = read_training(model / "fold_0")
    curves = (training.curves.train_loss, training.curves.validation_loss, training.curves.pseudo_dice)
    assert [len(curve) for curve in curves] == [4, 4, 4]
    assert Fold(model / "fold_0").length == (4, 3)
    assert 0 < training.seconds_per_iteration < 30
    assert 0 < training.seconds_per_case < 60

    plans, dataset_json = (json.loads((model / f"{name}.json").read_text()) for name in ("plans", "dataset"))
    costs = network_costs(TRAINER, plans, "2d", dataset_json)
    assert costs.problem is None
    assert (costs.epochs, costs.iterations) == (4, 3)
