import pytest

from nnunetv2_unet3plus.benchmarking.trainer_names import known_trainers, why_unknown, with_length
from nnunetv2_unet3plus.errors import UserError


@pytest.mark.parametrize("length", ["50epochs", "1epoch", "20epochs_100iters"])
def test_a_length_goes_behind_the_name(length):
    assert with_length("nnUNetTrainer", length) == f"nnUNetTrainer_{length}"


def test_no_length_leaves_the_name():
    assert with_length("nnUNetTrainer", None) == "nnUNetTrainer"


@pytest.mark.parametrize("length", ["50", "0epochs", "epochs", "50epochs_0iters", "fifty"])
def test_what_is_no_length(length):
    with pytest.raises(UserError, match=f"--length {length}: .*50epochs_100iters"):
        with_length("nnUNetTrainer", length)


def test_one_length_is_enough():
    with pytest.raises(UserError, match="-tr nnUNetTrainer_5epochs: has a length"):
        with_length("nnUNetTrainer_5epochs", "50epochs")


@pytest.mark.parametrize("name", ["nnUNetTrainer", "nnUNetTrainerUNet3Plus", "nnUNetTrainerUNetSharp_7epochs"])
def test_a_known_trainer(name):
    assert why_unknown(name) is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("nnUNetTrainerUnet3plus", "nnUNetTrainerUNet3Plus"), ("nnUNetTrainerDiceLos", "nnUNetTrainerDiceLoss")],
)
def test_an_unknown_trainer_with_the_names_nearest(typed, meant):
    line = why_unknown(typed)
    assert line.startswith(f"-tr {typed}: nnU-Net finds no such trainer; did you mean ")
    assert meant in line


def test_a_users_own_trainer_is_suggested(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("class nnUNetTrainerMyVeryOwn(nnUNetTrainer):\n    pass\n")
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    assert "nnUNetTrainerMyVeryOwn" in set(known_trainers())
