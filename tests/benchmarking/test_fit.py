import json
from copy import deepcopy
from dataclasses import replace

import pytest

from nnunetv2_unet3plus.benchmarking.fit import why_unfit
from nnunetv2_unet3plus.benchmarking.request import Request
from nnunetv2_unet3plus.errors import UserError
from tests.benchmarking.folders import DATASET, SPLITS

REQUEST = Request(DATASET, "2d", "nnUNetPlans", ("0", "1"), ("nnUNetTrainer",), epochs=2, iterations=3, seed=0)


def why(folders, plans=None, splits=SPLITS, fold="0"):
    return why_unfit(REQUEST.fold("nnUNetTrainer", fold), REQUEST, plans or folders.plans, splits)


def test_what_was_asked_for_fits(folders):
    folders.train("nnUNetTrainer", 0)
    assert why(folders) is None


def test_what_was_not_begun_fits(folders):
    assert why(folders) is None


def test_another_plan(folders):
    other = deepcopy(folders.plans)
    other["configurations"]["2d"]["patch_size"] = [64, 64]
    folder = folders.train("nnUNetTrainer", 0, plans=other)
    line = why(folders)
    assert line.startswith("was trained on another plan than nnUNetPlans is now (patch_size [64, 64] and [32, 32])")
    assert f"move {folder} away" in line


def test_an_interrupted_training_on_another_plan_is_not_continued(folders):
    other = deepcopy(folders.plans)
    other["configurations"]["2d"]["batch_size"] = 12
    folder = folders.train("nnUNetTrainer", 0, plans=other)
    (folder / "checkpoint_final.pth").rename(folder / "checkpoint_latest.pth")
    assert "batch_size 12 and 2" in why(folders)


def test_another_length(folders):
    folders.train("nnUNetTrainer", 0, length=(1000, 250))
    assert why(folders).startswith("is a training of 1000 epochs of 250 iterations, not of 2 epochs of 3 iterations")


def test_another_seed(folders):
    folders.train("nnUNetTrainer", 0, seed=8, repeatable=True)
    folders.train("nnUNetTrainer", 1, seed=None, repeatable=False)
    assert why(folders).startswith("was trained with seed 8, not 0")
    assert why(folders, fold="1") is None  # not seeded, which the report says


def test_another_split(folders):
    folders.train("nnUNetTrainer", 0)
    assert "validated 2 scans that splits_final.json does not hold out" in why(folders, splits=SPLITS[1:])
    assert why(folders, splits=[]) is None  # not known


def test_a_model_folder_without_plans(folders):
    folder = folders.train("nnUNetTrainer", 0)
    (folder.parent / "plans.json").unlink()
    assert "plans.json: no such file" in why(folders)


@pytest.mark.parametrize("missing", ["trainers", "seed"])
def test_a_request_is_read_as_it_was_written(tmp_path, missing):
    REQUEST.write(tmp_path)
    assert Request.read(tmp_path) == REQUEST
    content = json.loads((tmp_path / "benchmark.json").read_text())
    del content[missing]
    (tmp_path / "benchmark.json").write_text(json.dumps(content))
    with pytest.raises(Exception, match=f"{missing} missing"):
        Request.read(tmp_path)


def test_an_output_folder_is_of_one_benchmark(tmp_path):
    REQUEST.write(tmp_path)
    replace(REQUEST, folds=("3",), trainers=("nnUNetTrainerUNet3Plus",)).write(tmp_path)
    with pytest.raises(UserError, match=r"holds a benchmark with epochs 2, seed 0; choose another -o"):
        replace(REQUEST, epochs=50, seed=1).write(tmp_path)
    assert Request.read(tmp_path).folds == ("3",)
