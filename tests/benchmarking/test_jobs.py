import sys
from argparse import Namespace
from copy import deepcopy
from pathlib import Path

import pytest

from nnunetv2_unet3plus.benchmarking import jobs
from nnunetv2_unet3plus.benchmarking.asked import Asked
from nnunetv2_unet3plus.benchmarking.executors.job import Outcome
from nnunetv2_unet3plus.benchmarking.request import Request
from nnunetv2_unet3plus.errors import UserError
from tests.benchmarking.folders import DATASET, SPLITS

A, B = "nnUNetTrainer", "nnUNetTrainerUNet3Plus"
ARGS = Namespace(device="cpu", executor="local", processes=3)


@pytest.fixture
def asked(folders):
    request = Request(DATASET, "2d", "nnUNetPlans", ("0", "1"), (A, B), epochs=2, iterations=3, seed=4)
    return Asked(request, folders.plans, SPLITS, [])


def names(wanted):
    return [job.name for job in wanted]


def test_every_fold_of_every_trainer_is_a_job(asked, tmp_path):
    wanted = jobs.training_jobs(asked, tmp_path, ARGS)
    assert names(wanted) == [f"{A} fold 0", f"{B} fold 0", f"{A} fold 1", f"{B} fold 1"]
    module = "nnunetv2_unet3plus.benchmarking.train_fold"
    options = ("-tr", A, "-p", "nnUNetPlans", "--seed", "4", "--device", "cpu")
    assert wanted[0].command == (sys.executable, "-m", module, DATASET, "2d", "0", *options)


def test_what_is_done_is_no_job(asked, folders, tmp_path):
    folders.train(A, 0)
    folder = folders.train(B, 0)
    (folder / "validation" / "summary.json").unlink()
    assert names(jobs.training_jobs(asked, tmp_path, ARGS)) == [f"{B} fold 0", f"{A} fold 1", f"{B} fold 1"]


def test_what_was_trained_otherwise_stays_as_it_is(asked, folders, tmp_path):
    other = deepcopy(folders.plans)
    other["configurations"]["2d"]["batch_size"] = 9
    folder = folders.train(A, 0, plans=other)
    (folder / "checkpoint_final.pth").rename(folder / "checkpoint_latest.pth")
    assert f"{A} fold 0" not in names(jobs.training_jobs(asked, tmp_path, ARGS))


def with_test_scans(asked, images):
    images.mkdir()
    scans = {"test_images": str(images), "test_labels": str(images)}
    return Asked(Request(**vars(asked.request) | scans), asked.plans, SPLITS, [])


def test_test_scans_are_predicted_by_the_folds_that_are_done(asked, folders, tmp_path):
    folders.train(A, 0)
    folders.train(A, 1)
    folders.train(B, 1)
    assert jobs.test_jobs(asked, tmp_path, ARGS) == []  # none were given
    wanted = jobs.test_jobs(with_test_scans(asked, tmp_path / "imagesTs"), tmp_path, ARGS)
    assert names(wanted) == [f"{A} test", f"{B} test"]
    assert wanted[0].command[3:6] == (str(folders.model(A)), "0", "1")
    assert wanted[1].command[3:5] == (str(folders.model(B)), "1")


def test_only_a_cluster_measures_in_jobs(asked, folders, tmp_path):
    folders.train(B, 1)
    assert jobs.measuring_jobs(asked, tmp_path, ARGS) == []
    on_cluster = Namespace(**vars(ARGS) | {"executor": "slurm"})
    assert names(jobs.measuring_jobs(asked, tmp_path, on_cluster)) == [f"{B} measures"]


class Failing:
    """An executor all of whose jobs fail."""

    def run(self, wanted, logs):
        return [Outcome(job, False, 2, logs / "x.log", "exit code 1: boom") for job in wanted]


def test_a_job_that_fails_is_told(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "make_executor", lambda args: Failing())
    problems = jobs.carry_out(ARGS, asked, tmp_path)
    assert problems[0] == f"{A} fold 0 failed twice: exit code 1: boom ({tmp_path / 'logs' / 'x.log'})"
    assert len(problems) == 4


def test_without_an_executor_that_is_told(asked, tmp_path, monkeypatch):
    def no_gpu(args):
        raise UserError("--device cuda: no GPU")

    monkeypatch.setattr(jobs, "make_executor", no_gpu)
    assert jobs.carry_out(ARGS, asked, tmp_path) == ["--device cuda: no GPU"]


def test_no_executor_is_needed_where_nothing_is_to_be_done(asked, folders, tmp_path, monkeypatch):
    for trainer in (A, B):
        for fold in (0, 1):
            folders.train(trainer, fold)
    monkeypatch.setattr(jobs, "make_executor", lambda args: pytest.fail("asked for"))
    assert jobs.carry_out(ARGS, asked, Path(tmp_path)) == []
