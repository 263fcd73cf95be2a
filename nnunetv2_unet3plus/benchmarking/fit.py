"""Whether a fold that is already there is what a request asks for. nnU-Net itself would go on with it in any case."""

from typing import Any

from nnunetv2_unet3plus.benchmarking.fold import Fold, State
from nnunetv2_unet3plus.benchmarking.model_folder import ModelFolder, differences
from nnunetv2_unet3plus.benchmarking.request import Request
from nnunetv2_unet3plus.benchmarking.settings import spell_lengths
from nnunetv2_unet3plus.errors import UserError


def why_unfit(fold: Fold, request: Request, plans: dict[str, Any], splits: list[dict[str, list[str]]]) -> str | None:
    """Why a fold must be neither continued nor counted.

    Args:
        fold: of one of the request's trainers.
        request: what is asked for.
        plans: on which it is asked for.
        splits: the folds' cases; empty if they are not known.

    Returns:
        The reason; None if the fold fits or has not been begun.
    """
    if fold.state is State.MISSING:
        return None
    reason = (
        _other_plan(fold, request, plans)
        or _other_length(fold, request)
        or _other_seed(fold, request)
        or _other_split(fold, splits)
    )
    return f"{reason}; to train it anew, move {fold.folder} away" if reason else None


def _other_plan(fold: Fold, request: Request, plans: dict[str, Any]) -> str | None:
    try:
        model = ModelFolder.read(fold.folder.parent)
    except UserError as error:
        return str(error)
    differ = differences(model.plans, plans, model.configuration, request.configuration)
    return f"was trained on another plan than {request.plans} is now ({differ})" if differ else None


def _other_length(fold: Fold, request: Request) -> str | None:
    asked = (request.epochs, request.iterations)
    if fold.length in (None, asked):
        return None
    return f"is a training of {spell_lengths([fold.length])}, not of {spell_lengths([asked])}"


def _other_seed(fold: Fold, request: Request) -> str | None:
    """What nnU-Net's own command trained has none and is counted; the report says so."""
    seed = (fold.record or {}).get("seed")
    return None if seed in (None, request.seed) else f"was trained with seed {seed}, not {request.seed}"


def _other_split(fold: Fold, splits: list[dict[str, list[str]]]) -> str | None:
    if fold.summary is None or not splits:
        return None
    validated = {entry["prediction_file"].rsplit("/", 1)[-1].split(".")[0] for entry in fold.summary["metric_per_case"]}
    held_out = {case.split(".")[0] for case in splits[int(fold.name)]["val"]}
    if validated == held_out:
        return None
    return f"validated {len(validated - held_out)} scans that splits_final.json does not hold out in this fold"
