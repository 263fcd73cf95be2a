"""Figures with a row a model or a comparison: its name, and below it what is drawn."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nnunetv2_unet3plus.benchmarking.report import svg
from nnunetv2_unet3plus.benchmarking.results import Measure

ROW = 37  # CSS pixels
NAME_AT, MARK_AT = 0.26, 0.70  # heights within a row, from its top
HALF_BOX = 0.17
SIDE = 17  # CSS pixels: half of an axis's number, at its very end
MOST_DOTS = 60
WHISKERS = (5, 95)  # percentiles
MILLIMETRES = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)


@dataclass(frozen=True)
class Interval:
    """A difference, drawn.

    Attributes:
        name: above it.
        middle: the estimate.
        low: lower end.
        high: upper end.
        certain: drawn filled, hollow otherwise.
    """

    name: str
    middle: float
    low: float
    high: float
    certain: bool


@contextmanager
def _rows(names: Sequence[str]) -> Iterator[Axes]:
    with svg.panel(ROW * len(names) + 34, left=SIDE, right=SIDE, bottom=28) as axes:
        axes.set_ylim(len(names), 0)
        axes.set_yticks([])
        axes.grid(axis="y", visible=False)
        for row, name in enumerate(names):
            axes.text(
                0,
                row + NAME_AT,
                svg.shorten(name),
                transform=axes.get_yaxis_transform(),
                color=svg.INK,
                va="center",
            )
        yield axes


def boxes(values: Mapping[str, np.ndarray], numbers: Mapping[str, int], measure: Measure, key: str) -> Markup:
    """Box plot of a measure: quartiles and median, whiskers at the 5th and 95th percentile, the mean as a diamond.

    Args:
        values: model -> one value a case; NaN is left out. Up to 60 are drawn as dots, of more the two extremes.
        numbers: model -> its number in the report.
        measure: what it is.
        key: unique in the page.
    """
    with _rows([f"{numbers[name]}  {name}" for name in values]) as axes:
        for row, (name, all_of_model) in enumerate(values.items()):
            known = all_of_model[np.isfinite(all_of_model)]
            if known.size:
                _box(axes, row + MARK_AT, known, svg.model_colour(numbers[name] - 1))
            else:
                _say(axes, row, "no case has a value")
        together = np.concatenate([each[np.isfinite(each)] for each in values.values()])
        _scale(axes, together, measure)
        counts = ", ".join(f"{name} median {_median(each)}" for name, each in values.items())
        return svg.to_svg(axes, f"Box plot of {measure.title}: {counts}", key)


def _box(axes: Axes, y: float, values: np.ndarray, colour: str) -> None:
    low, first, middle, third, high = np.percentile(values, (WHISKERS[0], 25, 50, 75, WHISKERS[1]))
    axes.hlines([y, y], [low, third], [first, high], color=colour, linewidth=1.2)
    axes.barh(y, third - first, 2 * HALF_BOX, first, color=colour, alpha=0.22)
    axes.barh(y, third - first, 2 * HALF_BOX, first, fill=False, edgecolor=colour, linewidth=1.2)
    axes.vlines(middle, y - HALF_BOX, y + HALF_BOX, color=colour, linewidth=2.4)
    few = len(values) <= MOST_DOTS
    dots = values if few else np.array([values.min(), values.max()])
    _dots(axes, dots, y + (_scatter(len(dots)) if few else 0), colour)
    axes.plot(values.mean(), y, "D", markersize=4.5, color=svg.PAPER, markeredgecolor=colour, markeredgewidth=1.2)


def _scatter(count: int) -> np.ndarray:
    """Heights that keep neighbours apart, the same ones every time."""
    golden = (np.sqrt(5) - 1) / 2
    return (np.arange(count) * golden % 1 - 0.5) * 2 * HALF_BOX * 0.9


def _dots(axes: Axes, x: np.ndarray, y: np.ndarray | float, colour: str) -> None:
    """Round ends of lines without length: all dots are one path, a quarter of the bytes of markers."""
    points = np.repeat(np.column_stack([x, np.broadcast_to(y, x.shape)]), 2, axis=0)
    path = Outline(points, [Outline.MOVETO, Outline.LINETO] * len(x))
    axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=3.4, capstyle="round", alpha=0.55))


def _scale(axes: Axes, values: np.ndarray, measure: Measure) -> None:
    """From the smallest to the largest value; distances, which an empty mask makes huge, logarithmic above 1."""
    low, high = (values.min(), values.max()) if values.size else (0.0, 1.0)
    if measure.unit == "mm":
        axes.set_xscale("symlog", linthresh=1, linscale=0.5)
        axes.set_xticks([tick for tick in MILLIMETRES if tick <= high * 1.1 or tick <= 1], minor=False)
        axes.set_xticks([], minor=True)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlim(min(0, low) - 0.08, max(high * 1.15, 1.2))
        return
    margin = 0.05 * (high - low) or 0.02
    axes.set_xlim(low - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))


def intervals(rows: Sequence[Interval], key: str, description: str) -> Markup:
    """Forest plot: differences with their intervals around zero."""
    with _rows([row.name for row in rows]) as axes:
        axes.axvline(0, color=svg.INK, linewidth=1)
        for row, each in enumerate(rows):
            y = row + MARK_AT
            if not np.isfinite(each.middle):
                _say(axes, row, "not known")
                continue
            colour = svg.INK if each.certain else svg.MUTED
            if np.isfinite([each.low, each.high]).all():
                axes.hlines(y, each.low, each.high, color=colour, linewidth=2)
            axes.plot(each.middle, y, "o", markersize=7.5, color=colour if each.certain else svg.PAPER,
                      markeredgecolor=colour, markeredgewidth=1.5)  # fmt: skip
        ends = np.array([0.0, *(end for row in rows for end in (row.low, row.middle, row.high) if np.isfinite(end))])
        margin = 0.08 * np.ptp(ends) or 0.01
        axes.set_xlim(ends.min() - margin, ends.max() + margin)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        return svg.to_svg(axes, description, key)


def ranks(models: Sequence[str], share: np.ndarray, numbers: Mapping[str, int], key: str) -> Markup:
    """Bubble plot: how often a model has which rank if the cases are drawn anew.

    Args:
        models: in the order of the rows.
        share: (models, ranks), the share of the draws.
        numbers: model -> its number in the report.
        key: unique in the page.
    """
    with _rows([f"{numbers[name]}  {name}" for name in models]) as axes:
        axes.set_xlim(0.4, len(models) + 0.6)
        axes.set_xticks(range(1, len(models) + 1))
        largest = min(0.55 * ROW, 0.85 * (svg.WIDTH - 2 * SIDE) / (len(models) + 0.2)) ** 2  # points squared
        for row, name in enumerate(models):
            seen = np.flatnonzero(share[row] > 0)
            areas = largest * share[row][seen]
            axes.hlines(row + MARK_AT, 1, len(models), color=svg.RULE, linewidth=1, zorder=1)
            axes.scatter(
                seen + 1,
                [row + MARK_AT] * len(seen),
                areas,
                color=svg.model_colour(numbers[name] - 1),
                linewidths=0,
                zorder=3,
            )
        best = ", ".join(f"{name} first in {share[row][0]:.0%}" for row, name in enumerate(models))
        return svg.to_svg(axes, f"Ranks of the models over bootstrap samples: {best}", key)


def _say(axes: Axes, row: int, words: str) -> None:
    axes.text(
        0, row + MARK_AT, words, transform=axes.get_yaxis_transform(), color=svg.MUTED, fontsize=svg.SMALL_TEXT,
        va="center", style="italic",
    )  # fmt: skip


def _median(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return f"{np.median(known):.3g}" if known.size else "unknown"
