"""The case table, put so that models can be compared case by case."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nnunetv2_unet3plus.benchmarking.counted import counted
from nnunetv2_unet3plus.benchmarking.results import MEASURES

MEAN = "mean"
"""In place of a label: each case's mean over the labels that are defined for every model compared."""

FEWEST_CASES = 6
"""With fewer, no two-sided signed-rank p can be below 0.05: of 5, the least is 2 / 2^5 = 0.06."""

ROUNDING = 12
"""Decimals that count: 0.3 - 0.2 and 0.2 - 0.1 are to be ties."""


def require_one_row_each(cases: pd.DataFrame) -> None:
    """Refuses a table in which a model's value of a case would not be one value.

    Raises:
        ValueError: rows of several splits, or several rows of one model, case and label.
    """
    splits = sorted(cases["split"].unique())
    if len(splits) > 1:
        raise ValueError(f"one split's cases are compared at a time, not those of {', '.join(splits)}")
    repeated = cases[cases.duplicated(["model", "case", "label"])]
    if len(repeated):
        row = repeated.iloc[0]
        raise ValueError(f"{row['model']} has several rows of {row['label']} in case {row['case']}: one is expected")


def case_values(
    cases: pd.DataFrame, models: Sequence[str], measure: str, labels: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """One measure's values, case by case.

    Args:
        cases: Rows of one split, `CASE_COLUMNS`.
        models: Models to compare.
        measure: One of `MEASURES`; of one that is best at zero the absolute values are taken.
        labels: Classes.

    Returns:
        `MEAN` and every label -> values of shape (cases, models), cases sorted by name; NaN where a value is missing,
        infinite, or not `counted`. A model without a single value has no say in which labels `MEAN` is taken over.

    Raises:
        ValueError: several rows of one model, case and label, rows of several splits, or a label named as `MEAN`.
    """
    if MEAN in labels:
        raise ValueError(f"a class cannot be called {MEAN!r} here: that is the mean over the classes")
    chosen = cases[cases["model"].isin(models) & cases["label"].isin(labels)]
    require_one_row_each(chosen)
    wide = counted(chosen).pivot(index=["label", "case"], columns="model", values=measure)
    wide = wide.reindex(columns=list(models)).astype(float).sort_index()
    wide = wide.where(np.isfinite(wide))
    if MEASURES[measure].better == "zero":
        wide = wide.abs()
    present = wide.columns[wide.notna().any()]
    shared = wide[wide[present].notna().all(axis=1)]
    by_label = {label: wide[wide.index.get_level_values("label") == label].droplevel("label") for label in labels}
    return {MEAN: shared.groupby(level="case").mean(), **by_label}
