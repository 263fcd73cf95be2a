"""What each model reaches and costs, in figures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunetv2_unet3plus.benchmarking.counted import OF_THE_CLASS, absent, counted
from nnunetv2_unet3plus.benchmarking.report.tables import (
    UNKNOWN,
    Cell,
    Column,
    Row,
    Table,
    decimal,
    mark_best,
    significant,
)
from nnunetv2_unet3plus.benchmarking.results import MEASURES, SPLITS, Benchmark, Measure, Model


@dataclass(frozen=True)
class Cost:
    """A figure of `Costs`, as it is shown.

    Attributes:
        title: as tables and figures call it.
        unit: of the shown figure.
        scale: shown figure a unit of `Costs`.
        meaning: a sentence.
        unknown: why it may not be known.
    """

    title: str
    unit: str
    scale: float
    meaning: str
    unknown: str

    @property
    def heading(self) -> str:
        """Title and unit in one line."""
        return f"{self.title} ({self.unit})"


_NOT_BUILT = "the network could not be built from the plans in the model folder"
COSTS = {
    "parameters": Cost("Parameters", "M", 1e-6, "Of the whole network, in millions.", _NOT_BUILT),
    "gflop": Cost(
        "Compute", "GFLOP", 1, "Forward pass of one training patch, two operations a multiply-add.", _NOT_BUILT
    ),
    "saved_bytes": Cost(
        "Kept for backward", "GiB", 2**-30, "What one patch keeps between forward and backward pass.", _NOT_BUILT
    ),
    "peak_gpu_bytes": Cost(
        "Peak GPU memory", "GiB", 2**-30, "The most that training had allocated.", "no training on a GPU logged it"
    ),
    "seconds_per_iteration": Cost(
        "Training", "s/iteration", 1, "An epoch's time over its iterations, median.", "no log of a training has it"
    ),
    "seconds_per_case": Cost(
        "Prediction", "s/case", 1, "A scan's prediction, files read and written.", "no prediction was timed"
    ),
    "watt_hours": Cost("Energy", "Wh/fold", 1, "The GPU's during the training of a fold, by NVML.", "no GPU logged it"),
}
"""The fields of `Costs`, in the order in which they are shown."""


def splits_of(cases: pd.DataFrame) -> list[str]:
    """The splits there are, test first."""
    present = set(cases["split"])
    return [split for split in SPLITS if split in present]


def per_case(cases: pd.DataFrame, measure: str) -> pd.DataFrame:
    """A case's mean over its classes, infinite values and what is not `counted` left out.

    Returns:
        A row a case, a column a model.
    """
    values = counted(cases)[measure]
    finite = values.where(np.isfinite(values))
    return finite.groupby([cases["case"], cases["model"]]).mean().unstack("model").sort_index()


def figure(value: float, measure: Measure) -> str:
    """A measure as it is shown."""
    return decimal(value, 2 if measure.unit else 4, signed=measure.better == "zero")


def accuracy(cases: pd.DataFrame, models: Sequence[Model]) -> Table:
    """Means over cases of one split; each a mean over its classes.

    Args:
        cases: rows of one split, of all classes or of one.
        models: those to show.
    """
    names = [model.name for model in models]
    counts = cases.groupby("model")["case"].nunique().reindex(names, fill_value=0)
    columns = [Column("n", "cases", "Cases with a prediction.")]
    cells = [[Cell(str(count)) for count in counts]]
    unknown = []
    for key, measure in MEASURES.items():
        means = per_case(cases, key).mean().reindex(names)
        columns.append(Column(measure.title, measure.unit, measure.meaning, "Accuracy, mean over cases"))
        cells.append(mark_best(means.tolist(), [figure(mean, measure) for mean in means], measure.better))
        if means.isna().any():
            unknown.append(measure.title)
    notes = (f"{UNKNOWN} {_listed(unknown)}: no case has a value.",) if unknown else ()
    return Table(tuple(columns), _rows(names, cells), notes + _of_fewer(cases))


def _of_fewer(cases: pd.DataFrame) -> tuple[str, ...]:
    """Says which columns are of fewer cases than there are."""
    every, held = cases["case"].nunique(), cases.loc[~absent(cases), "case"].nunique()
    if not 0 < held < every:
        return ()
    titles = _listed([MEASURES[measure].title for measure in OF_THE_CLASS])
    return (f"{titles} are of {held} of the {every} cases: the others' references are empty.",)


def costs(models: Sequence[Model]) -> Table:
    """What the models cost."""
    columns, cells, reasons = [], [], dict[str, list[str]]()
    for key, cost in COSTS.items():
        values = [cost_of(model, key) for model in models]
        columns.append(Column(cost.title, cost.unit, cost.meaning, "Cost"))
        cells.append(mark_best(values, [significant(value) for value in values], "lower"))
        if not all(map(math.isfinite, values)):
            reasons.setdefault(cost.unknown, []).append(cost.title)
    notes = tuple(f"{UNKNOWN} {_listed(titles)}: not known, {reason}." for reason, titles in reasons.items())
    return Table(tuple(columns), _rows([model.name for model in models], cells), notes)


def cost_of(model: Model, key: str) -> float:
    """A model's cost in the unit in which it is shown; NaN if not known."""
    value = getattr(model.costs, key)
    return math.nan if value is None else float(value) * COSTS[key].scale


def summary(benchmark: Benchmark, split: str) -> Table:
    """Accuracy in one split, and beside it the costs."""
    cases = benchmark.cases[benchmark.cases["split"] == split]
    return beside(accuracy(cases, benchmark.models), costs(benchmark.models))


def beside(left: Table, right: Table) -> Table:
    """Two tables of the same models as one."""
    rows = zip(left.rows, right.rows, strict=True)
    return Table(
        left.columns + right.columns,
        tuple(Row(one.model, one.number, one.cells + other.cells) for one, other in rows),
        left.notes + right.notes,
    )


def folds_of(benchmark: Benchmark, split: str) -> str:
    """Which folds the rows of a split come from, in words."""
    rows = benchmark.cases[benchmark.cases["split"] == split]
    folds = {
        model.name: tuple(sorted({str(fold) for fold in rows.loc[rows["model"] == model.name, "fold"]}))
        for model in benchmark.models
    }
    different = {listed for listed in folds.values() if listed}
    verb = "Predicted by" if split == "test" else "Validation of"
    if len(different) == 1:
        return f"{verb} {_fold_words(different.pop())}."
    return f"{verb} different folds: " + "; ".join(f"{name} {_fold_words(each)}" for name, each in folds.items()) + "."


def _fold_words(folds: Sequence[str]) -> str:
    if not folds:
        return "none"
    together = [fold.replace("+", ", ") + (" together" if "+" in fold else "") for fold in folds]
    many = len(together) > 1 or "+" in folds[0]
    return f"{'folds' if many else 'fold'} {_listed(together)}"


def _rows(names: Sequence[str], columns: Sequence[Sequence[Cell]]) -> tuple[Row, ...]:
    return tuple(Row(name, 1 + index, tuple(column[index] for column in columns)) for index, name in enumerate(names))


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else "".join(words)
