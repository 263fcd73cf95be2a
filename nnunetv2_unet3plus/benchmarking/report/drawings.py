"""The page's figures, with what stands above them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from nnunetv2_unet3plus.benchmarking.report import plots, rows, summary
from nnunetv2_unet3plus.benchmarking.results import MEASURES, Benchmark, Model


@dataclass(frozen=True)
class Drawing:
    """A figure and what stands below it."""

    caption: str
    svg: Markup
    note: str = ""


def boxes(
    cases: pd.DataFrame, models: Sequence[str], label: str, measure: str, numbers: dict[str, int], split: str
) -> Drawing:
    """A class's values of a measure."""
    table = summary.per_case(cases[cases["label"] == label], measure).reindex(columns=list(models))
    values = {model: table[model].to_numpy(float) for model in models}
    unit = f", {MEASURES[measure].unit}" if MEASURES[measure].unit else ""
    figure = rows.boxes(values, numbers, MEASURES[measure], f"{split}-box-{measure}-{label}")
    return Drawing(f"{label}: {MEASURES[measure].title}{unit}", figure)


def scatters(benchmark: Benchmark, split: str, numbers: dict[str, int]) -> list[Drawing]:
    """Dice against every cost that at least one model is known to have."""
    cases = benchmark.cases[benchmark.cases["split"] == split]
    dice = summary.per_case(cases, "dice").mean()
    drawings = []
    for key, cost in summary.COSTS.items():
        points = {
            model.name: (summary.cost_of(model, key), float(dice.get(model.name, math.nan)))
            for model in benchmark.models
        }
        known = {name: point for name, point in points.items() if np.isfinite(point).all()}
        if known:
            lacking = ", ".join(name for name in points if name not in known)
            figure = plots.scatter(known, numbers, cost.heading, f"scatter-{key}")
            drawings.append(
                Drawing(f"Dice against {cost.heading}", figure, f"Not known: {lacking}." if lacking else "")
            )
    return drawings


def curves(models: Sequence[Model], numbers: dict[str, int]) -> dict[str, list[Drawing]]:
    """Loss and pseudo Dice, a figure a model that has them; empty if none has."""
    losses, dice = [], []
    means = {
        model.name: plots.mean_curve(known)
        for model in models
        if (known := [fold.pseudo_dice for fold in model.curves.values() if fold.pseudo_dice])
    }
    for model in models:
        name, number, folds = model.name, numbers[model.name], model.curves.values()
        training = [fold.train_loss for fold in folds if fold.train_loss]
        validation = [fold.validation_loss for fold in folds if fold.validation_loss]
        pseudo = [fold.pseudo_dice for fold in folds if fold.pseudo_dice]
        if training or validation:
            figure = plots.curves(training, validation, [], number, f"Loss of {name} by epoch", f"loss-{number}")
            losses.append(Drawing(name, figure))
        if pseudo:
            others = [mean for other, mean in means.items() if other != name]
            words = f"Pseudo Dice of {name} by epoch"
            figure = plots.curves(pseudo, [], others, number, words, f"pseudo-{number}", (-0.02, 1.05))
            dice.append(Drawing(name, figure))
    return {title: figures for title, figures in (("Loss", losses), ("Pseudo Dice", dice)) if figures}
