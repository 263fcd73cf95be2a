"""Preprocessed data, which plans share where they ask for the same."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

STOCK_PLANS = "nnUNetPlans"
_OF_CONFIGURATION = (
    "spacing",
    "preprocessor_name",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_data_kwargs",
    "resampling_fn_seg",
    "resampling_fn_seg_kwargs",
)
_OF_PLANS = ("transpose_forward", "foreground_intensity_properties_per_channel")


def separate_data_preprocessed_otherwise(plans: dict[str, Any]) -> None:
    """Give 2d and 3d_fullres a folder of their own where nnU-Net's plans preprocess theirs in another way.

    Those may be of an older fingerprint, or changed by hand.

    Args:
        plans: ours, about to be written; the data of 2d and 3d_fullres are nnU-Net's so far.
    """
    file = Path(nnUNet_preprocessed) / plans["dataset_name"] / f"{STOCK_PLANS}.json"
    stock = load_json(str(file)) if file.exists() else {"configurations": {}}
    for name in ("2d", "3d_fullres"):
        ours, theirs = (p["configurations"].get(name) for p in (plans, stock))
        if ours and theirs and not _alike(plans, ours, stock, theirs):
            ours["data_identifier"] = f"{plans['plans_name']}_{name}"


def not_preprocessed(plans: PlansManager, cases: Iterable[str]) -> list[str]:
    """Configurations whose data is not there yet; of those that share theirs, the first."""
    missing: dict[str, str] = {}
    for name in plans.available_configurations:
        identifier = plans.get_configuration(name).data_identifier
        folder = Path(nnUNet_preprocessed) / plans.dataset_name / identifier
        if not all((folder / f"{case}.pkl").exists() for case in cases):
            missing.setdefault(identifier, name)
    return list(missing.values())


def _alike(plans: dict, ours: dict, stock_plans: dict, theirs: dict) -> bool:
    pairs = [(ours.get(key), theirs.get(key)) for key in _OF_CONFIGURATION]
    pairs += [(plans.get(key), stock_plans.get(key)) for key in _OF_PLANS]
    return all(_plain(a) == _plain(b) for a, b in pairs)


def _plain(value: Any) -> Any:
    """As JSON would give it back: lists, strings as keys; numbers to nine digits."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(entry) for entry in value]
    return float(f"{value:.9g}") if isinstance(value, float | np.floating) else value
