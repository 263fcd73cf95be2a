"""Trainers on plans written here, and trainers of a user in a folder that nnU-Net searches."""

import pytest

from tests.trainers.conftest import LABELS, make_trainer, plans

__all__ = ["make_trainer"]


@pytest.fixture
def on_plans():
    """on_plans(labels, channels, **plans options) -> plans, configuration and dataset.json."""

    def make(labels="labels", channels=1, **options):
        plan = plans(**options)
        *_, configuration = plan["configurations"]
        dataset_json = {
            "channel_names": {str(c): "CT" for c in range(channels)},
            "labels": LABELS[labels],
            "file_ending": ".nii.gz",
            "numTraining": 1,
        }
        return plan, configuration, dataset_json

    return make


@pytest.fixture
def users_trainer(tmp_path, monkeypatch):
    """users_trainer(body) -> the name of a trainer of that body which nnU-Net finds."""

    def make(body):
        folder = tmp_path / "plugin"
        folder.mkdir()
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        (folder / "users_trainers.py").write_text(
            "import torch\n"
            "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
            f"class nnUNetTrainerOfUser(nnUNetTrainer):\n{lines}\n"
        )
        monkeypatch.setenv("nnUNet_extTrainer", str(folder))
        return "nnUNetTrainerOfUser"

    return make
