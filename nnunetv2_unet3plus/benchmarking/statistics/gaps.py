"""What is missing in a case table, and hence left out of the comparisons."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from nnunetv2_unet3plus.benchmarking.counted import OF_THE_CLASS, absent, counted
from nnunetv2_unet3plus.benchmarking.results import MEASURES
from nnunetv2_unet3plus.benchmarking.statistics.table import require_one_row_each

_NAMED = 3
_NEEDS_ABSENCE = ("false_positive_scan", "false_positive_slices")


def gaps(cases: pd.DataFrame, models: Sequence[str]) -> list[str]:
    """Says what comparisons between the models have to do without.

    Args:
        cases: Rows of one split, `CASE_COLUMNS`.
        models: Those that are compared.

    Returns:
        One line each: models without results, cases or classes of a case that lack in a model, classes that are in no
        scan, infinite values, measures without a value, values that only some of the models have. What is not
        `counted` is no gap: no model has it.

    Raises:
        ValueError: several rows of one model, case and label, or rows of several splits.
    """
    chosen = counted(cases[cases["model"].isin(models)])
    require_one_row_each(chosen)
    there = [model for model in models if model in set(chosen["model"])]
    absent = [f"{model} has no results here: it is in no comparison." for model in models if model not in there]
    if not there:
        return absent
    # (label, case) x model -> whether there is a row
    rows = chosen.pivot(index=["label", "case"], columns="model", values="split").reindex(columns=there).notna()
    return [
        *absent,
        *_missing(rows),
        *_empty_labels(chosen),
        *_infinite(chosen),
        *_without_value(chosen, there),
        *_of_some_models(chosen, rows),
    ]


def _missing(rows: pd.DataFrame) -> Iterator[str]:
    by_case = rows.groupby(level="case").any()
    for model in rows:
        lacking = by_case.index[~by_case[model]]
        if len(lacking):
            yield (
                f"{model} lacks {len(lacking)} of {_cases(len(by_case))} ({_some(lacking)}): left out where {model} is "
                "compared, and for all models in the mean over the classes and in the ranking."
            )
        incomplete = rows[~rows[model] & rows.index.get_level_values("case").isin(by_case.index[by_case[model]])]
        for label, part in incomplete.groupby(level="label"):
            names = part.index.get_level_values("case")
            yield f"{model} lacks {label} in {_cases(len(names))} ({_some(names)}): left out where {model} is compared."


def _empty_labels(cases: pd.DataFrame) -> Iterator[str]:
    for label, part in cases.groupby("label"):
        if absent(part).all():
            yield (
                f"{label} is in none of the {_cases(part['case'].nunique())}: nothing but its false positives can be "
                "compared."
            )


def _infinite(cases: pd.DataFrame) -> Iterator[str]:
    for measure, title in _titles():
        for (model, label), part in cases[np.isinf(cases[measure].astype(float))].groupby(["model", "label"]):
            names = sorted(part["case"])
            yield f"{model} has an infinite {title} of {label} in {_cases(len(names))} ({_some(names)}): left out."


def _without_value(cases: pd.DataFrame, models: Sequence[str]) -> Iterator[str]:
    known = cases.groupby("label")[list(MEASURES)].count()
    for label, part in cases.groupby("label"):
        # nothing lacks if all scans hold the class, or if none does, which `_empty_labels` says
        expected = _NEEDS_ABSENCE + (OF_THE_CLASS if absent(part).all() else ())
        none = [title for measure, title in _titles() if known.loc[label, measure] == 0 and measure not in expected]
        if none:
            yield f"{label} has no value in any case, hence no comparison, of: {'; '.join(none)}."
    by_model = cases.groupby("model")[list(MEASURES)].count()
    for model in models:
        none = [title for measure, title in _titles() if by_model.loc[model, measure] == 0 < known[measure].sum()]
        if none:
            yield f"{model} has no value in any case, hence no comparison, of: {'; '.join(none)}."


def _of_some_models(cases: pd.DataFrame, rows: pd.DataFrame) -> Iterator[str]:
    """Lines for values that a model has not in a case in which another has."""
    lacking: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for measure, title in _titles():
        known = cases.pivot(index=["label", "case"], columns="model", values=measure).reindex(rows.index).notna()
        wanting = rows & ~known.reindex(columns=rows.columns) & known.any(axis=1).to_numpy()[:, None]
        for model in rows:
            if not known[model].any():
                continue
            for label, part in wanting[wanting[model]].groupby(level="label"):
                names = tuple(part.index.get_level_values("case"))
                lacking.setdefault((str(model), str(label), names), []).append(title)
    for (model, label, names), titles in lacking.items():
        yield (
            f"{model} has no value where another model has one, hence is not compared there, of {label} in "
            f"{_cases(len(names))} ({_some(names)}): {'; '.join(titles)}."
        )


def _titles() -> list[tuple[str, str]]:
    return [(name, measure.title) for name, measure in MEASURES.items()]


def _cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count} cases"


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
