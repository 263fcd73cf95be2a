import json
from argparse import Namespace
from copy import deepcopy

import pytest

from nnunetv2_unet3plus.benchmarking.asked import understand
from nnunetv2_unet3plus.errors import UserError
from tests.benchmarking.folders import DATASET, SPLITS, write_json


def ask(**changes):
    defaults = {
        "dataset": "900",
        "configuration": "2d",
        "folds": ["0", "1"],
        "trainers": ["nnUNetTrainer", "nnUNetTrainerUNet3Plus"],
        "plans": "nnUNetPlans",
        "length": "2epochs_3iters",
        "seed": 0,
        "test_images": None,
        "test_labels": None,
    }
    return understand(Namespace(**defaults | changes))


def test_what_is_asked_for(folders):
    asked = ask()
    request = asked.request
    assert request.dataset == DATASET
    assert request.trainers == ("nnUNetTrainer_2epochs_3iters", "nnUNetTrainerUNet3Plus_2epochs_3iters")
    assert (request.epochs, request.iterations) == (2, 3)
    assert request.folds == ("0", "1")
    assert asked.splits == SPLITS
    assert asked.problems == []


def test_an_unknown_trainer_is_left_out_with_the_nearest_names(folders):
    asked = ask(trainers=["nnUNetTrainer", "nnUNetTrainerUNet3Pluss"])
    assert asked.request.trainers == ("nnUNetTrainer_2epochs_3iters",)
    assert len(asked.problems) == 1
    assert "did you mean nnUNetTrainerUNet3Plus" in asked.problems[0]


def test_a_fold_that_is_not_there_is_left_out(folders):
    asked = ask(folds=["0", "7"])
    assert asked.request.folds == ("0",)
    assert asked.problems == [f"-f 7: no such fold; {folders.preprocessed / 'splits_final.json'} has 0 to 4"]


def test_named_twice_is_meant_once(folders):
    request = ask(folds=["1", "1"], trainers=["nnUNetTrainer", "nnUNetTrainer"]).request
    assert (request.folds, request.trainers) == (("1",), ("nnUNetTrainer_2epochs_3iters",))


def test_splits_are_nnunets_own_where_none_are_there(folders):
    (folders.preprocessed / "splits_final.json").unlink()
    data = folders.preprocessed / "preprocessed"
    for number in range(10):
        (data / f"case_{number}.b2nd").touch()
        (data / f"case_{number}.pkl").touch()
    splits = ask().splits
    assert len(splits) == 5
    assert sorted(case for split in splits for case in split["val"]) == [f"case_{number}" for number in range(10)]
    assert json.loads((folders.preprocessed / "splits_final.json").read_text()) == splits


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"dataset": "901"}, "-d 901: no such dataset .*Dataset900_Phantom"),
        ({"configuration": "3d_fullres"}, "-c 3d_fullres: .*nnUNetPlans.json has 2d"),
        ({"plans": "nnUNetPlanz"}, "nnUNetPlanz.json: no such file; -p names plans; there: nnUNetPlans"),
        ({"trainers": ["nnUNetTrainerXYZ123"]}, "-tr nnUNetTrainerXYZ123: nnU-Net finds no such trainer"),
        ({"folds": ["9"]}, "-f 9: no such fold"),
        ({"folds": ["all", "0"]}, "-f all 0: fold all trains on every scan"),
        ({"length": "long"}, "--length long"),
        (
            {"length": None, "trainers": ["nnUNetTrainer", "nnUNetTrainer_7epochs"]},
            "differ in length .*nnUNetTrainer 1000 epochs of 250; .* --length",
        ),
    ],
)
def test_what_makes_it_pointless(folders, changes, line):
    with pytest.raises(UserError, match=line):
        ask(**changes)


def test_data_that_is_not_preprocessed(folders):
    (folders.preprocessed / "preprocessed" / "case_0.b2nd").unlink()
    with pytest.raises(UserError, match=r"no preprocessed data for 2d; run nnUNetv2_preprocess -d 900 .* -c 2d"):
        ask()


@pytest.mark.parametrize("variable", ["nnUNet_preprocessed", "nnUNet_results"])
def test_a_folder_that_is_not_set(folders, monkeypatch, variable):
    monkeypatch.delenv(variable)
    with pytest.raises(UserError, match=f"{variable} is not set"):
        ask()


def test_test_scans(folders, tmp_path):
    images, labels = tmp_path / "imagesTs", tmp_path / "labelsTs"
    for folder in (images, labels):
        folder.mkdir()
    with pytest.raises(UserError, match="give both"):
        ask(test_images=images)
    with pytest.raises(UserError, match=r"imagesTs: no files \*_0000.nii.gz"):
        ask(test_images=images, test_labels=labels)
    (images / "a_0000.nii.gz").touch()
    with pytest.raises(UserError, match=r"labelsTs: no files \*.nii.gz"):
        ask(test_images=images, test_labels=labels)
    (labels / "a.nii.gz").touch()
    assert ask(test_images=images, test_labels=labels).request.test_images == str(images)


def test_test_scans_of_a_cascade(folders, tmp_path):
    plans = deepcopy(folders.plans)
    plans["configurations"]["2d"]["previous_stage"] = "3d_lowres"
    write_json(folders.preprocessed / "nnUNetPlans.json", plans)
    with pytest.raises(UserError, match="2d needs masks of its first stage"):
        ask(test_images=tmp_path, test_labels=tmp_path, length="2epochs_3iters", trainers=["nnUNetTrainer"])


def cascade(folders):
    plans = deepcopy(folders.plans)
    plans["configurations"]["2d"]["previous_stage"] = "2d_first"
    plans["configurations"]["2d_first"] = folders.plans["configurations"]["2d"]
    write_json(folders.preprocessed / "nnUNetPlans.json", plans)


def test_a_cascade_needs_each_trainers_own_first_stage(folders):
    cascade(folders)
    with pytest.raises(UserError, match="-tr nnUNetTrainerUNet3Plus_2epochs_3iters: has no first stage of its own"):
        ask()
    first = folders.root / "results" / DATASET / "nnUNetTrainer_2epochs_3iters__nnUNetPlans__2d_first"
    (first / "predicted_next_stage" / "2d").mkdir(parents=True)
    (first / "predicted_next_stage" / "2d" / "case_0.npz").touch()
    asked = ask()
    assert asked.request.trainers == ("nnUNetTrainer_2epochs_3iters",)
    assert len(asked.problems) == 1


def test_a_network_these_plans_cannot_build_is_left_out(folders, monkeypatch):
    plans = deepcopy(folders.plans)
    plans["configurations"]["2d"]["patch_size"] = [8, 8]  # one voxel for the deepest of four stages
    write_json(folders.preprocessed / "nnUNetPlans.json", plans)
    asked = ask()
    assert asked.request.trainers == ("nnUNetTrainer_2epochs_3iters",)
    assert "too small for 4 stages" in asked.problems[0]


@pytest.mark.parametrize("content", ["[{", '{"train": []}', '[{"train": []}]'])
def test_damaged_splits(folders, content):
    (folders.preprocessed / "splits_final.json").write_text(content)
    with pytest.raises(UserError, match=r"splits_final\.json: damaged; write it anew"):
        ask()
