import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nnunetv2_unet3plus.benchmarking.report import summary
from nnunetv2_unet3plus.benchmarking.report.tables import UNKNOWN
from nnunetv2_unet3plus.benchmarking.results import CASE_COLUMNS, MEASURES, Costs
from tests.benchmarking.report import synthetic


def rows(*values):
    """Rows of (model, case, label, dice, volume error)."""
    table = pd.DataFrame(values, columns=["model", "case", "label", "dice", "volume_error"])
    table = table.reindex(columns=list(CASE_COLUMNS))
    table["split"], table["fold"] = "test", "0"
    return table.astype(dict.fromkeys(MEASURES, float))


@pytest.fixture
def two():
    """A's cases: (0.8 + 0.6) / 2 = 0.7, and 0.9 alone, the other class being undefined. B's one case: 0.5."""
    return rows(
        ("A", "x", "liver", 0.8, -4),
        ("A", "x", "tumour", 0.6, 2),
        ("A", "y", "liver", 0.9, 3),
        ("A", "y", "tumour", math.nan, 1),
        ("B", "x", "liver", 0.4, -1),
        ("B", "x", "tumour", 0.6, math.inf),
    )


def cells(table, model):
    row = next(row for row in table.rows if row.model == model)
    return {column.title: cell for column, cell in zip(table.columns, row.cells, strict=True)}


def models(*names):
    return [synthetic.model(name, index) for index, name in enumerate(names)]


def test_means_over_cases_of_means_over_classes(two):
    np.testing.assert_allclose(summary.per_case(two, "dice"), [[0.7, 0.5], [0.9, math.nan]])
    found = summary.accuracy(two, models("A", "B"))
    a, b = cells(found, "A"), cells(found, "B")
    assert (a["n"].text, b["n"].text) == ("2", "1")
    assert (a["Dice"].text, b["Dice"].text) == ("0.8000", "0.5000")
    assert (a["Volume error"].text, b["Volume error"].text) == ("+0.50", "−1.00")  # ((-4+2)/2 + (3+1)/2) / 2; infinite
    assert a["Dice"].best
    assert not b["Dice"].best


def test_what_is_not_known_says_why(two):
    found = summary.accuracy(two, models("A", "B"))
    assert cells(found, "A")["HD95"].text == UNKNOWN
    assert any("HD95" in note for note in found.notes)


def test_a_model_without_rows(two):
    found = summary.accuracy(two, models("A", "C"))
    assert cells(found, "C")["n"].text == "0"
    assert cells(found, "C")["Dice"].text == UNKNOWN


def test_costs_in_the_units_they_are_shown_in():
    made = models("A", "B")
    found = summary.costs(made)
    a, b = cells(found, "A"), cells(found, "B")
    assert (a["Parameters"].text, a["Kept for backward"].text, b["Prediction"].text) == ("30.5", "1.90", "45.7")
    assert b["Parameters"].best
    assert a["Compute"].best
    assert (b["Peak GPU memory"].text, b["Energy"].text) == (UNKNOWN, UNKNOWN)
    assert len(found.notes) == 2


def test_every_cost_is_shown():
    assert set(summary.COSTS) == set(vars(Costs()))


def test_test_comes_first():
    assert summary.splits_of(synthetic.benchmark(1, 1).cases) == ["test", "validation"]


@pytest.mark.parametrize(
    ("folds", "split", "words"),
    [
        ([("A", "0"), ("B", "0")], "validation", "Validation of fold 0."),
        ([("A", "1"), ("A", "0"), ("B", "0"), ("B", "1")], "validation", "Validation of folds 0 and 1."),
        ([("A", "0+1"), ("B", "0+1")], "test", "Predicted by folds 0, 1 together."),
        (
            [("A", "0"), ("B", "0"), ("B", "1")],
            "validation",
            "Validation of different folds: A fold 0; B folds 0 and 1.",
        ),
    ],
)
def test_folds_in_words(folds, split, words):
    cases = pd.DataFrame(folds, columns=["model", "fold"]).reindex(columns=list(CASE_COLUMNS)).assign(split=split)
    assert summary.folds_of(replace(synthetic.small(), models=models("A", "B"), cases=cases), split) == words
