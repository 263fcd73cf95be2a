import json
from copy import deepcopy
from dataclasses import replace

import pytest

from nnunetv2_unet3plus.benchmarking.fit import why_unfit
from nnunetv2_unet3plus.benchmarking.fold import digest
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


def test_other_validation_scans(folders):
    folders.train("nnUNetTrainer", 0)
    assert "validated other scans than splits_final.json holds out (4 differ)" in why(folders, splits=SPLITS[1:])
    assert why(folders, splits=[]) is None  # not known


def test_other_training_scans(folders):
    """Held-out scans alone do not tell: an interrupted training has none yet, and others may have joined."""
    folder = folders.train("nnUNetTrainer", 0, seed=0, repeatable=True, split=digest(SPLITS[0]))
    assert why(folders) is None
    other = [{"train": SPLITS[0]["train"][1:], "val": SPLITS[0]["val"]}, *SPLITS[1:]]
    (folder / "checkpoint_final.pth").rename(folder / "checkpoint_latest.pth")
    assert why(folders, splits=other).startswith("was trained on other scans than splits_final.json now says")


def test_a_fold_that_the_splits_do_not_have(folders):
    folders.train("nnUNetTrainer", 1)
    assert why(folders, splits=SPLITS[:1], fold="1").startswith("is none of the folds of splits_final.json")


def test_a_fold_keeps_its_own_plans(folders):
    """The model folder's plans.json is that of the last fold begun."""
    other = deepcopy(folders.plans)
    other["configurations"]["2d"]["patch_size"] = [64, 64]
    folders.train("nnUNetTrainer", 0, plans=other)
    folders.train("nnUNetTrainer", 1)
    assert "patch_size [64, 64] and [32, 32]" in why(folders, fold="0")
    assert why(folders, fold="1") is None


def test_no_fold_joins_those_of_another_plan(folders):
    """Training it would replace the plans.json that they need to predict."""
    other = deepcopy(folders.plans)
    other["configurations"]["2d"]["batch_size"] = 7
    folders.train("nnUNetTrainer", 0, plans=other)
    line = why(folders, fold="1")
    assert line.startswith("would join folds trained on another plan (batch_size 7 and 2); move ")


@pytest.mark.parametrize("where", ["configuration", "plans"])
def test_whatever_changes_the_data_or_the_loss_is_another_plan(folders, where):
    other = deepcopy(folders.plans)
    if where == "configuration":
        other["configurations"]["2d"]["batch_dice"] = False
    else:
        other["foreground_intensity_properties_per_channel"] = {"0": {"mean": 7.0}}
    folders.train("nnUNetTrainer", 0, plans=other)
    assert "another plan" in why(folders)


def test_what_changes_nothing_is_the_same_plan(folders):
    other = deepcopy(folders.plans)
    other["configurations"]["2d"]["median_image_size_in_voxels"] = [1.0, 2.0]
    folders.train("nnUNetTrainer", 0, plans=other)
    assert why(folders) is None


def test_plans_that_lack_the_configuration(folders):
    folders.train("nnUNetTrainer", 0)
    assert "another plan than nnUNetPlans is now (one without 2d)" in why(folders, plans={"configurations": {}})


def test_a_length_that_is_not_known(folders):
    folder = folders.train("nnUNetTrainer", 0)
    (folder / "debug.json").unlink()
    assert why(folders).startswith("is a training of a length that is not known, not of 2 epochs of 3 iterations")


def test_plans_that_nothing_tells(folders):
    folder = folders.train("nnUNetTrainer", 0)
    (folder / "checkpoint_final.pth").unlink()
    assert why(folders) is None  # masks alone, the model folder's plans
    (folder.parent / "plans.json").unlink()
    assert "was trained on a plan that is not known" in why(folders)


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
