"""The conversion of a whole dataset: check, convert every case, describe."""

import json
import os
from functools import partial
from pathlib import Path

from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json
from tqdm import tqdm

from nnunetv2_unet3plus.conversion.atomic import publish, write_text
from nnunetv2_unet3plus.conversion.case import convert_case
from nnunetv2_unet3plus.conversion.description import Dataset
from nnunetv2_unet3plus.conversion.geometry import check_same_grid, read_geometry
from nnunetv2_unet3plus.conversion.target import TargetFolder, check_free_id, check_outside
from nnunetv2_unet3plus.conversion.workers import each_done
from nnunetv2_unet3plus.errors import UserError, explain

FILE_ENDING = ".nii.gz"

_PREPROCESSED, _RESULTS = "nnUNet_preprocessed", "nnUNet_results"


def convert_dataset(dataset: Dataset, raw_folder: Path, processes: int) -> Path:
    """Writes a dataset, or finishes one that was stopped, and says how far it is.

    Args:
        dataset: What to write.
        raw_folder: nnU-Net's raw folder.
        processes: Number of cases converted at a time; each needs memory for two volumes.

    Returns:
        The dataset's folder.

    Raises:
        UserError: If the input cannot be used or the output not be written. What is wrong with names, options or
            headers is found before the first byte is written.
    """
    target = TargetFolder(raw_folder / dataset.folder_name)
    _check(dataset, target)
    with target.unfinished(dataset.options):
        waiting = [case for case in dataset.cases if not target.is_finished(case)]
        convert = partial(convert_case, target=target, scheme=dataset.scheme)
        done = len(dataset.cases) - len(waiting)
        if done:
            print(f"{done} of {len(dataset.cases)} cases are finished already")
        progress = tqdm(each_done(convert, waiting, processes), "converting", len(waiting), unit="case", disable=None)
        for _ in progress:
            pass
        _describe(dataset, target)
    return target.folder


def _check(dataset: Dataset, target: TargetFolder) -> None:
    check_outside(target.folder, dataset.source)
    roots = [target.folder.parent, *map(Path, filter(None, map(os.environ.get, (_PREPROCESSED, _RESULTS))))]
    check_free_id(dataset.folder_name, roots)
    target.check(dataset.options, dataset.cases)
    _check_splits(dataset)
    for case in tqdm(dataset.cases, "checking headers", unit="case", disable=None):
        if case.label is None:
            read_geometry(case.image)
        else:
            check_same_grid(case.image, case.label)


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
