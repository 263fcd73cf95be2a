"""Scans without a class: 40 scans, tumour in the first 20; the models differ in what they predict in the others."""

from dataclasses import astuple, replace

import numpy as np
import pandas as pd
import pytest

from nnunetv2_unet3plus.benchmarking.counted import OF_THE_CLASS, counted
from nnunetv2_unet3plus.benchmarking.report import summary
from nnunetv2_unet3plus.benchmarking.report.page import render
from nnunetv2_unet3plus.benchmarking.report.pictures import choose
from nnunetv2_unet3plus.benchmarking.results import MEASURES, Labels
from nnunetv2_unet3plus.benchmarking.statistics.paired import MEAN, compare
from nnunetv2_unet3plus.benchmarking.statistics.ranking import rank
from tests.benchmarking.report import synthetic
from tests.benchmarking.statistics.tables import NAN, table

HELD, EMPTY = 20, 20
SILENT, FALSE_POSITIVES = NAN, 0.0  # a model's Dice in a scan without tumour
SOME_OF_EACH = [SILENT, FALSE_POSITIVES] * (EMPTY // 2)
WOBBLE = 0.005 * (-1.0) ** np.arange(HELD)  # of mean zero


def tumour(measure="dice", **models):
    """Model -> its mean where there is tumour, and its Dice in the scans without."""
    values = {
        name: [*(mean + 0.1 * np.linspace(-1, 1, HELD) + number * WOBBLE), *np.broadcast_to(empty, EMPTY)]
        for number, (name, (mean, empty)) in enumerate(models.items())
    }
    cases = table(measure, label="tumour", **values)
    without = cases["case"] >= f"c{HELD}"
    volume = np.where(cases[measure] == FALSE_POSITIVES, 3.0, 0.0)
    return cases.assign(false_positive_scan=np.where(without, volume, NAN))


def with_liver(cases, measure="dice"):
    """The same models' liver, in all scans."""
    models = {name: 0.9 + number * np.resize(WOBBLE, 40) for number, name in enumerate(cases["model"].unique())}
    return pd.concat([table(measure, label="liver", **models), cases], ignore_index=True)


def verdict(cases, measure="dice", label=MEAN, labels=("tumour",)):
    (found,) = (c for c in compare(cases, ["A", "B"], measure, labels) if c.label == label)
    return found


def test_by_hand():
    cases = pd.concat([table(measure, A=[0.5, 0.0, NAN]) for measure in MEASURES], ignore_index=True)
    cases["false_positive_scan"] = [NAN, 3.0, 0.0] * len(MEASURES)
    before = cases.copy()
    found = counted(cases)
    pd.testing.assert_frame_equal(cases, before)
    for measure in MEASURES:
        expected = before[measure].tolist()
        if measure in OF_THE_CLASS:
            expected = [0.5 if value == 0.5 else NAN for value in expected]
        np.testing.assert_equal(found[measure].tolist(), expected)
    assert set(OF_THE_CLASS) == {"dice", "iou", "hd95", "surface_dice"}


@pytest.mark.parametrize(("gain", "expected"), [(0.01, "worse"), (0.0, "no evidence"), (-0.01, "better")])
def test_table_and_sentence_say_the_same(gain, expected):
    """A is silent in the empty scans, B is not: nnU-Net's means are 0.69 and about 0.35, whoever finds tumours better.

    Whether A wins or loses by Dice is decided where there is tumour; in the other scans A is better, and is said to be.
    """
    cases = tumour(A=(0.69, SILENT), B=(0.69 + gain, FALSE_POSITIVES))
    plain = cases.groupby("model")["dice"].mean()
    np.testing.assert_allclose(plain, [0.69, (0.69 + gain) / 2])

    found = verdict(cases)
    assert (found.cases, found.verdict) == (HELD, expected)
    np.testing.assert_allclose(found.difference, -gain, atol=1e-9)
    if gain:
        better, worse = ("A", "B") if expected == "better" else ("B", "A")
        assert found.sentence.startswith(f"{better} has a higher Dice than {worse}, by 0.01")

    shown = summary.accuracy(cases, [synthetic.model("A", 0), synthetic.model("B", 1)])
    dice = [row.cells[1 + list(MEASURES).index("dice")] for row in shown.rows]
    assert [cell.text for cell in dice] == ["0.6900", f"{0.69 + gain:.4f}"]
    assert [cell.best for cell in dice] == [expected == "better", expected == "worse"]
    assert shown.notes[-1] == (
        "Dice, IoU, HD95 and Surface Dice 2 mm are of 20 of the 40 cases: the others' references are empty."
    )

    false_positives = verdict(cases, "false_positive_scan")
    assert (false_positives.cases, false_positives.verdict) == (EMPTY, "better")
    assert false_positives.sentence.startswith("A has a lower false-positive volume in scans without the class than B")


@pytest.mark.parametrize("measure", OF_THE_CLASS)
@pytest.mark.parametrize("empty", [FALSE_POSITIVES, SOME_OF_EACH, SILENT], ids=["all", "some", "none"])
def test_predictions_in_empty_scans_change_no_comparison(measure, empty):
    labels = ("liver", "tumour")
    one = with_liver(tumour(measure, A=(0.6, SILENT), B=(0.7, empty)), measure)
    another = with_liver(tumour(measure, A=(0.6, empty), B=(0.7, FALSE_POSITIVES)), measure)
    found, other = (compare(cases, ["A", "B"], measure, labels) for cases in (one, another))
    np.testing.assert_equal([astuple(c) for c in found], [astuple(c) for c in other])


@pytest.mark.parametrize("empty", [FALSE_POSITIVES, SOME_OF_EACH, SILENT], ids=["all", "some", "none"])
def test_a_third_model_does_not_change_the_comparison_of_two(empty):
    labels = ("liver", "tumour")
    cases = with_liver(tumour(A=(0.6, SOME_OF_EACH), B=(0.61, FALSE_POSITIVES), C=(0.5, empty)))
    two = {c.label: c for c in compare(cases, list("AB"), "dice", labels)}
    three = {c.label: c for c in compare(cases, list("ABC"), "dice", labels) if c.first + c.second == "AB"}
    assert list(two) == list(three) == [MEAN, *labels]
    for label, alone in two.items():
        assert alone.cases == (HELD if label == "tumour" else 40)
        without_holm = [(c.cases, c.difference, c.low, c.high, c.p, c.wins, c.ties) for c in (alone, three[label])]
        assert without_holm[0] == without_holm[1]
    ranked = rank(cases, list("ABC"), "dice", labels)
    assert dict(zip(ranked.models, ranked.mean, strict=True)) == pytest.approx(
        {name: (HELD * (0.9 + mean) / 2 + EMPTY * 0.9) / 40 for name, mean in {"A": 0.6, "B": 0.61, "C": 0.5}.items()}
    )


def test_the_ranking_shows_the_means_of_the_table():
    cases = with_liver(tumour(A=(0.6, SILENT), B=(0.61, FALSE_POSITIVES), C=(0.5, SOME_OF_EACH)))
    ranked = rank(cases, list("ABC"), "dice", ("liver", "tumour"))
    means = summary.per_case(cases, "dice").mean()
    np.testing.assert_allclose(ranked.mean, means[ranked.models])


@pytest.mark.parametrize("measure", OF_THE_CLASS)
def test_tables_and_box_plots_have_no_value_of_an_empty_scan(measure):
    values = summary.per_case(tumour(measure, A=(0.6, SILENT), B=(0.7, FALSE_POSITIVES)), measure)
    assert values.notna().to_numpy().tolist() == [[True, True]] * HELD + [[False, False]] * EMPTY


def test_no_empty_scan_is_the_worst():
    chosen = choose(tumour(A=(0.6, FALSE_POSITIVES), B=(0.7, FALSE_POSITIVES)))
    assert chosen == {"Best": "c19", "Median": "c09", "Worst": "c00"}


def test_one_model_alone_is_said_to_reach_its_dice_on_the_scans_that_count():
    cases = tumour(A=(0.69, FALSE_POSITIVES)).assign(split="test")
    made = synthetic.small(models=[synthetic.model("A", 0, epochs=0)], labels=Labels({"tumour": (1,)}))
    page = render(replace(made, cases=cases), {"A": "A"})
    assert "A reaches a mean Dice of 0.6900 on 20 test cases." in page
