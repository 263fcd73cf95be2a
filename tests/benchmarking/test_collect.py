import json
from copy import deepcopy

import numpy as np
import pytest

from nnunetv2_unet3plus.benchmarking.collect import benchmark_of, of_folders, of_request, test_masks
from nnunetv2_unet3plus.benchmarking.model_folder import ModelFolder
from nnunetv2_unet3plus.benchmarking.predict_test import PREDICTED_BY, made_from
from nnunetv2_unet3plus.benchmarking.request import Request
from tests.benchmarking.folders import CASES, DATASET, SPLITS, reference, write_json, write_mask

test_masks.__test__ = False
A, B = "nnUNetTrainer", "nnUNetTrainerUNet3Plus"
REQUEST = Request(DATASET, "2d", "nnUNetPlans", ("0", "1"), (A, B), epochs=2, iterations=3, seed=0)


def train_all(folders, **record):
    for fold in (0, 1):
        folders.train(A, fold, **record)
        folders.train(B, fold, shift=1, **record)


def answer(folders, tmp_path, request=REQUEST):
    problems = []
    chosen = of_request(request, folders.plans, SPLITS, tmp_path / "out", problems)
    return chosen, problems


def benchmark(folders, tmp_path):
    chosen, problems = answer(folders, tmp_path)
    return benchmark_of(chosen, problems, [], tmp_path / "out", 1)


def test_everything_is_there(folders, tmp_path):
    train_all(folders, seed=0, repeatable=True)
    found = benchmark(folders, tmp_path)
    assert found.problems == []
    assert found.dataset == DATASET
    assert [model.name for model in found.models] == [A, B]
    assert [model.folds for model in found.models] == [("0", "1")] * 2
    assert len(found.cases) == 2 * 4 * 2  # models, scans held out in two folds, classes
    assert found.labels.values == {"liver": (1,), "tumour": (2,)}
    assert found.settings["Plans"] == "nnUNetPlans, patch 32 x 32, batch 2"
    assert found.settings["Length"] == "2 epochs of 3 iterations"
    assert found.settings["Random numbers"].startswith("seed 0 ")


def test_dice_is_that_of_nnunets_summary(folders, tmp_path):
    train_all(folders)
    found = benchmark(folders, tmp_path)
    for model in found.models:
        for fold in model.folds:
            summary = json.loads((model.folder / f"fold_{fold}" / "validation" / "summary.json").read_text())
            for entry in summary["metric_per_case"]:
                case = entry["prediction_file"].split("/")[-1].split(".")[0]
                rows = found.cases[(found.cases["model"] == model.name) & (found.cases["case"] == case)]
                rows = rows.set_index("label")
                for label, value in (("liver", "1"), ("tumour", "2")):
                    assert rows["dice"][label] == pytest.approx(entry["metrics"][value]["Dice"], abs=1e-6)
                    assert rows["iou"][label] == pytest.approx(entry["metrics"][value]["IoU"], abs=1e-6)


def test_costs_and_curves(folders, tmp_path):
    train_all(folders, seed=0, repeatable=True, watt_hours=10.0, peak_gpu_bytes=5)
    folder = folders.model(A) / "fold_1" / "benchmark.json"
    write_json(folder, {"seed": 0, "repeatable": True, "watt_hours": 14.0, "peak_gpu_bytes": 7})
    costs = benchmark(folders, tmp_path).models[0].costs
    assert costs.watt_hours == 12
    assert costs.peak_gpu_bytes == 7
    assert costs.seconds_per_iteration == pytest.approx(2)  # an epoch of 6 s, three iterations
    assert costs.parameters > 0
    assert costs.gflop > 0
    curves = benchmark(folders, tmp_path).models[0].curves
    assert curves["0"].train_loss == [1.0, 0.5]


def test_a_fold_that_is_missing_is_said(folders, tmp_path):
    train_all(folders)
    (folders.model(B) / "fold_1" / "validation" / "summary.json").unlink()
    (folders.model(B) / "fold_1" / "checkpoint_final.pth").unlink()
    chosen, problems = answer(folders, tmp_path)
    assert [len(candidate.folds) for candidate in chosen] == [2, 1]
    assert problems == [f"{B}: fold 1 is missing: not trained ({folders.model(B) / 'fold_1'})"]


def test_a_training_on_another_plan_is_never_mixed_in(folders, tmp_path):
    other = deepcopy(folders.plans)
    other["configurations"]["2d"]["patch_size"] = [64, 64]
    folders.train(A, 0)
    folders.train(B, 0, plans=other)
    request = Request(DATASET, "2d", "nnUNetPlans", ("0",), (A, B), epochs=2, iterations=3, seed=0)
    chosen, problems = answer(folders, tmp_path, request)
    assert [candidate.name for candidate in chosen] == [A]
    assert len(problems) == 1
    assert f"{B}: fold 0 is left out: was trained on another plan" in problems[0]


def test_a_training_of_another_length_is_never_mixed_in(folders, tmp_path):
    folders.train(A, 0)
    folders.train(B, 0, length=(5, 3))
    _, problems = answer(folders, tmp_path)
    assert any(f"{B}: fold 0 is left out: is a training of 5 epochs of 3 iterations" in line for line in problems)


def test_the_seeds_are_told(folders, tmp_path):
    folders.train(A, 0, seed=0, repeatable=True)
    folders.train(A, 1, seed=0, repeatable=True)
    folders.train(B, 0)
    folders.train(B, 1)
    said = benchmark(folders, tmp_path).settings["Random numbers"]
    assert f"{A}: seed 0" in said
    assert f"{B}: not seeded" in said


def test_whatever_is_in_the_folders(folders, tmp_path):
    other = deepcopy(folders.plans)
    other["configurations"]["2d"]["batch_size"] = 9
    folders.train(A, 0)
    folders.train(B, 0, plans=other, plans_name="otherPlans", length=(9, 3))
    models = [ModelFolder.read(folders.model(A)), ModelFolder.read(folders.model(B, "otherPlans"))]
    problems, remarks = [], []
    chosen = of_folders(models, None, problems, remarks)
    assert problems == []
    assert [c.name for c in chosen] == [f"{A} (nnUNetPlans)", f"{B} (otherPlans)"]
    assert any("different plans (batch_size 9 and 2)" in line for line in remarks)
    assert any("for 9 epochs of 3 iterations, " in line for line in remarks)


def test_other_classes_cannot_be_compared(folders, tmp_path):
    folders.train(A, 0)
    folders.labels = {"background": 0, "kidney": 1}
    folders.train(B, 0)
    problems = []
    chosen = of_folders([ModelFolder.read(folders.model(name)) for name in (A, B)], None, problems, [])
    assert [candidate.name for candidate in chosen] == [A]
    assert f"{B} is left out: its classes (kidney) are not those of {A} (liver, tumour)" in problems


def test_another_dataset_cannot_be_compared(folders, tmp_path):
    folders.train(A, 0)
    folders.train(B, 0, plans=folders.plans | {"dataset_name": "Dataset901_Other"})
    problems = []
    chosen = of_folders([ModelFolder.read(folders.model(name)) for name in (A, B)], None, problems, [])
    assert [candidate.model.trainer for candidate in chosen] == [A]
    assert len(problems) == 1
    assert "was trained on Dataset901_Other, not on Dataset900_Phantom" in problems[0]


def test_a_model_folder_without_its_files_does_not_cost_the_others(folders, tmp_path):
    train_all(folders)
    (folders.model(B) / "dataset.json").unlink()
    (folders.model(B) / "plans.json").unlink()
    request = Request(DATASET, "2d", "nnUNetPlans", ("0",), (A, B), epochs=2, iterations=3, seed=0)
    problems = []
    chosen = of_request(request, folders.plans, [], tmp_path / "out", problems)
    assert [candidate.name for candidate in chosen] == [A]
    assert f"{B} is left out: " in problems[0]


def test_a_moved_results_folder(folders, tmp_path):
    """summary.json holds the paths of the day it was written."""
    train_all(folders)
    truth = folders.preprocessed / "gt_segmentations"
    for name in (A, B):
        for fold in (0, 1):
            summary = folders.model(name) / f"fold_{fold}" / "validation" / "summary.json"
            summary.write_text(summary.read_text().replace(str(truth), "/gone").replace(str(tmp_path), "/gone"))
    found = benchmark(folders, tmp_path)
    assert found.problems == []
    assert len(found.cases) == 16


def test_a_mask_that_is_missing_is_said(folders, tmp_path):
    train_all(folders)
    mask = folders.model(B) / "fold_0" / "validation" / f"{SPLITS[0]['val'][0]}.nii.gz"
    mask.unlink()
    found = benchmark(folders, tmp_path)
    assert len(found.problems) == 1
    assert str(mask) in found.problems[0]
    assert len(found.cases) == 14


def test_test_scans(folders, tmp_path):
    train_all(folders)
    for folder in ("imagesTs", "labelsTs"):
        (tmp_path / folder).mkdir()
    for number in range(3):
        write_mask(tmp_path / "labelsTs" / f"{CASES[number]}.nii.gz", reference(number))
    request = Request(
        DATASET, "2d", "nnUNetPlans", ("0", "1"), (A,), 2, 3, 0, str(tmp_path / "imagesTs"), str(tmp_path / "labelsTs")
    )
    chosen, problems = answer(folders, tmp_path, request)
    assert chosen[0].tests == []
    assert len(problems) == 1
    assert "the test scans are not predicted" in problems[0]

    masks = test_masks(tmp_path / "out", chosen[0].model, ["0", "1"])
    masks.mkdir(parents=True)
    for number in range(3):
        write_mask(masks / f"{CASES[number]}.nii.gz", np.roll(reference(number), 2, axis=2))
    write_json(masks / PREDICTED_BY, made_from(folders.model(A), ["0", "1"], tmp_path / "imagesTs"))
    chosen, problems = answer(folders, tmp_path, request)
    assert problems == []
    cases = benchmark_of(chosen, problems, [], tmp_path / "out", 1).cases
    assert set(cases[cases["split"] == "test"]["case"]) == set(CASES[:3])
    assert set(cases[cases["split"] == "test"]["fold"]) == {"0+1"}
    assert len(cases[cases["split"] == "validation"]) == 8
