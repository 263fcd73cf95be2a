import math

import pandas as pd
import pytest

from nnunetv2_unet3plus.benchmarking.results import MEASURES
from nnunetv2_unet3plus.benchmarking.statistics.gaps import gaps
from tests.benchmarking.statistics.tables import NAN, table


def complete(**kwargs):
    """A table with a value everywhere but for false positives in scans without the class, which is in every scan."""
    cases = table(**kwargs)
    filled = cases.fillna({measure: 0.5 for measure in MEASURES if measure != "false_positive_scan"})
    return filled.assign(false_positive_scan=NAN)


def lines(cases, *models):
    found = gaps(cases, models)
    assert all("\n" not in line and line.endswith(".") for line in found)
    return found


def test_nothing_is_missing():
    """Not even where every scan holds the class, so that its false positives in scans without have no value."""
    assert gaps(complete(A=[0.5] * 4, B=[0.6] * 4), ["A", "B"]) == []


def test_model_without_rows():
    assert lines(complete(A=[0.5] * 4), "A", "B") == ["B has no results here: it is in no comparison."]
    assert lines(complete(A=[0.5] * 4), "B") == ["B has no results here: it is in no comparison."]
    assert lines(complete(A=[]), "B") == ["B has no results here: it is in no comparison."]


def test_cases_that_lack():
    cases = complete(A=[0.5] * 6, B=[0.5, None, None, None, None, 0.5], C=[0.5] * 5 + [None])
    assert lines(cases, "A", "B", "C") == [
        "B lacks 4 of 6 cases (c01, c02, c03 and 1 more): left out where B is compared, and for all models in the mean "
        "over the classes and in the ranking.",
        "C lacks 1 of 6 cases (c05): left out where C is compared, and for all models in the mean over the classes and "
        "in the ranking.",
    ]
    assert lines(cases, "A") == []


def test_label_that_lacks_in_a_case():
    cases = pd.concat(
        [complete(label="liver", A=[0.5] * 3, B=[0.5] * 3), complete(label="tumour", A=[0.5] * 3, B=[0.5])]
    )
    assert "B lacks tumour in 2 cases (c01, c02): left out where B is compared." in lines(cases, "A", "B")


def test_label_in_no_scan():
    """Said once, and that its Dice lacks follows."""
    cases = complete(A=[0.0, NAN], B=[NAN, NAN]).assign(false_positive_scan=[3.0, 0.0, 0.0, 0.0])
    assert lines(cases, "A", "B") == [
        "liver is in none of the 2 cases: nothing but its false positives can be compared."
    ]


def test_infinite_values():
    cases = complete(measure="hd95", A=[1.0, math.inf, 2.0], B=[1.0, 2.0, -math.inf])
    assert lines(cases, "A", "B") == [
        "A has an infinite HD95 of liver in 1 case (c01): left out.",
        "B has an infinite HD95 of liver in 1 case (c02): left out.",
    ]


def test_measure_without_value():
    cases = complete(A=[0.5] * 4, B=[0.6] * 4).assign(hd95=NAN, surface_dice=NAN)
    assert gaps(cases, ["A", "B"]) == [
        "liver has no value in any case, hence no comparison, of: HD95; Surface Dice 2 mm."
    ]


def test_measure_without_value_in_one_model():
    cases = complete(A=[0.5] * 4, B=[0.6] * 4)
    cases.loc[cases["model"] == "B", "hd95"] = NAN
    assert lines(cases, "A", "B") == ["B has no value in any case, hence no comparison, of: HD95."]


def test_value_that_one_model_has_not():
    """In scans that hold the class."""
    cases = complete(A=[0.5] * 4, B=[0.6] * 4)
    cases.loc[(cases["model"] == "B") & cases["case"].isin(["c00", "c02"]), ["dice", "iou"]] = NAN
    assert lines(cases, "A", "B") == [
        "B has no value where another model has one, hence is not compared there, of liver in 2 cases (c00, c02): "
        "Dice; IoU."
    ]


def test_what_does_not_count_is_no_gap():
    """In c01, without liver, A predicts something, Dice 0, and B nothing, no Dice: neither counts."""
    cases = complete(A=[0.5] * 4, B=[0.6] * 4)
    without = cases["case"] == "c01"
    cases.loc[without, "false_positive_scan"] = [2.0, 0.0]
    cases.loc[without & (cases["model"] == "A"), ["dice", "iou"]] = 0.0
    cases.loc[without & (cases["model"] == "A"), "hd95"] = math.inf
    cases.loc[without & (cases["model"] == "B"), ["dice", "iou", "hd95", "surface_dice"]] = NAN
    assert lines(cases, "A", "B") == []


def test_repeated_rows_are_refused():
    cases = complete(A=[0.5] * 4)
    with pytest.raises(ValueError, match="several rows"):
        gaps(pd.concat([cases, cases.iloc[[2]]]), ["A"])
