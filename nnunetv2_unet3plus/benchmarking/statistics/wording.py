"""A comparison of two models in plain words."""

import math
from typing import TYPE_CHECKING

from nnunetv2_unet3plus.benchmarking.results import MEASURES
from nnunetv2_unet3plus.benchmarking.statistics.table import FEWEST_CASES, MEAN

if TYPE_CHECKING:
    from nnunetv2_unet3plus.benchmarking.statistics.paired import Comparison

SIGNIFICANT = 0.05
_NOUNS = {
    "volume_error": "absolute volume error",
    "false_positive_scan": "false-positive volume in scans without the class",
    "false_positive_slices": "false-positive volume in slices without the class",
}


def sentence(comparison: "Comparison") -> str:
    """What was found; of a single class it begins with the class's name.

    A difference is claimed only where the corrected p and the interval both show it, for the same model.
    """
    of_label = "" if comparison.label == MEAN else f"{comparison.label}: "
    return of_label + _finding(comparison)


def _finding(c: "Comparison") -> str:
    noun = _NOUNS.get(c.measure, MEASURES[c.measure].title)
    pair = f"{c.first} and {c.second}"
    if math.isnan(c.p):
        return f"Too few cases ({c.cases}) to tell {pair} apart in {noun}: at least {FEWEST_CASES} are needed."
    if c.ties == c.cases:
        return f"No evidence of a difference in {noun} between {pair}: they tie in all {c.cases} cases."
    if math.isnan(c.low):
        return f"Too few of the {c.cases} cases differ ({c.cases - c.ties}) to tell {pair} apart in {noun}."

    tested, excluded = c.p_holm < SIGNIFICANT, c.low > 0 or c.high < 0
    agree = c.difference * c.rank_biserial > 0
    if tested and excluded and agree:
        return _claim(c, noun)
    amount, details = _figures(c, c.difference, c.low, c.high)
    evidence = f"({c.first} less {c.second}: {amount}, {details})"
    if not tested and not excluded:
        return f"No evidence of a difference in {noun} between {pair} {evidence}."
    if tested and excluded:
        reason = "the mean speaks for one, the ranks of the cases for the other"
    elif tested:
        reason = "the test says so, but the interval of the mean holds 0"
    else:
        reason = "the interval of the mean excludes 0, but the test does not confirm it"
    return f"Unclear whether {pair} differ in {noun}: {reason} {evidence}."


def _claim(c: "Comparison", noun: str) -> str:
    higher_is_better = MEASURES[c.measure].better == "higher"
    first_is_better = (c.difference > 0) == higher_is_better
    better, worse = (c.first, c.second) if first_is_better else (c.second, c.first)
    comparative = "higher" if higher_is_better else "lower"
    if c.difference > 0:
        amount, details = _figures(c, c.difference, c.low, c.high)
    else:
        amount, details = _figures(c, -c.difference, -c.high, -c.low)
    return f"{better} has a {comparative} {noun} than {worse}, by {amount} ({details})."


def _figures(c: "Comparison", *figures: float) -> tuple[str, str]:
    """Difference; interval, cases and p. Two digits of the largest figure."""
    decimals = max(0, 1 - math.floor(math.log10(max(map(abs, figures)))))
    difference, low, high = (f"{figure:.{decimals}f}" for figure in figures)
    unit = f" {MEASURES[c.measure].unit}".rstrip()
    p = "p < 0.001" if c.p_holm < 0.001 else f"p = {c.p_holm:.2g}"
    details = f"95 % interval {low} to {high}{unit}, {c.cases} cases, {p} after Holm's correction"
    return difference + unit, details
