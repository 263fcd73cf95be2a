"""Under which conditions the models of a benchmark were trained, in words."""

import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_unet3plus.benchmarking.fold import Fold, read_or_none
from nnunetv2_unet3plus.benchmarking.model_folder import ModelFolder


def settings_of(models: Sequence[tuple[str, ModelFolder, Sequence[Fold]]]) -> dict[str, str]:
    """What the trainings had in common; where they differ, whose was what.

    Args:
        models: name, folder and folds of each.
    """
    return {
        "Configuration": _alike({name: model.configuration for name, model, _ in models}),
        "Plans": _alike({name: plan_of(model) for name, model, _ in models}),
        "Folds": _alike({name: ", ".join(fold.name for fold in folds) for name, _, folds in models}),
        "Length": _alike({name: spell_lengths({f.length for f in folds}) for name, _, folds in models}),
        "Random numbers": _alike({name: seeds(folds) for name, _, folds in models}),
        "Trained on": _alike({name: ", ".join(sorted({machine(f) for f in folds})) for name, _, folds in models}),
        "Masks": "of validation as nnU-Net's trainer left them; of test scans by checkpoint_final.pth, tiles that "
        "overlap by half, mirrored along all axes trained with",
        "Reported with": f"nnunetv2 {version('nnunetv2')}, nnunetv2-unet3plus {version('nnunetv2-unet3plus')}, "
        f"Python {platform.python_version()}",
    }


def _alike(of_models: dict[str, str]) -> str:
    values = set(of_models.values())
    return values.pop() if len(values) == 1 else "; ".join(f"{name}: {value}" for name, value in of_models.items())


def spell_lengths(lengths: Iterable[Any]) -> str:
    """`50 epochs of 250 iterations`; None among them is a length that is not known."""
    lengths = set(lengths)
    known = [f"{epochs} epochs of {iterations} iterations" for epochs, iterations in sorted(lengths - {None})]
    return " or ".join(known + ["a length that is not known"] * (None in lengths))


def plan_of(model: ModelFolder) -> str:
    """Name, patch and batch."""
    configuration = PlansManager(model.plans).get_configuration(model.configuration)
    patch = " x ".join(map(str, configuration.patch_size))
    return f"{model.plans_name}, patch {patch}, batch {configuration.batch_size}"


def machine(fold: Fold) -> str:
    """GPU or CPU, and PyTorch's version, as nnU-Net wrote them down."""
    debug = read_or_none(fold.folder / "debug.json") or {}
    device = debug.get("gpu_name") or debug.get("device")
    return f"{device}, PyTorch {debug['torch_version']}" if device and "torch_version" in debug else "not known"


def seeds(folds: Sequence[Fold]) -> str:
    """How random numbers were drawn."""
    records = [fold.record or {} for fold in folds]
    seeds_known = {record.get("seed") for record in records}
    if seeds_known == {None}:
        return "not seeded (not trained, or not begun, by unet3plus benchmark)"
    if len(seeds_known) > 1:
        return f"mixed: seeds {', '.join(sorted(map(str, seeds_known)))}"
    seed = seeds_known.pop()
    if all(record.get("repeatable") for record in records):
        return f"seed {seed} anew for every fold and epoch: repeatable"
    return (
        f"seed {seed} anew for every fold and epoch; worker processes that make patches, and GPUs, are not repeatable"
    )
