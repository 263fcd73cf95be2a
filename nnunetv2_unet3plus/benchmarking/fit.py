"""Whether a fold that is already there is what a request asks for. nnU-Net itself would go on with it in any case."""

from pathlib import Path
from typing import Any

from nnunetv2_unet3plus.benchmarking.fold import Fold, State, digest, read_or_none
from nnunetv2_unet3plus.benchmarking.model_folder import differences
from nnunetv2_unet3plus.benchmarking.request import Request
from nnunetv2_unet3plus.benchmarking.settings import spell_lengths

Splits = list[dict[str, list[str]]]


def why_unfit(fold: Fold, request: Request, plans: dict[str, Any], splits: Splits) -> str | None:
    """Why a fold must be neither trained, nor continued, nor counted.

    Args:
        fold: of one of the request's trainers.
        request: what is asked for.
        plans: on which it is asked for.
        splits: the folds' cases; empty if they are not known.

    Returns:
        The reason; None if the fold fits.
    """
    if fold.state is State.MISSING:
        return _beside_another_plan(fold, request, plans)
    reason = (
        _other_plan(fold, request, plans)
        or _other_length(fold, request)
        or _other_seed(fold, request)
        or _other_split(fold, splits)
    )
    return f"{reason}; to train it anew, move {fold.folder} away" if reason else None


def _beside_another_plan(fold: Fold, request: Request, plans: dict[str, Any]) -> str | None:
    """Training would replace the plans.json that folds of an earlier plan need to predict."""
    model = fold.folder.parent
    begun = [other for other in model.glob("fold_*") if Fold(other).state is not State.MISSING]
    differ = _differ(read_or_none(model / "plans.json"), request, plans) if begun else None
    return f"would join folds trained on another plan ({differ}); move {model} away" if differ else None


def _other_plan(fold: Fold, request: Request, plans: dict[str, Any]) -> str | None:
    trained_on = fold.plans or read_or_none(fold.folder.parent / "plans.json")
    if trained_on is None:
        return f"was trained on a plan that is not known ({fold.folder.parent / 'plans.json'} is missing or damaged)"
    differ = _differ(trained_on, request, plans)
    return f"was trained on another plan than {request.plans} is now ({differ})" if differ else None


def _differ(trained_on: dict[str, Any] | None, request: Request, plans: dict[str, Any]) -> str | None:
    if trained_on is None:
        return None
    for one in (trained_on, plans):
        if request.configuration not in one.get("configurations", {}):
            return f"one without {request.configuration}"
    return differences(trained_on, plans, request.configuration, request.configuration)


def _other_length(fold: Fold, request: Request) -> str | None:
    asked = (request.epochs, request.iterations)
    if fold.length == asked:
        return None
    return f"is a training of {spell_lengths([fold.length])}, not of {spell_lengths([asked])}"


def _other_seed(fold: Fold, request: Request) -> str | None:
    """What nnU-Net's own command trained has none and is counted; the report says so."""
    seed = (fold.record or {}).get("seed")
    return None if seed in (None, request.seed) else f"was trained with seed {seed}, not {request.seed}"


def _other_split(fold: Fold, splits: Splits) -> str | None:
    """Of what nnU-Net's own command trained only the validation scans are known, and only once they are predicted."""
    if not splits or not fold.name.isdecimal():
        return None
    if int(fold.name) >= len(splits):
        return "is none of the folds of splits_final.json"
    split = splits[int(fold.name)]
    if (fold.record or {}).get("split") not in (None, digest(split)):
        return "was trained on other scans than splits_final.json now says"
    if fold.summary is None:
        return None
    validated = {Path(entry["prediction_file"]).name for entry in fold.summary["metric_per_case"]}
    ending = read_or_none(fold.folder.parent / "dataset.json") or {}
    held_out = {f"{case}{ending.get('file_ending', '')}" for case in split["val"]}
    if validated == held_out:
        return None
    return f"validated other scans than splits_final.json holds out ({len(validated ^ held_out)} differ)"
