"""Whether two models differ: the same cases, segmented by both.

Interval of the mean difference: `resampling.mean_interval`.

Test: Wilcoxon's signed-rank. Cases in which both models do equally well are dropped, as Wilcoxon did: given which
cases differ, either model is as likely ahead in each of them if there is no difference, whatever the number of ties;
and p is then exact up to 50 cases that differ, counted here rank by rank: scipy puts all 2^n signs with differences of
equal size, most of a second for 13 cases, and approximates from 14. Beyond 50 it is scipy's normal approximation, with
continuity correction. Pratt's ranks would be as valid, but scipy takes the normal approximation of them too: of 20
cases of which five differ, all the same way, it says p = 0.03, and the exact value is 0.06.

Holm's correction: over the pairs of models, for one measure and one label. `MEAN` is the family to look at first; the
families of single labels, and of other measures, are not corrected for one another.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import rankdata, wilcoxon

from nnunetv2_unet3plus.benchmarking.results import MEASURES
from nnunetv2_unet3plus.benchmarking.statistics.resampling import mean_interval
from nnunetv2_unet3plus.benchmarking.statistics.table import FEWEST_CASES, MEAN, ROUNDING, case_values
from nnunetv2_unet3plus.benchmarking.statistics.wording import Verdict, sentence, verdict

__all__ = ["FEWEST_CASES", "MEAN", "Comparison", "compare"]

MOST_EXACT = 50
"""Cases that differ up to which p is exact."""


@dataclass(frozen=True)
class Comparison:
    """Two models, over the cases that have a value for both.

    Attributes:
        measure: a key of `MEASURES`.
        label: a class or `MEAN`.
        first: the one model.
        second: the other.
        cases: number of cases that have a value for both.
        difference: mean of first less second, in the measure's unit; of the absolute values, for a measure that is
            best at zero.
        low: lower end of the difference's 95 % interval. NaN as its upper end with fewer than `FEWEST_CASES` cases,
            and where too few of them differ for an interval.
        high: upper end.
        p: of the two-sided signed-rank test. NaN with fewer than `FEWEST_CASES` cases.
        p_holm: the same after Holm's correction over the pairs of models.
        wins: cases in which the first is better, as the measure says.
        ties: cases in which both are equal.
        losses: cases in which the second is better.
        rank_biserial: effect size of the test, the sum of ranks for first > second less that for first < second,
            over the sum of all: -1 to 1. NaN where all cases tie or there is no test.
    """

    measure: str
    label: str
    first: str
    second: str
    cases: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    wins: int
    ties: int
    losses: int
    rank_biserial: float = math.nan

    @property
    def verdict(self) -> Verdict:
        """`better` or `worse`, which is the first one; else `no evidence`, `unclear` or `too few cases`."""
        return verdict(self)

    @property
    def sentence(self) -> str:
        """What was found, in plain words."""
        return sentence(self)


def compare(cases: pd.DataFrame, models: Sequence[str], measure: str, labels: Sequence[str]) -> list[Comparison]:
    """Compares every two models.

    Args:
        cases: Rows of one split, `CASE_COLUMNS`.
        models: Names; in every pair the one named earlier is the first.
        measure: One of `MEASURES`.
        labels: Classes.

    Returns:
        Every pair, for `MEAN` and then for every label.

    Raises:
        ValueError: several rows of one model, case and label, or rows of several splits.
    """
    values = case_values(cases, models, measure, labels)
    return [comparison for label in values for comparison in _family(measure, label, values[label])]


def _family(measure: str, label: str, values: pd.DataFrame) -> Iterator[Comparison]:
    """Every pair of one measure and label, Holm's correction included."""
    columns = {model: values[model].to_numpy() for model in values}
    pairs = [
        _pair(measure, label, first, second, _differences(columns[first], columns[second]))
        for first, second in combinations(columns, 2)
    ]
    tested = np.array([pair.p for pair in pairs if not math.isnan(pair.p)])
    corrected = iter(_holm(tested))
    for pair in pairs:
        yield pair if math.isnan(pair.p) else replace(pair, p_holm=float(next(corrected)))


def _differences(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of the cases that have both values."""
    differences = first - second
    return differences[~np.isnan(differences)].round(ROUNDING)


def _holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down. statsmodels' own collects all garbage at every call: 0.7 s where PyTorch is loaded."""
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected


def _pair(measure: str, label: str, first: str, second: str, differences: np.ndarray) -> Comparison:
    """One pair, its p not yet corrected."""
    enough = len(differences) >= FEWEST_CASES
    low, high = mean_interval(differences) if enough else (math.nan, math.nan)
    if not math.isfinite(low):
        low = high = math.nan
    elif not MEASURES[measure].unit:
        low, high = max(low, -1.0), min(high, 1.0)  # ratios differ by no more
    p, rank_biserial = _signed_rank(differences) if enough else (math.nan, math.nan)
    more, less = int((differences > 0).sum()), int((differences < 0).sum())
    higher_wins = MEASURES[measure].better == "higher"
    return Comparison(
        measure=measure,
        label=label,
        first=first,
        second=second,
        cases=len(differences),
        difference=float(differences.mean()) if len(differences) else math.nan,
        low=low,
        high=high,
        p=p,
        p_holm=math.nan,
        wins=more if higher_wins else less,
        ties=len(differences) - more - less,
        losses=less if higher_wins else more,
        rank_biserial=rank_biserial,
    )


def _signed_rank(differences: np.ndarray) -> tuple[float, float]:
    """Two-sided p and the rank-biserial correlation."""
    differing = differences[differences != 0]
    if not len(differing):
        return 1.0, math.nan
    ranks = rankdata(np.abs(differing))
    more, less = ranks[differing > 0].sum(), ranks[differing < 0].sum()
    if len(differing) <= MOST_EXACT:
        p = _exact_p(ranks, min(more, less))
    else:
        p = float(wilcoxon(differing, correction=True).pvalue)
    return p, float((more - less) / (more + less))


def _exact_p(ranks: np.ndarray, smaller: float) -> float:
    """Share of all ways to put the signs that leave as small a sum of ranks on one side, ties or not."""
    halves = (2 * ranks).astype(int)  # ties share half ranks
    ways = np.zeros(halves.sum() + 1)
    ways[0] = 1
    for rank in halves:
        ways[rank:] += ways[:-rank].copy()
    return float(min(1.0, 2 * ways[: int(2 * smaller) + 1].sum() / ways.sum()))
