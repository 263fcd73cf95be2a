"""The conversion of a whole dataset: check, convert every case, describe."""

import json
import os
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json
from tqdm import tqdm

from nnunetv2_unet3plus.conversion.atomic import publish, write_text
from nnunetv2_unet3plus.conversion.case import Outcome, convert_case, read_findings
from nnunetv2_unet3plus.conversion.description import Case, Dataset
from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding
from nnunetv2_unet3plus.conversion.headers import read_headers
from nnunetv2_unet3plus.conversion.report import refusal, report, summary
from nnunetv2_unet3plus.conversion.target import TargetFolder, check_free_id, check_outside
from nnunetv2_unet3plus.conversion.workers import results_of
from nnunetv2_unet3plus.errors import UserError, explain

FILE_ENDING = ".nii.gz"

NO_MASKS = "not one scan here has a mask to learn from; add the masks"

_PREPROCESSED, _RESULTS = "nnUNet_preprocessed", "nnUNet_results"


def convert_dataset(
    dataset: Dataset, raw_folder: Path, processes: int, *, leave_out_refused: bool = False, dry_run: bool = False
) -> Path:
    """Writes a dataset, or finishes one that was stopped, and says how far it is and what it has found.

    Args:
        dataset: What to write.
        raw_folder: nnU-Net's raw folder.
        processes: Number of cases converted at a time; each needs memory for two volumes.
        leave_out_refused: Make the dataset of the cases that can be converted, instead of stopping at the others.
        dry_run: Read and check everything, write nothing.

    Returns:
        The dataset's folder.

    Raises:
        UserError: If the input cannot be used or the output not be written. What is wrong with names, options or
            headers is found before the first byte is written. A case that cannot be converted keeps the dataset from
            being completed, not the other cases from being converted.
    """
    target = TargetFolder(raw_folder / dataset.folder_name)
    _check(dataset, target)
    if not leave_out_refused:
        _check_splits(dataset)
    refused = _refused_headers(dataset)
    if refused and not leave_out_refused and not dry_run:
        _tell(refused, dataset)
        _stop_if_refused(refused, dataset)
    if dry_run:
        outcomes = _convert(dataset, dataset.cases, None, refused, processes)
        _tell(outcomes, dataset)
        _stop_if_refused([] if leave_out_refused else outcomes, dataset)
        _converted(dataset, outcomes)
        return target.folder
    with target.unfinished(dataset.options):
        finished = [case for case in dataset.cases if target.is_finished(case)]
        if finished:
            print(f"{len(finished)} of {len(dataset.cases)} cases are finished already")
        outcomes = [read_findings(case, target) for case in finished]
        waiting = [case for case in dataset.cases if case not in finished]
        outcomes += _convert(dataset, waiting, target, refused, processes)
        _tell(outcomes, dataset)
        write_text(target.report, target.staging, report(dataset, outcomes))
        _stop_if_refused([] if leave_out_refused else outcomes, dataset)
        _describe(_converted(dataset, outcomes), target)
    return target.folder


def _converted(dataset: Dataset, outcomes: Sequence[Outcome]) -> Dataset:
    """The dataset of the cases that were not refused.

    Raises:
        UserError: If too few are left, or they split otherwise than the preprocessed dataset.
    """
    kept = dataset.without([outcome.case for outcome in outcomes if outcome.refusal is not None])
    if not kept.num_training:
        text = "no training case could be converted; correct what was refused above"
        raise UserError(f"{dataset.source}: {text if any(outcome.refusal for outcome in outcomes) else NO_MASKS}")
    for fold in kept.splits or []:
        if empty := [part for part in ("train", "val") if not fold[part]]:
            raise UserError(f"--split: no case of its {empty[0]} part could be converted; leave out --split")
    _check_splits(kept)
    return kept


def _check(dataset: Dataset, target: TargetFolder) -> None:
    """What can be told without opening a volume."""
    check_outside(target.folder, dataset.source)
    _check_links(dataset, target.folder.resolve())
    roots = [target.folder.parent, *map(Path, filter(None, map(os.environ.get, (_PREPROCESSED, _RESULTS))))]
    check_free_id(dataset.folder_name, roots)
    target.check(dataset.options, dataset.cases)
    _check_names(dataset)


def _check_links(dataset: Dataset, folder: Path) -> None:
    """A link in the source that leads to what is written would have the conversion read its own output."""
    for path in (path for case in dataset.cases for volume in case.volumes for path in volume.files):
        if path.resolve().is_relative_to(folder):
            raise UserError(f"{path} is a link into {folder}, which is to be written; choose another --output")


def _check_names(dataset: Dataset) -> None:
    """Names that a file system may take for one, and spacings for cases that are not there."""
    names: dict[str, str] = {}
    for case in dataset.cases:
        if (other := names.setdefault(case.name.lower(), case.name)) != case.name:
            raise UserError(f"the cases {other} and {case.name} differ in upper and lower case alone; rename one")
    if unknown := sorted(dataset.wishes.spacings.keys() - names.values()):
        raise UserError(f"--spacing-from names {unknown[0]}, which is no case here; cases are such as {min(names)}")


def _refused_headers(dataset: Dataset) -> list[Outcome]:
    """The cases whose headers alone say that they cannot be converted."""
    refused = []
    for case in tqdm(dataset.cases, "checking headers", unit="case", disable=None):
        findings: list[Finding] = []
        try:
            read_headers(case, dataset.wishes, findings)
        except FaultyFileError as error:
            refused.append(Outcome(case.name, (*findings, error.finding), str(error)))
    return refused


def _convert(
    dataset: Dataset, cases: Collection[Case], target: TargetFolder | None, refused: Sequence[Outcome], processes: int
) -> list[Outcome]:
    """Converts what has not been refused yet; all outcomes."""
    names = {outcome.case for outcome in refused}
    convert = partial(
        convert_case, target=target, scheme=dataset.scheme, wishes=dataset.wishes, source=dataset.source.resolve()
    )
    jobs = [case for case in cases if case.name not in names]
    what = "converting" if target else "checking voxels"
    progress = tqdm(results_of(convert, jobs, processes), what, len(jobs), unit="case", disable=None)
    outcomes = [*refused, *progress]
    if target is not None:
        gone = {outcome.case for outcome in outcomes if outcome.refusal is not None}
        for case in dataset.cases:
            if case.name in gone:
                target.remove(case)
    order = {case.name: place for place, case in enumerate(dataset.cases)}
    return sorted(outcomes, key=lambda outcome: order[outcome.case])


def _tell(outcomes: Sequence[Outcome], dataset: Dataset) -> None:
    for line in summary(outcomes, dataset.anonymous):
        print(line)


def _stop_if_refused(outcomes: Sequence[Outcome], dataset: Dataset) -> None:
    if (reason := refusal(outcomes, len(dataset.cases))) is not None:
        raise UserError(reason)


def _check_splits(dataset: Dataset) -> None:
    """nnU-Net's planner fails on a preprocessed folder with other splits, and says no more than `AssertionError`."""
    preprocessed = os.environ.get(_PREPROCESSED)
    if dataset.splits is None or not preprocessed:
        return
    existing = Path(preprocessed) / dataset.folder_name / "splits_final.json"
    if existing.exists() and existing.read_bytes() != _splits_text(dataset).encode():
        raise UserError(f"{existing} holds another split; delete it, or leave out --split")


def _splits_text(dataset: Dataset) -> str:
    return json.dumps(dataset.splits, indent=4)


def _describe(dataset: Dataset, target: TargetFolder) -> None:
    """Writes the splits, then `dataset.json`.

    nnU-Net's planner copies `splits_final.json` from the raw dataset folder to the preprocessed one, where training
    reads it.
    """
    if dataset.splits is not None:
        write_text(target.folder / "splits_final.json", target.staging, _splits_text(dataset))
    try:
        generate_dataset_json(
            str(target.staging),
            channel_names={"0": dataset.channel},
            labels=dict(dataset.scheme.labels),
            num_training_cases=dataset.num_training,
            file_ending=FILE_ENDING,
            dataset_name=dataset.folder_name.partition("_")[2],
            regions_class_order=dataset.scheme.regions_class_order,
            **dataset.about,
        )
    except OSError as error:  # which names no file where the disk is full
        raise explain(error, target.dataset_json) from error
    publish(target.staging / target.dataset_json.name, target.dataset_json)
