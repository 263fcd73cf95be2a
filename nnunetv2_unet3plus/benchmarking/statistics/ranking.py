"""Which model comes first, and whether other cases would have changed that.

Mean, then rank, and its stability under the bootstrap of cases, as in M. Wiesenfarth et al., "Methods and open-source
toolkit for analyzing and visualizing challenge results", Scientific Reports 11 (2021).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, rankdata

from nnunetv2_unet3plus.benchmarking.results import MEASURES
from nnunetv2_unet3plus.benchmarking.statistics.resampling import resampled_means
from nnunetv2_unet3plus.benchmarking.statistics.table import MEAN, ROUNDING, case_values


@dataclass(frozen=True)
class Ranking:
    """Models by their mean, over the cases common to all.

    Attributes:
        measure: a key of `MEASURES`.
        models: best first, by the mean over cases of a case's `MEAN`. Without those that have no value at all; empty
            if no case is common to the others.
        mean: that mean; of absolute values, for a measure that is best at zero.
        rank: 1 is best; models with equal means share the mean of their ranks.
        share: (models, ranks), share of the bootstrap samples of the cases in which the model has the rank. Those
            that tie in a sample share their ranks equally.
        low: lower end of the 95 % bootstrap interval of the rank.
        high: its upper end.
        kendall_tau: median agreement of the bootstrap samples' rankings with the full one, 1 if always the same.
    """

    measure: str
    models: list[str]
    mean: list[float]
    rank: list[float]
    share: np.ndarray
    low: list[float]
    high: list[float]
    kendall_tau: float


def rank(cases: pd.DataFrame, models: Sequence[str], measure: str, labels: Sequence[str]) -> Ranking:
    """Ranks the models and resamples the cases.

    Args:
        cases: Rows of one split, `CASE_COLUMNS`.
        models: Names; of models with equal means the one named earlier comes first.
        measure: One of `MEASURES`.
        labels: Classes.

    Raises:
        ValueError: several rows of one model, case and label, or rows of several splits.
    """
    values = case_values(cases, models, measure, labels)[MEAN].dropna(axis="columns", how="all")
    if values.empty:
        return Ranking(measure, [], [], [], np.zeros((0, 0)), [], [], math.nan)
    lower_is_better = 1 if MEASURES[measure].better != "higher" else -1
    means = values.to_numpy().mean(axis=0).round(ROUNDING)
    samples = lower_is_better * resampled_means(values.to_numpy()).round(ROUNDING)
    full = rankdata(lower_is_better * means)
    ranks = rankdata(samples, axis=1)
    order = np.argsort(full, kind="stable")
    low, high = np.quantile(ranks, [0.025, 0.975], axis=0, method="inverted_cdf")
    return Ranking(
        measure=measure,
        models=[str(values.columns[i]) for i in order],
        mean=means[order].tolist(),
        rank=full[order].tolist(),
        share=_shares(samples)[order],
        low=low[order].tolist(),
        high=high[order].tolist(),
        kendall_tau=_agreement(full, ranks),
    )


def _shares(samples: np.ndarray) -> np.ndarray:
    """(samples, models), lower is better -> (models, ranks)."""
    first, last = rankdata(samples, "min", axis=1), rankdata(samples, "max", axis=1)
    each = [((first <= rank) & (rank <= last)) / (last - first + 1) for rank in range(1, samples.shape[1] + 1)]
    return np.stack([share.mean(axis=0) for share in each], axis=1)


def _agreement(full: np.ndarray, ranks: np.ndarray) -> float:
    """Median of Kendall's tau-b; two rankings without any order agree."""
    different, which = np.unique(ranks, axis=0, return_inverse=True)
    taus = [1.0 if np.array_equal(other, full) else kendalltau(full, other).statistic for other in different]
    return float(np.median(np.nan_to_num(taus)[which.ravel()]))
