import math
from dataclasses import astuple
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, rankdata
from statsmodels.stats.multitest import multipletests

from benchmarks.statistics_coverage import case_table, claims, comparisons, six_models
from nnunetv2_unet3plus.benchmarking.statistics.paired import MEAN, _holm, compare
from tests.benchmarking.statistics.tables import NAN, table

GAINS = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, -0.07, 0.0]


def only(measure="dice", label="liver", **models):
    (comparison,) = (c for c in compare(table(measure, **models), list(models), measure, ["liver"]) if c.label == label)
    return comparison


def by_enumeration(differences):
    """Two-sided p of the signed ranks: of all ways to put the signs, those at least as one-sided as what was seen."""
    differing = np.array([difference for difference in differences if difference])
    ranks = rankdata(np.abs(differing).round(9))
    seen = abs((np.sign(differing) * ranks).sum())
    signs = np.array(list(product([-1, 1], repeat=len(differing))))
    return np.mean(np.abs(signs @ ranks) >= seen - 1e-9)


def by_counting(differing):
    """The same without ties, by the number of subsets of the ranks that have each sum."""
    n = len(differing)
    ways = np.zeros(n * (n + 1) // 2 + 1)
    ways[0] = 1
    for rank in range(1, n + 1):
        ways[rank:] = ways[rank:] + ways[:-rank]
    positive = rankdata(np.abs(differing))[differing > 0].sum()
    smaller = int(min(positive, n * (n + 1) / 2 - positive))
    return min(1, 2 * ways[: smaller + 1].sum() / ways.sum())


def test_values_by_hand():
    """|difference| 1 to 7 hundredths are the ranks; of 28 the negative one has 7."""
    found = only(A=[0.5 + gain for gain in GAINS], B=[0.5] * 8)
    assert (found.measure, found.label, found.first, found.second) == ("dice", "liver", "A", "B")
    assert found.cases == 8
    assert found.difference == pytest.approx(0.14 / 8)
    assert (found.wins, found.ties, found.losses) == (6, 1, 1)
    assert found.rank_biserial == pytest.approx((21 - 7) / 28)
    # 19 subsets of 1..7 have a sum of at most 7
    assert found.p == pytest.approx(2 * 19 / 128)
    assert found.p_holm == found.p
    assert found.low < 0.14 / 8 < found.high


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [6, 9, 12])
def test_p_is_exact_with_ties_and_zeros(n, seed):
    differences = np.random.default_rng(seed).integers(-3, 6, n) / 100
    found = only(A=0.5 + differences, B=np.full(n, 0.5))
    assert found.p == pytest.approx(by_enumeration(differences.tolist()) if differences.any() else 1)


@pytest.mark.parametrize("n", [14, 30, 50])
def test_p_is_exact_without_ties_whatever_the_number_of_zeros(n):
    differences = np.random.default_rng(n).normal(0.01, 0.03, n)
    found = only(
        A=np.concatenate([0.5 + differences, np.full(80, 0.3)]), B=np.concatenate([np.full(n, 0.5), [0.3] * 80])
    )
    assert found.p == pytest.approx(by_counting(differences))
    assert found.ties == 80


@pytest.mark.parametrize("n", [14, 40])
def test_p_with_many_ties_is_close_to_that_of_random_signs(n):
    differences = np.random.default_rng(n).choice([-0.02, -0.01, 0.01, 0.02, 0.03], n)
    ranks = rankdata(np.abs(differences))
    seen = abs((np.sign(differences) * ranks).sum())
    share = np.mean(np.abs(np.random.default_rng(0).choice([-1, 1], (50000, n)) @ ranks) >= seen)
    p = only(A=0.5 + differences, B=np.full(n, 0.5)).p
    assert p == pytest.approx(share, abs=4 * math.sqrt(p * (1 - p) / 50000))


def test_p_of_many_cases_is_close_to_exact():
    differences = np.random.default_rng(0).normal(0.005, 0.03, 131)
    assert only(A=0.5 + differences, B=np.full(131, 0.5)).p == pytest.approx(by_counting(differences), rel=0.02)


def test_few_that_differ_among_many_are_no_finding():
    """Five of twenty: the least p is 2 / 2^5, which the normal approximation of Pratt's ranks takes for 0.03."""
    assert only(A=[0.5 + gain for gain in [0] * 15 + GAINS[:5]], B=[0.5] * 20).p == pytest.approx(0.0625)


def test_all_ties():
    found = only(A=GAINS, B=GAINS)
    assert (found.difference, found.low, found.high, found.p, found.p_holm) == (0, 0, 0, 1, 1)
    assert (found.wins, found.ties, found.losses) == (0, 8, 0)


def test_ties_do_not_hang_on_the_last_bit():
    found = only(A=[0.3, 0.8] + [0.5] * 6, B=[0.1 + 0.2, 0.7 + 0.1] + [0.5] * 6)
    assert found.ties == 8


@pytest.mark.parametrize("n", range(6))
def test_too_few_cases_are_not_tested(n):
    found = only(A=[0.6] * n + [NAN], B=[0.5] * n + [0.5])
    assert found.cases == n
    assert all(map(math.isnan, (found.low, found.high, found.p, found.p_holm)))
    assert math.isnan(found.difference) == (n == 0)


@pytest.mark.parametrize(
    ("measure", "first", "second", "difference", "wins", "losses"),
    [
        ("dice", [0.9] * 5 + [0.1] * 2, [0.5] * 7, (5 * 0.4 - 2 * 0.4) / 7, 5, 2),
        ("hd95", [9.0] * 5 + [1.0] * 2, [5.0] * 7, (5 * 4 - 2 * 4) / 7, 2, 5),
        ("volume_error", [-9.0] * 5 + [1.0] * 2, [5.0, -5.0, 5.0, -5.0, 5.0, -5.0, 5.0], (5 * 4 - 2 * 4) / 7, 2, 5),
    ],
)
def test_wins_are_as_the_measure_says(measure, first, second, difference, wins, losses):
    found = only(measure, A=first, B=second)
    assert found.difference == pytest.approx(difference)
    assert (found.wins, found.ties, found.losses) == (wins, 0, losses)


@pytest.mark.parametrize("count", [1, 2, 15, 66])
def test_holm_is_that_of_statsmodels(count):
    p = np.random.default_rng(count).uniform(0, 0.2, count).round(2)  # with ties
    np.testing.assert_allclose(_holm(p), multipletests(p, method="holm")[1], atol=1e-15)


def test_holm_by_hand():
    """Of three pairs the smallest p counts three times, the next twice, the largest once; they never fall."""
    noise = np.random.default_rng(3).normal(0, 0.05, (4, 12))
    cases = table(A=0.5 + noise[0], B=0.52 + noise[1], C=0.55 + noise[2])
    for label in (MEAN, "liver"):
        family = [c for c in compare(cases, ["A", "B", "C"], "dice", ["liver"]) if c.label == label]
        assert [(c.first, c.second) for c in family] == [("A", "B"), ("A", "C"), ("B", "C")]
        smallest, middle, largest = sorted(family, key=lambda c: c.p)
        assert smallest.p_holm == pytest.approx(3 * smallest.p)
        assert middle.p_holm == pytest.approx(max(3 * smallest.p, 2 * middle.p))
        assert largest.p_holm == pytest.approx(max(3 * smallest.p, 2 * middle.p, largest.p))
        assert len({c.p for c in family}) == 3


def test_untested_pairs_are_not_in_the_family():
    few = [0.5] * 3 + [None] * 9
    cases = table(A=np.linspace(0.5, 0.7, 12), B=np.linspace(0.4, 0.5, 12), C=few)
    pairs = {(c.first, c.second): c for c in compare(cases, list("ABC"), "dice", ["liver"]) if c.label == "liver"}
    assert pairs["A", "B"].p_holm == pairs["A", "B"].p
    assert math.isnan(pairs["A", "C"].p_holm)
    assert pairs["A", "C"].cases == 3


def test_a_comparison_hangs_on_nothing_but_its_cases():
    dice = six_models(np.random.default_rng(1), 40)
    cases = case_table(dice)
    alone = compare(cases, ["0", "1"], "dice", ["organ"])
    shuffled = compare(cases.sample(frac=1, random_state=0), ["0", "1"], "dice", ["organ"])
    among_others = [c for c in compare(cases, list("012345"), "dice", ["organ"]) if c.first + c.second == "01"]
    assert alone == shuffled == compare(cases, ["0", "1"], "dice", ["organ"])
    for one, other in zip(alone, among_others, strict=True):
        assert one.p_holm <= other.p_holm
        np.testing.assert_equal(astuple(one)[2:9], astuple(other)[2:9])


def test_the_other_way_round():
    cases = case_table(six_models(np.random.default_rng(1), 40))
    one, other = compare(cases, ["0", "1"], "dice", ["organ"])[0], compare(cases, ["1", "0"], "dice", ["organ"])[0]
    assert other.difference == -one.difference
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low))
    assert (other.p, other.wins, other.losses) == (one.p, one.losses, one.wins)
    assert other.rank_biserial == -one.rank_biserial


def test_missing_and_infinite_values_leave_their_case_out():
    first = [0.5 + gain for gain in GAINS]
    assert only(A=[NAN, *first, 0.9, 0.1], B=[0.1, *[0.5] * 8, math.inf, None]).cases == 8


def test_every_label_has_its_pairs():
    cases = pd.concat([table(label=label, A=GAINS, B=GAINS, C=GAINS) for label in ("liver", "tumour")])
    found = compare(cases, list("ABC"), "dice", ["liver", "tumour"])
    assert [c.label for c in found] == [MEAN] * 3 + ["liver"] * 3 + ["tumour"] * 3


@pytest.mark.parametrize("models", [[], ["A"]])
def test_there_is_nothing_to_compare_with_one_model(models):
    assert compare(table(A=GAINS), models, "dice", ["liver"]) == []


def test_repeated_rows_are_refused():
    cases = table(A=GAINS, B=GAINS)
    with pytest.raises(ValueError, match="A has several rows of liver in case c03"):
        compare(pd.concat([cases, cases.iloc[[3]]]), ["A", "B"], "dice", ["liver"])


def test_interval_of_a_ratio_is_one_of_ratios():
    found = only(A=[1.0, 0.999, 1.0, 1.0, 1.0, 1.0], B=[0.0, 0.999, 0.999, 0.998, 0.999, 0.999])
    assert -1 <= found.low <= found.difference <= found.high <= 1


def test_equal_models_are_seldom_said_to_differ():
    """Six equal models on the same scans: at most 5 % of the benchmarks claim anything; without Holm a third would."""
    generator, simulations = np.random.default_rng(20), 120
    families = [comparisons(six_models(generator, 20)) for _ in range(simulations)]
    allowed = binom.ppf(0.999, simulations, 0.05)
    assert sum(any(c.p_holm < 0.05 for c in family) for family in families) <= allowed
    assert sum(any(map(claims, family)) for family in families) <= allowed
    assert sum(any(c.p < 0.05 for c in family) for family in families) > allowed


def test_a_true_shift_is_found():
    """0.04 Dice over 60 scans, scan to scan noise 0.03 in each model, none missed."""
    generator = np.random.default_rng(5)
    found = 0
    for _ in range(20):
        dice = 0.6 + generator.normal(0, 0.1, (60, 1)) + generator.normal(0, 0.03, (60, 6))
        dice[:, 0] += 0.04
        better = [c for c in comparisons(dice) if c.first == "0"]
        assert len(better) == 5
        found += sum(c.sentence.startswith(f"0 has a higher Dice than {c.second}, by 0.0") for c in better)
    assert found >= binom.ppf(0.001, 100, 0.99)
