"""Figures with two axes: accuracy against a cost, and training curves."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from nnunetv2_unet3plus.benchmarking.report import svg

HEIGHT = 210
LOGARITHMIC = 20  # the largest cost over the smallest from which on the axis is logarithmic
MOST_POINTS = 250  # of a curve; longer ones are averaged
MARKER = 17  # CSS pixels: holds a number of two digits


def scatter(points: Mapping[str, tuple[float, float]], numbers: Mapping[str, int], cost: str, key: str) -> Markup:
    """Accuracy against a cost, each model its number.

    Args:
        points: model -> cost, accuracy; all finite.
        numbers: model -> its number in the report.
        cost: with its unit.
        key: unique in the page.
    """
    with svg.panel(HEIGHT, left=54, right=16, top=12, bottom=28) as axes:
        for name, (x, y) in points.items():
            colour = svg.model_colour(numbers[name] - 1)
            axes.plot(x, y, "o", markersize=MARKER, color=colour, markeredgecolor=svg.PAPER, alpha=0.92)
            axes.annotate(
                str(numbers[name]), (x, y), color=svg.PAPER, weight="bold", fontsize=svg.SMALL_TEXT,
                ha="center", va="center_baseline",
            )  # fmt: skip
        costs = [x for x, _ in points.values()]
        if min(costs) > 0 and max(costs) > LOGARITHMIC * min(costs):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.margins(x=0.1, y=0.15)
        each = ", ".join(f"{name} {x:.4g} and {y:.4f}" for name, (x, y) in points.items())
        return svg.to_svg(axes, f"Dice against {cost}: {each}", key)


def curves(
    solid: Sequence[Sequence[float]],
    dashed: Sequence[Sequence[float]],
    others: Sequence[Sequence[float]],
    number: int,
    description: str,
    key: str,
    limits: tuple[float, float] | None = None,
) -> Markup:
    """A model's training, folds thin and their mean thick.

    Args:
        solid: one sequence a fold, a value an epoch.
        dashed: the same, drawn dashed; may be empty.
        others: other models' means, to see it against.
        number: the model's.
        description: what is seen.
        key: unique in the page.
        limits: of the upright axis; as the values need if left out.
    """
    colour = svg.model_colour(number - 1)
    with svg.panel(HEIGHT - 30, left=50, right=16, top=10, bottom=26) as axes:
        for curve in others:
            _line(axes, curve, color=svg.MUTED, linewidth=1, alpha=0.5)
        for folds, style in ((dashed, (0, (3, 2))), (solid, "-")):
            for fold in folds if len(folds) > 1 else ():
                _line(axes, fold, color=colour, linewidth=0.8, alpha=0.4, linestyle=style)
            if folds:
                _line(axes, mean_curve(folds), color=colour, linewidth=2, linestyle=style)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if limits:
            axes.set_ylim(*limits)
        return svg.to_svg(axes, description, key)


def mean_curve(folds: Sequence[Sequence[float]]) -> list[float]:
    """Mean over the folds that have come that far; NaN where none has a value."""
    longest = max(map(len, folds))
    table = np.full((len(folds), longest), np.nan)
    for row, fold in zip(table, folds, strict=True):
        row[: len(fold)] = fold
    return _mean(table, axis=0).tolist()


def _line(axes: Axes, values: Sequence[float], **style: object) -> None:
    """A curve over epochs 1, 2, ...; one of many epochs as means of as many as are needed to stay below the limit."""
    stride = -(-len(values) // MOST_POINTS)
    if not stride:
        return
    table = np.full((-(-len(values) // stride), stride), np.nan)
    table.flat[: len(values)] = values
    epochs = np.full_like(table, np.nan)
    epochs.flat[: len(values)] = np.arange(1, len(values) + 1)
    alone = {"marker": "o", "markersize": 3} if len(table) == 1 else {}
    axes.plot(_mean(epochs, axis=1), _mean(table, axis=1), **style, **alone)  # type: ignore[arg-type]


def _mean(table: np.ndarray, axis: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing is NaN, and drawn as a gap
        return np.nanmean(np.where(np.isfinite(table), table, np.nan), axis=axis)
