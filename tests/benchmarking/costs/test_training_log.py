"""A fold's folder as nnU-Net leaves it, whole, resumed, damaged, empty."""

import json
from datetime import datetime, timedelta

import numpy as np
import pytest
import torch
from nnunetv2.training.logging.nnunet_logger import LocalLogger

from nnunetv2_unet3plus.benchmarking.costs.training_log import Training, read_training

EPOCHS, ITERATIONS, SECONDS = 4, 20, 50.0
DAY = timedelta(days=1).total_seconds()


def logged(pause_before=None, epochs=EPOCHS):
    """What nnU-Net's own logger holds after some epochs of 50 s."""
    logger, now = LocalLogger(), 1.7e9
    for epoch in range(epochs):
        now += DAY if epoch == pause_before else 3
        values = {
            "epoch_start_timestamps": now,
            "lrs": 0.01,
            "train_losses": np.float32(-0.25 * epoch),
            "val_losses": np.float64(-0.125 * epoch),
            "mean_fg_dice": np.float32(0.25 * epoch),
            "dice_per_class_or_region": [0.1, np.nan],
            "epoch_end_timestamps": now + SECONDS,
        }
        for key, value in values.items():
            logger.log(key, value, epoch)
        now += SECONDS
    return logger.get_checkpoint()


def write_checkpoint(fold, logging):
    content = {
        "network_weights": {"w": torch.ones(1000)},
        "logging": logging,
        "init_args": {"device": torch.device("cpu")},
    }
    torch.save(content, fold / "checkpoint_final.pth")


def write_log(fold, name, *events, start="2024-03-09 23:59:00"):
    """Lines as print_to_log_file writes them: events are (seconds after start, text)."""
    lines = ["\n####### Please cite the following paper\n"]
    for seconds, text in events:
        lines.append(f"{datetime.fromisoformat(start) + timedelta(seconds=seconds)}: {text} \n")
    (fold / f"training_log_{name}.txt").write_text("".join(lines))


@pytest.fixture
def fold(tmp_path):
    write_checkpoint(tmp_path, logged())
    settings = {"num_epochs": str(EPOCHS), "num_iterations_per_epoch": str(ITERATIONS), "device": "cuda:0"}
    (tmp_path / "debug.json").write_text(json.dumps(settings))
    write_log(
        tmp_path,
        "2024_3_9_23_59_00",
        (0, "Epoch 0"),
        (50.25, "Epoch time: 50.0 s"),
        (60, "predicting liver_001"),
        (60.5, "liver_001, shape torch.Size([1, 40, 64, 64]), rank 0"),
        (75, "predicting liver_002"),
        (90, "Validation complete"),
        (90.1, "Mean Validation Dice:  0.9"),
    )
    return tmp_path


def test_whole(fold):
    training = read_training(fold)
    assert training.curves.train_loss == [0, -0.25, -0.5, -0.75]
    assert training.curves.validation_loss == [0, -0.125, -0.25, -0.375]
    assert training.curves.pseudo_dice == [0, 0.25, 0.5, 0.75]
    assert all(type(value) is float for value in training.curves.train_loss)
    assert training.seconds_per_iteration == pytest.approx(SECONDS / ITERATIONS)
    assert training.seconds_per_case == pytest.approx(15)


def test_a_pause_between_two_epochs_does_not_count(fold):
    write_checkpoint(fold, logged(pause_before=2))
    assert read_training(fold).seconds_per_iteration == pytest.approx(SECONDS / ITERATIONS)


def test_an_epoch_without_an_end_does_not_count(fold):
    logging = logged()
    logging["epoch_start_timestamps"].append(2e9)
    write_checkpoint(fold, logging)
    assert read_training(fold).seconds_per_iteration == pytest.approx(SECONDS / ITERATIONS)


def test_the_last_validation_that_came_to_its_end_counts(fold):
    """Interrupted in a validation, validated again, and stopped in a third; names do not sort by date."""
    predictions = [(0, "predicting liver_001"), (100, "predicting liver_002")]
    write_log(fold, "2024_3_10_00_05_00", *predictions, start="2024-03-10 00:05:00")
    write_log(fold, "2024_10_1_00_00_00", *predictions, (160, "Validation complete"), start="2024-10-01 00:00:00")
    write_log(fold, "2024_11_1_00_00_00", *predictions, start="2024-11-01 00:00:00")
    assert read_training(fold).seconds_per_case == pytest.approx(80)


def test_empty_folder_and_no_folder(tmp_path):
    assert read_training(tmp_path) == read_training(tmp_path / "nowhere") == Training()


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "list", "other logging", "other values"])
def test_damaged_checkpoint(damage, fold):
    file = fold / "checkpoint_final.pth"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-2000])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "text":
        file.write_text("not a checkpoint")
    elif damage == "list":
        torch.save([1, 2], file)
    elif damage == "other logging":
        torch.save({"logging": None}, file)
    else:
        torch.save({"logging": {"train_losses": ["x"], "val_losses": 3}}, file)
    training = read_training(fold)
    assert training.curves.train_loss == training.curves.validation_loss == training.curves.pseudo_dice == []
    assert training.seconds_per_iteration is None
    assert training.seconds_per_case == pytest.approx(15)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"num_epochs": "5", "num_iterations_per_epoch": null}',
        '{"num_epochs": 5, "num_iterations_per_epoch": "0"}',
        "\xff",
    ],
)
def test_damaged_settings(content, fold):
    (fold / "debug.json").write_bytes(content.encode("latin-1"))
    training = read_training(fold)
    assert training.seconds_per_iteration is None
    assert len(training.curves.train_loss) == EPOCHS


@pytest.mark.parametrize("content", [b"", b"\xff\x00\xfe", b"2024-03-09 23:59:00: Validation complete \n"])
def test_damaged_log(content, fold):
    (fold / "training_log_2024_3_9_23_59_00.txt").write_bytes(content)
    assert read_training(fold).seconds_per_case is None


def test_a_time_without_fractions_and_a_clock_set_back(fold):
    log = fold / "training_log_2024_3_9_23_59_00.txt"
    log.write_text("2024-03-09 12:00:00: predicting a \n2024-03-09 12:00:07.500000: Validation complete \n")
    assert read_training(fold).seconds_per_case == pytest.approx(7.5)
    log.write_text("2024-03-09 12:00:00: predicting a \n2024-03-09 11:00:07.500000: Validation complete \n")
    assert read_training(fold).seconds_per_case is None


def test_weights_stay_on_disk(fold, monkeypatch):
    """The weights of a thousand folds would not fit into memory, nor be read in time."""
    asked = {}
    original = torch.load
    monkeypatch.setattr(torch, "load", lambda file, **options: asked.update(options) or original(file, **options))
    assert len(read_training(fold).curves.train_loss) == EPOCHS
    assert asked["mmap"] is True
    assert asked["map_location"] == "cpu"
