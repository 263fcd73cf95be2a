"""What is still to be done of a request, as jobs."""

import argparse
import sys
from pathlib import Path

from nnunetv2_unet3plus.benchmarking.asked import Asked
from nnunetv2_unet3plus.benchmarking.collect import test_masks
from nnunetv2_unet3plus.benchmarking.executors.job import Executor, Job, Outcome
from nnunetv2_unet3plus.benchmarking.executors.options import make_executor
from nnunetv2_unet3plus.benchmarking.fit import why_unfit
from nnunetv2_unet3plus.benchmarking.fold import State
from nnunetv2_unet3plus.benchmarking.model_folder import ModelFolder
from nnunetv2_unet3plus.benchmarking.predict_test import is_predicted
from nnunetv2_unet3plus.errors import UserError

MODULE = "nnunetv2_unet3plus.benchmarking"


def carry_out(args: argparse.Namespace, asked: Asked, output: Path) -> list[str]:
    """Train, validate and predict what is missing; where something cannot be done, the rest is.

    Returns:
        A line for every job that failed, and for what keeps jobs from being run at all.
    """
    problems: list[str] = []
    try:
        executor: Executor | None = None
        for jobs_of in (training_jobs, test_jobs, measuring_jobs):
            if jobs_of is measuring_jobs and executor is None:
                continue  # nothing new to measure
            if jobs := jobs_of(asked, output, args):
                executor = executor or make_executor(args)
                outcomes = executor.run(jobs, output / "logs")
                problems += [describe(outcome) for outcome in outcomes if not outcome.succeeded]
    except UserError as error:  # no GPU, no SLURM: what is done already can be reported all the same
        problems.append(str(error))
    return problems


def describe(outcome: Outcome) -> str:
    """A line for a job that failed."""
    twice = " twice" if outcome.attempts > 1 else ""
    return f"{outcome.job.name} failed{twice}: {outcome.reason} ({outcome.log})"


def training_jobs(asked: Asked, output: Path, args: argparse.Namespace) -> list[Job]:
    """Folds that are not done. Those that do not fit the request are left as they are."""
    request = asked.request
    jobs = []
    for fold in request.folds:  # all trainers on fold 0 first: a comparison can be looked at early
        for trainer in request.trainers:
            there = request.fold(trainer, fold)
            if there.state is not State.DONE and why_unfit(there, request, asked.plans, asked.splits) is None:
                what = (request.dataset, request.configuration, fold, "-tr", trainer, "-p", request.plans)
                how = ("--seed", str(request.seed), "--device", args.device)
                jobs.append(_job(f"{trainer} fold {fold}", "train_fold", *what, *how))
    return jobs


def test_jobs(asked: Asked, output: Path, args: argparse.Namespace) -> list[Job]:
    """Test scans that are not predicted, by the folds that are done."""
    request = asked.request
    if request.test_images is None:
        return []
    jobs = []
    for trainer in request.trainers:
        folds = [fold for fold in done_folds(asked, trainer) if request.fold(trainer, fold).can_predict]
        if folds:
            model = ModelFolder.read(request.model_folder(trainer))
            masks = test_masks(output, model, folds)
            if not is_predicted(masks, model.path, folds, Path(request.test_images)):
                command = ("predict_test", str(model.path), *folds, "-i", request.test_images, "-o", str(masks))
                jobs.append(_job(f"{trainer} test", *command, "--device", args.device))
    return jobs


def measuring_jobs(asked: Asked, output: Path, args: argparse.Namespace) -> list[Job]:
    """On a cluster, masks are measured by jobs: the node on which the command waits is not for that."""
    if args.executor == "local":
        return []
    trainers = [trainer for trainer in asked.request.trainers if done_folds(asked, trainer)]
    measure = ("measure_model", str(output))
    return [_job(f"{t} measures", *measure, t, "-np", str(args.processes)) for t in trainers]


def done_folds(asked: Asked, trainer: str) -> list[str]:
    """Folds of a trainer that are done and fit."""
    request = asked.request
    folds = [request.fold(trainer, fold) for fold in request.folds]
    return [
        fold.name
        for fold in folds
        if fold.state is State.DONE and why_unfit(fold, request, asked.plans, asked.splits) is None
    ]


def _job(name: str, module: str, *arguments: str) -> Job:
    return Job(name, (sys.executable, "-m", f"{MODULE}.{module}", *arguments))
