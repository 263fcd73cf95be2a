import math
from dataclasses import replace

import numpy as np
import pytest

from nnunetv2_unet3plus.benchmarking.report.comparisons import COMPARED, Pair, answer, statistics
from nnunetv2_unet3plus.benchmarking.statistics.paired import MEAN, Comparison
from tests.benchmarking.report import synthetic

SURE = Comparison("dice", MEAN, "new", "old", 20, 0.02, 0.01, 0.03, 0.001, 0.002, 18, 0, 2, 0.9)
REVERSED = {"difference": -0.02, "low": -0.03, "high": -0.01, "rank_biserial": -0.9}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "better"),
        (REVERSED, "worse"),
        ({"measure": "hd95"}, "worse"),
        ({"measure": "hd95", **REVERSED}, "better"),
        ({"low": -0.01, "p_holm": 0.3}, "no evidence"),
        ({"low": -0.01}, "unclear"),
        ({"p_holm": 0.3}, "unclear"),
        ({"rank_biserial": -0.1}, "unclear"),
        ({"low": math.nan, "high": math.nan}, "too few cases"),
        ({"p": math.nan, "p_holm": math.nan, "low": math.nan, "high": math.nan}, "too few cases"),
        ({"difference": 0, "low": 0, "high": 0, "p": 1, "p_holm": 1, "ties": 20, "rank_biserial": math.nan},
         "no evidence"),
    ],
)  # fmt: skip
def test_the_verdict_is_the_sentences(changes, verdict):
    comparison = replace(SURE, **changes)
    assert Pair(comparison).verdict == comparison.verdict == verdict
    found = comparison.sentence
    words = {"no evidence": "No evidence", "unclear": "Unclear", "too few cases": "Too few"}
    assert found.startswith(words.get(verdict, "new has" if verdict == "better" else "old has"))


def test_texts():
    assert Pair(SURE).texts == ("+0.0200", "+0.0100 to +0.0300", "18 / 0 / 2", "0.002", "20")
    few = replace(SURE, p=math.nan, p_holm=math.nan, low=math.nan, high=math.nan)
    assert Pair(few).texts[1:4] == ("–", "18 / 0 / 2", "–")


def pair(name, verdict, cases=20):
    """A pair with that verdict, a difference of 0.02 in any case."""
    changes = {
        "better": {},
        "worse": {"measure": "hd95"},
        "no evidence": {"low": -0.01, "p_holm": 0.3},
        "unclear": {"low": -0.01},
        "too few cases": {"p": math.nan, "p_holm": math.nan, "low": math.nan, "high": math.nan},
    }
    found = Pair(replace(SURE, first=name, cases=cases, **changes[verdict]))
    assert found.verdict == verdict
    return found


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ([pair("A", "better")], "On 20 test cases, A (+0.0200) reaches a higher Dice than old."),
        (
            [pair("A", "better"), pair("B", "no evidence"), pair("C", "better"), pair("D", "worse", 19)],
            "On 19 to 20 test cases, A (+0.0200) and C (+0.0200) reach a higher Dice than old; D (+0.02) reaches a "
            "lower Dice than it; there is no evidence of a difference from it for B (+0.0200).",
        ),
        ([pair("A", "too few cases", 1)], "On 1 test case, there are too few cases to tell A (+0.0200) from old."),
        ([pair("A", "unclear")], "On 20 test cases, it stays unclear whether A (+0.0200) differs from old."),
    ],
)
def test_answer(pairs, sentence):
    assert answer(pairs, "test") == sentence


@pytest.fixture(scope="module")
def three():
    names = ["first", "second", "third"]
    cases = synthetic.case_table(names, 20, splits=("test",))
    return {measure: statistics(cases, names, measure, ("liver", "tumour")) for measure in COMPARED}, cases


def test_every_pair_once_the_first_models_first(three):
    found = three[0]["dice"]
    assert [each.name for each in found.against_first] == ["second less first", "third less first"]
    assert [each.name for each in found.others] == ["third less second"]
    labels = [(each.comparison.label, each.name) for each in found.by_class]
    assert labels == [
        ("liver", "second less first"),
        ("tumour", "second less first"),
        ("liver", "third less first"),
        ("tumour", "third less first"),
    ]
    assert [each.comparison.label for each in found.of_classes(["tumour"]).by_class] == ["tumour", "tumour"]


def test_a_difference_above_zero_speaks_for_the_later_model(three):
    found, cases = three
    means = cases.groupby("model")["dice"].mean()  # no class lacks in any case, so this is the mean of means
    np.testing.assert_allclose(
        found["dice"].against_first[1].comparison.difference, means["third"] - means["first"], atol=1e-9
    )
    assert found["dice"].against_first[1].verdict == "better"


def test_figures(three):
    numbers = {"first": 1, "second": 2, "third": 3}
    for each in three[0].values():
        assert "second less first" in each.forest("key")
        assert "Ranks of the models" in each.stability(numbers, "key")
        assert "Median Kendall's tau" in each.agreement


def test_one_model_has_nothing_to_be_compared_with():
    found = statistics(synthetic.case_table(["a"], 9), ["a"], "dice", ("liver",))
    assert found.problem
    assert not found.against_first
    assert found.stability({"a": 1}, "key") is None


def test_one_class_is_not_compared_twice():
    cases = synthetic.case_table(["a", "b"], 9, ("liver",), ("test",))
    assert statistics(cases, ["a", "b"], "dice", ("liver",)).by_class == ()
