"""What each level of a trained UNet++ or UNet# costs and gives, on the scans its fold has held out."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder2
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_unet3plus.errors import UserError
from nnunetv2_unet3plus.pruning.model_folder import prune, read_whole
from nnunetv2_unet3plus.trained_network import read_json
from nnunetv2_unet3plus.trainers.stacked_slices import slices_of

CHECKPOINT = "checkpoint_final.pth"


@dataclass(frozen=True)
class Level:
    """One level of a network.

    Attributes:
        level: the deepest that is kept.
        parameters: of the pruned network.
        gigaflop: of one patch, in 10^9 multiplications and additions.
        seconds: a scan, from its file to its mask's, mirroring included; mean over the scans.
        dice: nnU-Net's mean over classes and scans.
        iou: the same of the intersection over union.
    """

    level: int
    parameters: int
    gigaflop: float
    seconds: float
    dice: float
    iou: float


def measure_levels(folder: Path, work: Path, device: torch.device) -> list[Level]:
    """Prune to every level and predict the validation scans of every fold with that fold's weights.

    Args:
        folder: model folder, as nnU-Net writes it.
        work: an empty folder for pruned models and masks; the models stay in `work/level_N`.
        device: to predict on.

    Returns:
        All levels, the whole network's last.

    Raises:
        UserError: if the validation scans cannot be found, or as `prune`.
    """
    plans, dataset = (read_json(folder / name) for name in ("plans.json", "dataset.json"))
    checkpoints = _checkpoints(folder)
    whole = read_whole(next(iter(checkpoints.values())), plans, dataset)
    if PlansManager(plans).get_configuration(whole.configuration).previous_stage_name is not None:
        raise UserError(
            f"{folder}: --auto predicts scans, and a cascade's second stage needs masks as well; name a --level"
        )
    scans = _validation_scans(list(checkpoints), plans["dataset_name"], dataset)
    labels = _links(work / "labels", [scan.label for of_fold in scans.values() for scan in of_fold])
    levels = []
    for level in range(1, whole.deepest_level + 1):
        print(f"Level {level}: predicting {sum(map(len, scans.values()))} validation scans", flush=True)
        model, masks = work / f"level_{level}", work / f"masks_{level}"
        _, parameters = prune(folder, level, model)
        masks.mkdir()
        seconds = 0.0
        for fold, of_fold in scans.items():
            predictor = nnUNetPredictor(
                device=device, allow_tqdm=False, perform_everything_on_device=device.type == "cuda"
            )
            predictor.initialize_from_trained_model_folder(str(model), (fold,), CHECKPOINT)
            seconds += _predict(predictor, of_fold, masks)
        compute_metrics_on_folder2(
            str(labels), str(masks), str(folder / "dataset.json"), str(folder / "plans.json"), num_processes=1
        )
        mean = json.loads((masks / "summary.json").read_text())["foreground_mean"]
        cases = sum(map(len, scans.values()))
        levels.append(Level(level, parameters, _gigaflop(predictor), seconds / cases, mean["Dice"], mean["IoU"]))
    return levels


def choose_level(levels: Sequence[Level], tolerance: float) -> Level:
    """The first level whose Dice is at most `tolerance` percentage points below that of the whole network.

    Raises:
        UserError: if the whole network has no Dice.
    """
    if isnan(levels[-1].dice):
        raise UserError(
            "the validation scans and their masks hold no class, so there is no Dice; name a --level yourself"
        )
    return next(level for level in levels if level.dice * 100 >= levels[-1].dice * 100 - tolerance)


def table(levels: Sequence[Level]) -> str:
    """For reading."""
    header = f"{'level':>5}{'parameters':>13}{'GFLOP a patch':>15}{'s a scan':>10}{'Dice':>8}{'IoU':>8}"
    lines = [
        f"{each.level:>5}{each.parameters:>13,}{each.gigaflop:>15.2f}{each.seconds:>10.2f}{each.dice:>8.4f}{each.iou:>8.4f}"
        for each in levels
    ]
    return "\n".join([header, *lines])


@dataclass(frozen=True)
class _Scan:
    name: str
    images: list[str]
    label: str


def _checkpoints(folder: Path) -> dict[int, Path]:
    """Of every fold that has held out scans."""
    checkpoints = {
        int(path.parent.name.removeprefix("fold_")): path
        for path in folder.glob(f"fold_*/{CHECKPOINT}")
        if path.parent.name.removeprefix("fold_").isdecimal()
    }
    if not checkpoints:
        raise UserError(
            f"{folder}: no fold_N/{CHECKPOINT} in it, so no scans that were not trained on; name a --level yourself"
        )
    return dict(sorted(checkpoints.items()))


def _validation_scans(folds: Sequence[int], dataset_name: str, dataset: dict[str, Any]) -> dict[int, list[_Scan]]:
    """For every fold the scans it has not been trained on."""
    raw, preprocessed = (_dataset_folder(variable, dataset_name) for variable in ("nnUNet_raw", "nnUNet_preprocessed"))
    splits_file = preprocessed / "splits_final.json"
    held_out = _held_out(splits_file)
    cases = get_filenames_of_train_images_and_targets(str(raw), dataset)
    scans = {}
    for fold in folds:
        if fold >= len(held_out):
            raise UserError(f"{splits_file}: has no fold {fold}; name a --level yourself")
        if not held_out[fold]:
            raise UserError(f"{splits_file}: fold {fold} has held out no scan; name a --level yourself")
        if missing := [name for name in held_out[fold] if name not in cases]:
            raise UserError(f"{raw}: {missing[0]}, which fold {fold} has held out, is missing; copy it back")
        scans[fold] = [_Scan(name, cases[name]["images"], cases[name]["label"]) for name in held_out[fold]]
    return scans


def _held_out(splits_file: Path) -> list[list[str]]:
    """The names of every fold's validation scans."""
    try:
        return [list(fold["val"]) for fold in json.loads(splits_file.read_text())]
    except FileNotFoundError as error:
        raise UserError(
            f"{splits_file}: no such file; it says which scans were held out. Or name a --level yourself"
        ) from error
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{splits_file}: damaged, not nnU-Net's splits; copy it again or name a --level") from error


def _dataset_folder(variable: str, dataset_name: str) -> Path:
    root = os.environ.get(variable)
    if not root:
        raise UserError(f"{variable} is not set; --auto looks there for the validation scans of {dataset_name}")
    folder = Path(root) / dataset_name
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; --auto looks there for the validation scans. Check {variable}")
    return folder


def _predict(predictor: nnUNetPredictor, scans: list[_Scan], masks: Path) -> float:
    """Seconds for all of them; the first is predicted once before, so that none pays for the start."""
    images, outputs = [scan.images for scan in scans], [str(masks / scan.name) for scan in scans]
    predictor.predict_from_files_sequential(images[:1], outputs[:1])
    start = perf_counter()
    predictor.predict_from_files_sequential(images, outputs)
    return perf_counter() - start


def _gigaflop(predictor: Any) -> float:
    network = predictor.network.to("meta").eval()
    channels = next(network.parameters()).shape[1] // slices_of(predictor.configuration_manager)
    patch = torch.empty(1, channels, *predictor.configuration_manager.patch_size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(patch)
    return counter.get_total_flops() / 1e9


def _links(folder: Path, files: Sequence[str]) -> Path:
    folder.mkdir()
    for file in files:
        try:
            (folder / Path(file).name).symlink_to(Path(file).resolve())
        except OSError:  # a file system, or a user of Windows, without links
            shutil.copyfile(file, folder / Path(file).name)
    return folder
