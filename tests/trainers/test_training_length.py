import importlib.util
import inspect
import os
from pathlib import Path

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

import nnunetv2_unet3plus
from nnunetv2_unet3plus.trainers.time_left import TimeLeftMixin
from nnunetv2_unet3plus.trainers.training_length import (
    TrainingLengthMixin,
    find_trainer_of_length,
    trainer_of_length,
)

PLUGIN_DIRECTORY = Path(nnunetv2_unet3plus.__file__).parent / "nnunet_plugin"


@pytest.fixture
def bare_nnunet_trainer(monkeypatch):
    """nnU-Net's trainer without its files and folders: only what a length changes, and how it reads its arguments."""

    def init(self, plans, configuration, fold, dataset_json, device):
        known = locals()
        self.my_init_kwargs = {name: known[name] for name in inspect.signature(self.__init__).parameters}
        self.num_epochs, self.save_every = 1000, 50
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 250, 50

    monkeypatch.setattr(nnUNetTrainer, "__init__", init)


def make(trainer):
    return trainer({}, "2d", 0, {}, torch.device("cpu"))


@pytest.mark.usefixtures("bare_nnunet_trainer")
class TestTrainerOfLength:
    def test_epochs_alone_leave_the_iterations(self):
        trainer = make(trainer_of_length(nnUNetTrainer, "X", epochs=20))
        assert (trainer.num_epochs, trainer.save_every) == (20, 2)
        assert (trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch) == (250, 50)

    @pytest.mark.parametrize(("iterations", "validation"), [(1, 1), (4, 1), (10, 2), (250, 50)])
    def test_iterations_keep_nnunets_share_of_validation(self, iterations, validation):
        trainer = make(trainer_of_length(nnUNetTrainer, "X", epochs=1, iterations=iterations))
        assert (trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch) == (iterations, validation)

    @pytest.mark.parametrize(("epochs", "save_every"), [(1, 1), (9, 1), (100, 10), (5000, 50)])
    def test_short_trainings_can_resume_too(self, epochs, save_every):
        assert make(trainer_of_length(nnUNetTrainer, "X", epochs)).save_every == save_every

    def test_nnunet_reads_the_arguments_by_introspection(self):
        kwargs = make(trainer_of_length(nnUNetTrainer, "X", 3)).my_init_kwargs
        assert list(kwargs) == ["plans", "configuration", "fold", "dataset_json", "device"]

    def test_a_length_on_a_length_wins(self):
        inner = trainer_of_length(nnUNetTrainer, "nnUNetTrainer_7epochs", 7, 3)
        trainer = make(trainer_of_length(inner, "nnUNetTrainer_7epochs_9epochs", 9))
        assert (trainer.num_epochs, trainer.num_iterations_per_epoch) == (9, 250)


def test_the_mixin_comes_once():
    class WithTimeLeft(TimeLeftMixin):
        pass

    trainer = trainer_of_length(WithTimeLeft, "X", 3)
    assert trainer.__bases__ == (TrainingLengthMixin, WithTimeLeft)
    assert trainer.__mro__.count(TimeLeftMixin) == 1


@pytest.mark.parametrize(
    ("name", "epochs", "iterations"),
    [
        ("nnUNetTrainer_3epochs", 3, None),
        ("nnUNetTrainer_3epochs_2iters", 3, 2),
        ("nnUNetTrainer_1epoch_1iter", 1, 1),
        ("nnUNetTrainerDiceCELoss_noSmooth_12epochs", 12, None),
        ("nnUNetTrainer_5epochs_4iters", 5, 4),
        ("nnUNetTrainer_5epochs_40epochs", 40, None),
    ],
)
def test_names_with_a_length(name, epochs, iterations):
    trainer = find_trainer_of_length(name)
    assert trainer is not None
    assert trainer.__name__ == name
    assert issubclass(trainer, nnUNetTrainer)
    assert issubclass(trainer, TimeLeftMixin)
    assert (trainer.requested_epochs, trainer.requested_iterations) == (epochs, iterations)


@pytest.mark.parametrize(
    "name",
    [
        "nnUNetTrainer",
        "nnUNetTrainer_0epochs",
        "nnUNetTrainer_05epochs",
        "nnUNetTrainer_3epochs_0iters",
        "nnUNetTrainer_epochs",
        "nnUNetTrainer_-3epochs",
        "nnUNetTrainer_3epochs_2iters_",
        "nnUNetTrainer_2iters",
        "_3epochs",
        "3epochs",
        "nnUNetTrainerNobodyWrote_3epochs",
        "__path__",
    ],
)
def test_names_that_stand_for_nothing(name):
    assert find_trainer_of_length(name) is None


def test_finding_the_base_is_silent(capsys):
    find_trainer_of_length("nnUNetTrainer_3epochs_2iters")
    find_trainer_of_length("nnUNetTrainerNobodyWrote_3epochs")
    assert capsys.readouterr().out == ""


@pytest.fixture
def users_own_trainers(tmp_path):
    """A directory of the user's beside ours; yields it."""
    tmp_path.joinpath("my_trainers.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        "class nnUNetTrainerToy(nnUNetTrainer):\n    pass\n"
        "class nnUNetTrainerToy_2epochs(nnUNetTrainerToy):\n    mine = True\n"
        "class NotATrainer:\n    pass\n"
    )
    return tmp_path


@pytest.mark.parametrize("user_first", [True, False])
def test_look_up_through_nnunet(users_own_trainers, monkeypatch, user_first):
    directories = [str(users_own_trainers), str(PLUGIN_DIRECTORY)]
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join(directories if user_first else directories[::-1]))
    for name in ("nnUNetTrainerToy", "nnUNetTrainerToy_3epochs_2iters", "nnUNetTrainer_3epochs"):
        for _ in range(2):  # nnU-Net drops the modules after each look-up
            assert recursive_find_trainer_class_by_name(name).__name__ == name


def test_the_users_own_class_of_that_name_wins(users_own_trainers, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(users_own_trainers), str(PLUGIN_DIRECTORY)]))
    assert recursive_find_trainer_class_by_name("nnUNetTrainerToy_2epochs").mine


def test_a_base_that_is_no_trainer_gets_nnunets_own_error(users_own_trainers, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(users_own_trainers), str(PLUGIN_DIRECTORY)]))
    with pytest.raises(AssertionError, match="must inherit from 'nnUNetTrainer'"):
        recursive_find_trainer_class_by_name("NotATrainer_2epochs")


def test_unknown_trainers_get_nnunets_own_error(monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", str(PLUGIN_DIRECTORY))
    for name in ("nnUNetTrainerNobodyWrote", "nnUNetTrainerNobodyWrote_3epochs"):
        with pytest.raises(RuntimeError, match=f"Could not find requested nnunet trainer {name}"):
            recursive_find_trainer_class_by_name(name)


def test_plugin_directory_holds_one_module_that_is_no_package():
    modules = [path.name for path in PLUGIN_DIRECTORY.iterdir() if path.name != "__pycache__"]
    assert modules == ["nnunetv2_unet3plus_trainers.py"]


def test_plugin_module_answers_twice_with_one_class():
    path = PLUGIN_DIRECTORY / "nnunetv2_unet3plus_trainers.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.nnUNetTrainer_3epochs is module.nnUNetTrainer_3epochs
    assert not hasattr(module, "nnUNetTrainerNobodyWrote_3epochs")
