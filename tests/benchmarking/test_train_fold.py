import multiprocessing
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nnunetv2_unet3plus.benchmarking.fold import Fold, digest
from nnunetv2_unet3plus.benchmarking.train_fold import (
    begin,
    only_one_at_a_time,
    safe_and_repeatable,
    seed_everything,
)
from nnunetv2_unet3plus.errors import UserError
from tests.benchmarking.folders import SPLITS


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


@pytest.mark.parametrize("fold", [0, 4, "all"])
def test_the_same_place_draws_the_same(fold):
    seed_everything(3, fold, epoch=2)
    before = draw()
    seed_everything(3, fold, epoch=2)
    assert draw() == before


def test_every_seed_fold_and_epoch_draws_its_own():
    places = [(3, 0, None), (4, 0, None), (3, 1, None), (3, "all", None), (3, 0, 0), (3, 0, 1)]
    drawn = set()
    for place in places:
        seed_everything(*place)
        drawn.add(draw())
    assert len(drawn) == len(places)


class Trainer:
    """What `safe_and_repeatable` needs of nnU-Net's."""

    def __init__(self, epochs=40):
        self.num_epochs, self.current_epoch, self.save_every, self.drawn = epochs, 0, 50, []

    def on_epoch_start(self):
        self.drawn.append(draw())

    def save_checkpoint(self, filename):
        torch.save({"epoch": self.current_epoch}, filename)


def test_a_resumed_training_draws_what_it_would_have_drawn():
    whole, resumed = Trainer(), Trainer()
    for trainer, epochs in ((whole, (0, 1, 2)), (resumed, (2,))):
        safe_and_repeatable(trainer, seed=1, fold=0)
        for trainer.current_epoch in epochs:
            trainer.on_epoch_start()
    assert whole.drawn[2] == resumed.drawn[0]
    assert len(set(whole.drawn)) == 3


@pytest.mark.parametrize(("epochs", "every"), [(1000, 50), (40, 4), (3, 1)])
def test_short_trainings_are_saved_more_often(epochs, every):
    trainer = Trainer(epochs)
    safe_and_repeatable(trainer, seed=1, fold=0)
    assert trainer.save_every == every


def test_a_checkpoint_appears_whole(tmp_path):
    trainer = Trainer()
    safe_and_repeatable(trainer, seed=1, fold=0)
    trainer.save_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_latest.pth"]

    def killed_while_saving(filename):
        Path(filename).write_bytes(b"half")
        raise KeyboardInterrupt

    trainer = Trainer()
    trainer.save_checkpoint = killed_while_saving
    safe_and_repeatable(trainer, seed=1, fold=0)
    with pytest.raises(KeyboardInterrupt):
        trainer.save_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
    assert torch.load(tmp_path / "checkpoint_latest.pth") == {"epoch": 0}


def hold(folder, held, release):
    with only_one_at_a_time(folder):
        held.set()
        release.wait(30)


def test_a_fold_is_trained_by_one_process_at_a_time(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    held, release = spawn.Event(), spawn.Event()
    process = spawn.Process(target=hold, args=(tmp_path / "fold_0", held, release))
    process.start()
    assert held.wait(60)
    with (
        pytest.raises(UserError, match=r"fold_0: another process is working on it"),
        only_one_at_a_time(tmp_path / "fold_0"),
    ):
        pass
    process.kill()  # what it held, the operating system gives back
    process.join()
    with only_one_at_a_time(tmp_path / "fold_0"):
        pass


def asked(seed=5, device="cpu"):
    return SimpleNamespace(seed=seed, device=device, dataset="Dataset900_Phantom", fold="1")


@pytest.mark.parametrize(
    ("workers", "device", "repeatable"), [("0", "cpu", True), ("2", "cpu", False), ("0", "cuda", False)]
)
def test_the_record_says_whether_it_can_be_repeated(folders, tmp_path, monkeypatch, workers, device, repeatable):
    monkeypatch.setenv("nnUNet_n_proc_DA", workers)
    fold = Fold(tmp_path)
    begin(fold, asked(device=device), in_one_go=True)
    assert fold.record == {"seed": 5, "repeatable": repeatable, "split": digest(SPLITS[1])}


def test_who_began_it_stays_written(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    fold = Fold(tmp_path)
    begin(fold, asked(seed=5), in_one_go=True)
    assert begin(fold, asked(seed=6), in_one_go=False)["seed"] == 5


def test_what_nnunet_began_has_no_seed(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    assert begin(Fold(tmp_path), asked(), in_one_go=False) == {"seed": None, "repeatable": False, "split": None}


def test_going_on_where_it_cannot_be_repeated_is_told(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    fold = Fold(tmp_path)
    assert begin(fold, asked(), in_one_go=True)["repeatable"]
    assert not begin(fold, asked(device="cuda"), in_one_go=False)["repeatable"]
