"""From the command line of `unet3plus benchmark` to a request that can be carried out."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_unet3plus.benchmarking.costs.network import network_costs
from nnunetv2_unet3plus.benchmarking.request import Request
from nnunetv2_unet3plus.benchmarking.splits import read_splits
from nnunetv2_unet3plus.benchmarking.trainer_names import why_unknown, with_length
from nnunetv2_unet3plus.errors import UserError
from nnunetv2_unet3plus.json_files import read_object
from nnunetv2_unet3plus.nnunet_folders import dataset_name, dataset_number, require_set


@dataclass(frozen=True)
class Asked:
    """A request, and what it is carried out on.

    Attributes:
        request: what is compared.
        plans: content of the plans file.
        splits: the folds' cases.
        problems: one line for whatever was asked for and cannot be done.
    """

    request: Request
    plans: dict[str, Any]
    splits: list[dict[str, list[str]]]
    problems: list[str]


def understand(args: argparse.Namespace) -> Asked:
    """Check everything that can be checked before hours are spent.

    Trainers and folds that do not exist are left out with a line each; whatever makes all of it pointless is an error.

    Raises:
        UserError: naming the option.
    """
    require_set(nnUNet_preprocessed, nnUNet_results)
    dataset = dataset_name(args.dataset, Path(nnUNet_preprocessed))
    preprocessed = Path(nnUNet_preprocessed) / dataset
    plans = _plans(preprocessed, args.plans, args.configuration)
    dataset_json = read_object(preprocessed / "dataset.json", "run nnUNetv2_plan_and_preprocess again", ("labels",))
    data = _data(preprocessed, plans, args)
    problems: list[str] = []
    folds, splits = _folds(args.folds, preprocessed, data, problems)
    trainers = _trainers(args.trainers, args.length, problems)
    images, labels = _test_folders(args, plans, dataset_json)
    trainers = _buildable(trainers, plans, args.configuration, dataset_json, problems)
    trainers = _with_first_stage(trainers, plans, args, preprocessed.name, problems)
    epochs, iterations = _common_length(trainers, plans, args.configuration, dataset_json)
    request = Request(
        dataset, args.configuration, args.plans, folds, trainers, epochs, iterations, args.seed, images, labels
    )
    return Asked(request, plans, splits, problems)


def _plans(preprocessed: Path, name: str, configuration: str) -> dict[str, Any]:
    file = preprocessed / f"{name}.json"
    number = dataset_number(preprocessed.name)
    known = ", ".join(sorted(path.stem for path in preprocessed.glob("*.json") if "lans" in path.stem)) or "none"
    hint = f"-p names plans; there: {known}; nnUNetv2_plan_and_preprocess -d {number} makes nnUNetPlans"
    plans = read_object(file, hint, ("configurations",))
    if configuration not in plans["configurations"]:
        raise UserError(f"-c {configuration}: {file} has {', '.join(plans['configurations'])}")
    return plans


def _data(preprocessed: Path, plans: dict[str, Any], args: argparse.Namespace) -> Path:
    data = preprocessed / PlansManager(plans).get_configuration(args.configuration).data_identifier
    if not data.is_dir() or not any(data.iterdir()):
        command = f"nnUNetv2_preprocess -d {dataset_number(preprocessed.name)} -plans_name {args.plans}"
        raise UserError(f"{data}: no preprocessed data for {args.configuration}; run {command} -c {args.configuration}")
    return data


def _folds(
    wanted: Sequence[str], preprocessed: Path, data: Path, problems: list[str]
) -> tuple[tuple[str, ...], list[dict[str, list[str]]]]:
    """Folds that exist; nnU-Net would split at random for a number beyond the last, without a word."""
    wanted = tuple(dict.fromkeys(wanted))
    if "all" in wanted:
        if len(wanted) > 1:
            raise UserError(f"-f {' '.join(wanted)}: fold all trains on every scan; compare it alone")
        return wanted, []
    splits = read_splits(preprocessed, data)
    there = [str(number) for number in range(len(splits))]
    problems += [
        f"-f {fold}: no such fold; {preprocessed / 'splits_final.json'} has 0 to {there[-1]}"
        for fold in wanted
        if fold not in there
    ]
    folds = tuple(fold for fold in wanted if fold in there)
    if not folds:
        raise UserError(problems[-1])
    return folds, splits


def _trainers(wanted: Sequence[str], length: str | None, problems: list[str]) -> tuple[str, ...]:
    unknown = {trainer: why_unknown(trainer) for trainer in dict.fromkeys(wanted)}
    problems += [reason for reason in unknown.values() if reason]
    known = tuple(with_length(trainer, length) for trainer, reason in unknown.items() if reason is None)
    if not known:
        raise UserError(problems[-1])
    return known


def _buildable(
    trainers: Sequence[str],
    plans: dict[str, Any],
    configuration: str,
    dataset_json: dict[str, Any],
    problems: list[str],
) -> tuple[str, ...]:
    """Those whose network these plans can build; a 2D network is no job for a 3D plan."""
    costs = {trainer: network_costs(trainer, plans, configuration, dataset_json) for trainer in trainers}
    refused = [t for t, cost in costs.items() if cost.epochs is None or "(ConfigurationError:" in (cost.problem or "")]
    problems += [f"-tr {costs[trainer].problem}" for trainer in refused]
    if len(refused) == len(trainers):
        raise UserError(problems[-1])
    return tuple(trainer for trainer in trainers if trainer not in refused)


def _with_first_stage(
    trainers: Sequence[str], plans: dict[str, Any], args: argparse.Namespace, dataset: str, problems: list[str]
) -> tuple[str, ...]:
    """In a cascade those whose own first stage has predicted the training scans, which all its folds do together."""
    first = PlansManager(plans).get_configuration(args.configuration).previous_stage_name
    if first is None:
        return tuple(trainers)
    results = Path(nnUNet_results) / dataset
    there = [
        trainer
        for trainer in trainers
        if any((results / f"{trainer}__{args.plans}__{first}").glob(f"predicted_next_stage/{args.configuration}/*"))
    ]
    problems += [
        f"-tr {trainer}: has no first stage of its own; benchmark -c {first} with it, of the same length, on all folds"
        for trainer in trainers
        if trainer not in there
    ]
    if not there:
        raise UserError(problems[-1])
    return tuple(there)


def _common_length(
    trainers: Sequence[str], plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]
) -> tuple[int, int]:
    """Epochs and iterations of all the trainers.

    Raises:
        UserError: if they differ.
    """
    costs = {trainer: network_costs(trainer, plans, configuration, dataset_json) for trainer in trainers}
    lengths = {trainer: (cost.epochs, cost.iterations) for trainer, cost in costs.items()}
    if len(set(lengths.values())) > 1:
        each = "; ".join(f"{trainer} {epochs} epochs of {its}" for trainer, (epochs, its) in lengths.items())
        raise UserError(f"-tr: the trainings differ in length ({each}); give one to all, such as --length 50epochs")
    epochs, iterations = next(iter(lengths.values()))
    return int(epochs or 0), int(iterations or 0)


def _test_folders(
    args: argparse.Namespace, plans: dict[str, Any], dataset_json: dict[str, Any]
) -> tuple[str | None, str | None]:
    images, labels = args.test_images, args.test_labels
    if images is None and labels is None:
        return None, None
    if images is None or labels is None:
        raise UserError("--test-images and --test-labels: give both, the scans and their references")
    if PlansManager(plans).get_configuration(args.configuration).previous_stage_name is not None:
        raise UserError(f"--test-images: {args.configuration} needs masks of its first stage as well; leave it out")
    ending = dataset_json["file_ending"]
    for folder, files in ((images, f"*_0000{ending}"), (labels, f"*{ending}")):
        if not any(folder.glob(files)):
            raise UserError(f"{folder}: no files {files} in it; name scans CASE_0000{ending}, references CASE{ending}")
    return str(images.resolve()), str(labels.resolve())
