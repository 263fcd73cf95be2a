from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from benchmarks.statistics_coverage import case_table, six_models
from nnunetv2_unet3plus.benchmarking.statistics.ranking import rank
from tests.benchmarking.statistics.tables import NAN, table


def kendall(one, other):
    """Tau-b, pair by pair."""
    agreement, one_ties, other_ties = 0, 0, 0
    for i, j in combinations(range(len(one)), 2):
        a, b = np.sign(one[i] - one[j]), np.sign(other[i] - other[j])
        agreement += a * b
        one_ties += a * a
        other_ties += b * b
    return agreement / np.sqrt(one_ties * other_ties) if one_ties and other_ties else 0.0


def test_values_by_hand():
    """Models' means over the two cases that are common to all, each case's over its common labels."""
    cases = pd.concat(
        [
            table(label="liver", A=[0.8, 0.6, 0.1], B=[0.9, 0.8, 0.1], C=[0.7, 0.1, NAN]),
            table(label="tumour", A=[0.2, 0.3], B=[0.4, NAN], C=[0.6, 0.9]),
        ]
    )
    ranking = rank(cases, ["A", "B", "C"], "dice", ["liver", "tumour"])
    assert ranking.models == ["B", "A", "C"]
    assert ranking.mean == pytest.approx([(0.65 + 0.8) / 2, (0.5 + 0.6) / 2, (0.65 + 0.1) / 2])
    assert ranking.rank == [1, 2, 3]
    assert ranking.measure == "dice"


@pytest.mark.parametrize(
    ("measure", "values", "order"),
    [
        ("dice", {"A": [0.5], "B": [0.7], "C": [0.9]}, "CBA"),
        ("hd95", {"A": [5.0], "B": [7.0], "C": [9.0]}, "ABC"),
        ("volume_error", {"A": [5.0], "B": [-7.0], "C": [-1.0]}, "CAB"),
    ],
)
def test_best_is_first(measure, values, order):
    ranking = rank(table(measure, **values), ["A", "B", "C"], measure, ["liver"])
    assert ranking.models == list(order)
    np.testing.assert_array_equal(ranking.share, np.eye(3))
    assert (ranking.low, ranking.high, ranking.kendall_tau) == ([1, 2, 3], [1, 2, 3], 1)


@pytest.mark.parametrize("measure", ["dice", "hd95"])
def test_stability_is_that_of_all_resamples(measure):
    """Five cases, all 5^5 resamples, one after the other."""
    values = np.random.default_rng(4).integers(1, 9, (5, 4)) / 10
    models = list("ABCD")
    sign = 1 if measure == "hd95" else -1
    full = rankdata((sign * values.mean(axis=0)).round(9))
    ranks = np.array([rankdata((sign * values[list(d)].mean(axis=0)).round(9)) for d in product(range(5), repeat=5)])
    share = np.zeros((4, 4))
    for model in range(4):
        for sample in ranks:
            ties = (sample == sample[model]).sum()
            first = round(sample[model] - (ties - 1) / 2)
            share[model, first - 1 : first - 1 + ties] += 1 / ties / len(ranks)

    ranking = rank(table(measure, **dict(zip(models, values.T, strict=True))), models, measure, ["liver"])
    order = [models.index(model) for model in ranking.models]
    assert ranking.rank == full[order].tolist()
    np.testing.assert_allclose(ranking.share, share[order], atol=4 * 0.5 / np.sqrt(4999))
    np.testing.assert_allclose(ranking.share.sum(axis=1), 1)
    np.testing.assert_allclose(ranking.share.sum(axis=0), 1)
    assert ranking.kendall_tau == pytest.approx(np.median([kendall(full, sample) for sample in ranks]))
    for ends, level in ((ranking.low, 0.025), (ranking.high, 0.975)):
        narrow, wide = np.quantile(ranks[:, order], [level - 0.01, level + 0.01], axis=0, method="inverted_cdf")
        assert (narrow <= ends).all()
        assert (ends <= wide).all()


def test_equal_models_share_their_rank():
    values = np.random.default_rng(0).random(9)
    ranking = rank(table(A=values / 2, B=values, C=values), ["A", "B", "C"], "dice", ["liver"])
    assert ranking.models == ["B", "C", "A"]
    assert ranking.rank == [1.5, 1.5, 3]
    np.testing.assert_allclose(ranking.share, [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    assert (ranking.low, ranking.high, ranking.kendall_tau) == ([1.5, 1.5, 3], [1.5, 1.5, 3], 1)


def test_ties_do_not_hang_on_the_last_bit():
    ranking = rank(table(A=[0.1 + 0.2] * 7, B=[0.3] * 7), ["A", "B"], "dice", ["liver"])
    assert ranking.rank == [1.5, 1.5]
    np.testing.assert_allclose(ranking.share, 0.5)


def test_nothing_but_equal_models_and_one_model_alone():
    for ranking in (
        rank(table(**dict.fromkeys("AB", [0.5] * 3)), ["A", "B"], "dice", ["liver"]),
        rank(table(A=[0.5, 0.6, 0.7]), ["A"], "dice", ["liver"]),
    ):
        assert ranking.kendall_tau == 1
        np.testing.assert_allclose(ranking.share, 1 / len(ranking.models))


def test_same_input_same_ranking():
    cases = case_table(six_models(np.random.default_rng(1), 40))
    one = rank(cases, list("012345"), "dice", ["organ"])
    other = rank(cases.sample(frac=1, random_state=0), list("012345"), "dice", ["organ"])
    np.testing.assert_array_equal(one.share, other.share)
    assert (one.models, one.low, one.high, one.kendall_tau) == (other.models, other.low, other.high, other.kendall_tau)


def test_models_without_values_have_no_rank():
    ranking = rank(table(A=[0.5] * 3, B=[0.6] * 3, C=[NAN] * 3), ["A", "B", "C", "D"], "dice", ["liver"])
    assert ranking.models == ["B", "A"]


def test_no_common_case_no_ranking():
    ranking = rank(table(A=[0.5, NAN], B=[NAN, 0.6]), ["A", "B"], "dice", ["liver"])
    assert ranking.models == []
    assert ranking.share.shape == (0, 0)
    assert np.isnan(ranking.kendall_tau)


def test_repeated_rows_are_refused():
    with pytest.raises(ValueError, match="several rows"):
        rank(pd.concat([table(A=[0.5]), table(A=[0.5])]), ["A"], "dice", ["liver"])
