"""Choosing a level by hand, and the command around it; that scans are predicted and evaluated is end to end."""

import json
from dataclasses import replace
from math import nan
from pathlib import Path

import numpy as np
import pytest

from nnunetv2_unet3plus import cli, trained_network
from nnunetv2_unet3plus.errors import UserError
from nnunetv2_unet3plus.pruning import levels
from nnunetv2_unet3plus.pruning.figure import draw
from nnunetv2_unet3plus.pruning.levels import Level, choose_level, table
from nnunetv2_unet3plus.trainers import nnUNetTrainerUNet3Plus, nnUNetTrainerUNetSharp, nnUNetTrainerUNetSharpNoDS
from tests.pruning.test_model_folder import make_model  # noqa: F401 - a fixture
from tests.trainers.conftest import make_trainer  # noqa: F401 - a fixture

LEVELS = [
    Level(1, 1_000, 0.5, 1.0, 0.90, 0.81),
    Level(2, 20_000, 1.5, 2.0, 0.947, 0.89),
    Level(3, 300_000, 3.25, 4.0, 0.952, 0.90),
    Level(4, 4_000_000, 9.0, 8.0, 0.950, 0.905),
]


@pytest.mark.parametrize(("tolerance", "level"), [(0, 3), (0.29, 3), (0.31, 2), (4.9, 2), (5.1, 1), (100, 1)])
def test_first_level_within_tolerance_of_the_whole(tolerance, level):
    assert choose_level(LEVELS, tolerance).level == level


def test_whole_network_where_nothing_less_will_do():
    assert choose_level([LEVELS[0], LEVELS[1], LEVELS[3]], 0.1).level == 4


def test_table():
    _, first, *_, last = table(LEVELS).splitlines()
    assert first.split() == ["1", "1,000", "0.50", "1.00", "0.9000", "0.8100"]
    assert last.split() == ["4", "4,000,000", "9.00", "8.00", "0.9500", "0.9050"]


def test_figure_has_a_point_a_level_as_large_as_its_parameters():
    by_time, by_size = draw(LEVELS, LEVELS[1]).axes
    dice, iou = by_time.collections
    assert np.allclose(dice.get_offsets(), [[1, 90], [2, 94.7], [4, 95.2], [8, 95]])
    assert np.allclose(iou.get_offsets()[:, 1], [81, 89, 90, 90.5])
    assert np.allclose(by_size.collections[0].get_offsets()[:, 0], [0.001, 0.02, 0.3, 4])
    assert dice.get_sizes().tolist() == [15, 15, 30, 400]
    white = [1, 1, 1, 1]
    assert [color.tolist() == white for color in dice.get_facecolors()] == [True, False, True, True]
    assert by_time.get_ylim()[0] > 70  # half a percentage point can be seen


@pytest.fixture
def dataset(make_model, tmp_path, monkeypatch):  # noqa: F811
    """A trained model and its dataset's folders, two scans held out in fold 0."""
    folder = make_model(nnUNetTrainerUNetSharp)
    raw, preprocessed = (tmp_path / part / "Dataset900_Phantom" for part in ("nnUNet_raw", "nnUNet_preprocessed"))
    for name in ("a", "b", "c"):
        for file in (raw / "imagesTr" / f"{name}_0000.nii.gz", raw / "labelsTr" / f"{name}.nii.gz"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    (preprocessed / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b", "c"]}]))
    return folder


@pytest.fixture
def measured(monkeypatch):
    """Prediction and evaluation replaced: level 2 is as good as level 3, level 1 is not."""
    predicted = []

    def predict(predictor, scans, masks):
        predicted.append((masks.name, [scan.name for scan in scans]))
        return 6.0

    def evaluate(labels, masks, *_, **__):
        score = {"Dice": 0.5, "IoU": 0.4} if masks.endswith("1") else {"Dice": 0.9, "IoU": 0.8}
        (Path(masks) / "summary.json").write_text(json.dumps({"foreground_mean": score}))

    monkeypatch.setattr(levels, "_predict", predict)
    monkeypatch.setattr(levels, "compute_metrics_on_folder2", evaluate)
    return predicted


def test_auto(dataset, measured, tmp_path, capsys):
    output = tmp_path / "pruned"
    assert cli.main(["prune", str(dataset), "--auto", "--device", "cpu", "-o", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "Level 2 is the first within 0.5 percentage points" in printed
    assert "pruned to level 2" in printed
    assert measured == [(f"masks_{level}", ["b", "c"]) for level in (1, 2, 3)]
    numbers = json.loads((output / "pruning.json").read_text())
    assert [each["seconds"] for each in numbers] == [3.0] * 3  # six seconds, two scans
    for cost in ("parameters", "gigaflop"):
        costs = [each[cost] for each in numbers]
        assert costs == sorted(set(costs))
    assert (output / "pruning.png").stat().st_size > 1000
    plans = json.loads((output / "plans.json").read_text())
    assert plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["prune_level"] == 2
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_gigaflop_by_hand(make_trainer):  # noqa: F811
    """Two stages: X(0, 1), 8 x 8 with 4 channels, from 4 and, half the size, 8; then a head of three classes."""
    trainer = make_trainer(nnUNetTrainerUNetSharp, n_stages=2, patch_size=[8, 8])
    trainer.set_deep_supervision_enabled(False)
    encoder = 64 * 9 * 1 * 4 + 16 * 9 * (4 * 8 + 8 * 8)
    node = 64 * 9 * (4 * 4 + 4 * 4)
    mixed = 16 * 9 * 8 * 4  # the coarse part of the concatenation, on its own grid, nine taps
    matrices = 4 * (8 * 12) * 12 + 4 * (8 * 12) * 8
    head = 64 * 4 * 3
    gigaflop = levels._gigaflop(trainer)  # has the two attributes of a predictor that count
    assert gigaflop * 1e9 == 2 * (encoder + node + mixed + matrices + head)

    stacked = make_trainer(nnUNetTrainerUNetSharp, n_stages=2, patch_size=[8, 8], stacked={"depth": 5})
    stacked.set_deep_supervision_enabled(False)
    two_channels_more = 64 * 9 * 2 * 4
    assert levels._gigaflop(stacked) == pytest.approx(5 * (gigaflop + 2 * two_channels_more / 1e9))


class TestBadInput:
    def refused(self, capsys, *command):
        assert cli.main(["prune", *map(str, command)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    @pytest.mark.parametrize("options", [[], ["--auto", "--level", "1"]])
    def test_level_or_auto(self, options, tmp_path, capsys):
        assert "either --level N or --auto" in self.refused(capsys, tmp_path, *options, "-o", tmp_path / "out")

    @pytest.mark.parametrize("tolerance", ["-1", "nan"])
    def test_tolerance(self, tolerance, dataset, tmp_path, capsys):
        error = self.refused(capsys, dataset, "--auto", "--tolerance", tolerance, "-o", tmp_path / "out")
        assert f"--tolerance {float(tolerance)}" in error

    def test_device(self, dataset, tmp_path, capsys):
        error = self.refused(capsys, dataset, "--auto", "--device", "abacus", "-o", tmp_path / "out")
        assert "--device abacus: not available" in error

    def test_output_exists(self, dataset, measured, tmp_path, capsys):
        assert "exists already" in self.refused(capsys, dataset, "--auto", "-o", tmp_path)
        assert measured == []

    def test_variable_not_set(self, dataset, tmp_path, capsys, monkeypatch):
        monkeypatch.delenv("nnUNet_raw")
        assert "nnUNet_raw is not set" in self.refused(capsys, dataset, "--auto", "-o", tmp_path / "out")

    def test_no_splits(self, dataset, tmp_path, capsys):
        (tmp_path / "nnUNet_preprocessed" / "Dataset900_Phantom" / "splits_final.json").unlink()
        assert "splits_final.json: no such file" in self.refused(capsys, dataset, "--auto", "-o", tmp_path / "out")

    def test_scan_is_gone(self, dataset, tmp_path, capsys):
        (tmp_path / "nnUNet_raw" / "Dataset900_Phantom" / "imagesTr" / "b_0000.nii.gz").unlink()
        error = self.refused(capsys, dataset, "--auto", "-o", tmp_path / "out")
        assert "b, which fold 0 has held out, is missing" in error

    def test_trained_on_everything(self, dataset, tmp_path, capsys):
        (dataset / "fold_0").rename(dataset / "fold_all")
        assert "name a --level yourself" in self.refused(capsys, dataset, "--auto", "-o", tmp_path / "out")

    def test_branches_never_trained(self, make_model, dataset, tmp_path, capsys):  # noqa: F811
        folder = make_model(nnUNetTrainerUNetSharpNoDS)
        assert "without deep supervision" in self.refused(capsys, folder, "--auto", "-o", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("plans.json", "{}", "does not fit"),
            ("plans.json", "{", "damaged"),
            ("dataset.json", "{}", "does not fit"),
            ("fold_0/checkpoint_final.pth", "no checkpoint", "not a readable checkpoint"),
        ],
    )
    def test_damaged_model(self, name, content, reason, dataset, measured, tmp_path, capsys):
        (dataset / name).write_text(content)
        assert reason in self.refused(capsys, dataset, "--auto", "-o", tmp_path / "out")
        assert measured == []

    @pytest.mark.parametrize(
        ("content", "reason"),
        [("[{", "damaged"), ("[7]", "damaged"), ('[{"val": []}]', "fold 0 has held out no scan"), ("[]", "no fold 0")],
    )
    def test_splits(self, content, reason, dataset, measured, tmp_path, capsys):
        splits = tmp_path / "nnUNet_preprocessed" / "Dataset900_Phantom" / "splits_final.json"
        splits.write_text(content)
        error = self.refused(capsys, dataset, "--auto", "-o", tmp_path / "out")
        assert str(splits) in error
        assert reason in error

    def test_network_without_levels(self, make_model, dataset, tmp_path, capsys):  # noqa: F811
        folder = make_model(nnUNetTrainerUNet3Plus)
        assert "trains no UNet++ or UNet#" in self.refused(capsys, folder, "--auto", "-o", tmp_path / "out")

    def test_second_stage_of_a_cascade(self, dataset, measured, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(trained_network, "determine_num_input_channels", lambda *_: 1)  # those of the model at hand
        plans = json.loads((dataset / "plans.json").read_text())
        plans["configurations"]["2d"]["previous_stage"] = "2d_lowres"
        plans["configurations"]["2d_lowres"] = plans["configurations"]["2d"] | {"next_stage": "2d"}
        (dataset / "plans.json").write_text(json.dumps(plans))
        error = self.refused(capsys, dataset, "--auto", "-o", tmp_path / "out")
        assert "a cascade's second stage needs masks as well" in error

    def test_scans_without_any_class(self):
        with pytest.raises(UserError, match="there is no Dice; name a --level"):
            choose_level([replace(level, dice=nan) for level in LEVELS], 0.5)
