"""A comparison of two models in plain words."""

import math
from typing import TYPE_CHECKING, Literal

from nnunetv2_unet3plus.benchmarking.results import MEASURES
from nnunetv2_unet3plus.benchmarking.statistics.table import FEWEST_CASES, MEAN

if TYPE_CHECKING:
    from nnunetv2_unet3plus.benchmarking.statistics.paired import Comparison

SIGNIFICANT = 0.05
Verdict = Literal["better", "worse", "no evidence", "unclear", "too few cases"]
_NOUNS = {
    "volume_error": "absolute volume error",
    "false_positive_scan": "false-positive volume in scans without the class",
    "false_positive_slices": "false-positive volume in slices without the class",
}


def verdict(c: "Comparison") -> Verdict:
    """`better` or `worse`, which is the first model, or why neither is said.

    A difference is claimed only where the corrected p and the interval both show it, for the same model.
    """
    if math.isnan(c.p) or (math.isnan(c.low) and c.ties < c.cases):
        return "too few cases"
    tested, excluded = _signs(c)
    if tested and excluded and c.difference * c.rank_biserial > 0:
        return "better" if (c.difference > 0) == (MEASURES[c.measure].better == "higher") else "worse"
    return "unclear" if tested or excluded else "no evidence"


def sentence(comparison: "Comparison") -> str:
    """The verdict with its figures; of a single class it begins with the class's name."""
    of_label = "" if comparison.label == MEAN else f"{comparison.label}: "
    return of_label + _finding(comparison)


def _finding(c: "Comparison") -> str:
    noun = _NOUNS.get(c.measure, MEASURES[c.measure].title)
    pair = f"{c.first} and {c.second}"
    if c.verdict == "too few cases":
        if math.isnan(c.p):
            return f"Too few cases ({c.cases}) to tell {pair} apart in {noun}: at least {FEWEST_CASES} are needed."
        return f"Too few of the {c.cases} cases differ ({c.cases - c.ties}) to tell {pair} apart in {noun}."
    if c.ties == c.cases:
        return f"No evidence of a difference in {noun} between {pair}: they tie in all {c.cases} cases."
    if c.verdict in ("better", "worse"):
        return _claim(c, noun)
    amount, details = _figures(c, c.difference, c.low, c.high)
    evidence = f"({c.first} less {c.second}: {amount}, {details})"
    if c.verdict == "no evidence":
        return f"No evidence of a difference in {noun} between {pair} {evidence}."
    tested, excluded = _signs(c)
    if tested and excluded:
        reason = "the mean speaks for one, the ranks of the cases for the other"
    elif tested:
        reason = "the test says so, but the interval of the mean holds 0"
    else:
        reason = "the interval of the mean excludes 0, but the test does not confirm it"
    return f"Unclear whether {pair} differ in {noun}: {reason} {evidence}."


def _signs(c: "Comparison") -> tuple[bool, bool]:
    """Whether the test says that the two differ, and whether the interval does."""
    return c.p_holm < SIGNIFICANT, c.low > 0 or c.high < 0


def _claim(c: "Comparison", noun: str) -> str:
    better, worse = (c.first, c.second) if c.verdict == "better" else (c.second, c.first)
    comparative = "higher" if MEASURES[c.measure].better == "higher" else "lower"
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
