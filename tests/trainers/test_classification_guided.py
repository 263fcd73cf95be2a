"""Trainers with a gate: it learns, also under DDP; curves and messages; the model folder's plans."""

import json
import math

import pytest
import torch

from nnunetv2_unet3plus import trainers
from nnunetv2_unet3plus.trainers import nnUNetTrainerUNet3Plus, nnUNetTrainerUNet3PlusCGM
from nnunetv2_unet3plus.trainers.classification_guided import ClassificationGuidedTrainer
from tests.trainers.conftest import LABELS
from tests.trainers.two_processes import gradient_sizes, train_in_two_processes

GUIDED = [
    trainer
    for trainer in (getattr(trainers, name) for name in trainers.__all__)
    if issubclass(trainer, ClassificationGuidedTrainer)
]


def of_gate(gradients):
    return {name: size for name, size in gradients.items() if name.startswith("gate")}


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("trainer_class", GUIDED)
def test_every_weight_of_the_gate_learns(trainer_class, labels, make_trainer, make_batch):
    trainer = make_trainer(trainer_class, labels)
    trainer.network.train()
    trainer.train_step(make_batch(trainer))
    gradients = of_gate(gradient_sizes(trainer.network))
    assert gradients
    assert min(gradients.values()) > 0


@pytest.mark.parametrize("trainer_class", GUIDED)
def test_every_weight_of_the_gate_learns_under_ddp(trainer_class, make_trainer, make_batch):
    trainer = make_trainer(trainer_class)
    first, second = map(of_gate, train_in_two_processes(trainer, [make_batch(trainer, seed) for seed in range(2)]))
    assert first == pytest.approx(second)
    assert min(first.values()) > 0


def test_gate_learns_to_classify(make_trainer, make_batch):
    trainer = make_trainer(nnUNetTrainerUNet3PlusCGM, batch_size=4)
    batch = make_batch(trainer)
    for level in batch["target"]:
        level[2:] = 0
    batch["data"][2:] = torch.randn(batch["data"][2:].shape, generator=torch.Generator().manual_seed(1))
    trainer.lr_scheduler.step(0)
    trainer.network.train()
    for _ in range(100):
        trainer.train_step(batch)
    _, empty = trainer.loss.record.take()
    assert empty == 0.5
    trainer.network.eval()
    with torch.no_grad():
        trainer.validation_step(batch)
    assert trainer.loss.record.take()[0] == 1


class TestLog:
    @pytest.fixture
    def epoch(self, make_trainer, make_batch, monkeypatch):
        def run(labels_of_patch):
            trainer = make_trainer(nnUNetTrainerUNet3PlusCGM)
            logged = []
            monkeypatch.setattr(trainer, "print_to_log_file", lambda *a, **_: logged.append(" ".join(map(str, a))))
            batch = make_batch(trainer)
            for level in batch["target"]:
                level[:] = labels_of_patch
            trainer.network.train()
            trainer.on_train_epoch_end([trainer.train_step(batch)])
            trainer.network.eval()
            with torch.no_grad():
                trainer.on_validation_epoch_end([trainer.validation_step(batch)])
            return trainer, logged

        return run

    def test_curves_beside_nnunets_own(self, epoch):
        trainer, logged = epoch(0)
        assert 0 <= trainer.logger.get_value("gate_accuracy", step=0) <= 1
        assert 0 <= trainer.logger.get_value("gate_accuracy_validation", step=0) <= 1
        assert trainer.logger.get_value("empty_patches", step=0) == 1
        assert logged[-1].startswith("Gate accuracy ")
        assert "100.0% of the training patches without foreground" in logged[-1]

    def test_class_in_every_patch_and_class_in_none(self, epoch):
        _, logged = epoch(1)
        assert sum("Every training patch of this epoch holds liver" in line for line in logged) == 1
        assert sum("No training patch of this epoch holds tumour" in line for line in logged) == 1

    def test_said_once(self, epoch, make_batch):
        trainer, logged = epoch(1)
        logged.clear()
        trainer.current_epoch = 1
        trainer.on_train_epoch_end([trainer.train_step(make_batch(trainer))])
        assert logged == []

    def test_epoch_without_annotated_patches(self, make_trainer, make_batch):
        trainer = make_trainer(nnUNetTrainerUNet3PlusCGM, "ignore")
        batch = make_batch(trainer)
        for level in batch["target"]:
            level[:] = trainer.label_manager.ignore_label
        trainer.network.train()
        trainer.on_train_epoch_end([trainer.train_step(batch)])
        assert math.isnan(trainer.logger.get_value("gate_accuracy", step=0))

    def test_names_of_labels_given_as_lists(self, make_trainer, monkeypatch):
        monkeypatch.setitem(LABELS, "labels", {"background": 0, "tumour": [2], "liver": 1})
        assert make_trainer(nnUNetTrainerUNet3PlusCGM)._class_names() == ["liver", "tumour"]

    def test_nothing_annotated(self, make_trainer):
        assert all(math.isnan(value) for value in make_trainer(nnUNetTrainerUNet3PlusCGM).loss.record.take())


@pytest.mark.parametrize("labels", LABELS)
def test_model_folders_plans_know_regions(labels, make_trainer):
    trainer = make_trainer(nnUNetTrainerUNet3PlusCGM, labels)
    plans = json.loads(json.dumps(trainer.plans_manager.plans))  # as nnU-Net writes it into the model folder
    assert plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["regions"] is labels.startswith("regions")


def test_cost_is_compared_with_the_plans_network(make_trainer):
    need = make_trainer(nnUNetTrainerUNet3PlusCGM)._memory_need()
    assert need.plan_network == make_trainer(nnUNetTrainerUNet3Plus)._memory_need().plan_network


def test_no_foreground_class(make_trainer, monkeypatch, refused):
    monkeypatch.setitem(LABELS, "labels", {"background": 0})
    with refused("needs a foreground class"):
        make_trainer(nnUNetTrainerUNet3PlusCGM)
