from itertools import product

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.statistics_coverage import DIFFERENCES, true_mean
from nnunetv2_unet3plus.benchmarking.statistics.resampling import RESAMPLES, mean_interval, resampled_means


@pytest.mark.parametrize("n", [1, 7, 131])
def test_every_resample_draws_as_many_cases_as_there_are(n):
    values = np.stack([np.ones(n), np.arange(n)], axis=1)
    ones, places = resampled_means(values).T
    assert len(ones) == RESAMPLES
    np.testing.assert_allclose(ones, 1)
    error = np.arange(n).std() / np.sqrt(n)
    assert abs(places.mean() - (n - 1) / 2) <= 4 * error / np.sqrt(RESAMPLES)
    assert places.std() == pytest.approx(error, rel=0.05)


@pytest.mark.parametrize(
    "values", [[0.1, -0.2, 0.4, 0.05, 0.3, 0.0], [1.0, 2.0, 4.0, 8.0, 16.0, 32.0], [-3.0, 1.0, 1.5, 2.0, 2.5, 3.0]]
)
def test_interval_is_that_of_all_resamples(values):
    """All 6^6 resamples, one after the other."""
    values = np.array(values)
    t = []
    for drawn in product(range(6), repeat=6):
        resample = values[list(drawn)]
        error = resample.std(ddof=1) / np.sqrt(6)
        t.append(abs(resample.mean() - values.mean()) / error if error > 1e-9 else np.inf)
    low, high = mean_interval(values)
    assert (low + high) / 2 == pytest.approx(values.mean())
    half = (high - low) / 2 / (values.std(ddof=1) / np.sqrt(6))
    narrow, wide = np.quantile(t, [0.94, 0.96], method="inverted_cdf")
    assert narrow <= half <= wide


def test_interval_moves_with_the_values():
    values = np.random.default_rng(0).exponential(size=20)
    low, high = mean_interval(values)
    assert mean_interval(values) == (low, high)
    np.testing.assert_allclose(mean_interval(-values), (-high, -low))
    np.testing.assert_allclose(mean_interval(3 + 1e-6 * values), (3 + 1e-6 * low, 3 + 1e-6 * high))


def test_equal_values_have_a_point_and_one_deviant_no_end():
    assert mean_interval(np.full(10, 0.1)) == (0.1, 0.1)
    assert mean_interval(np.array([0.0] * 9 + [1.0])) == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("name", "n", "promised"),
    [
        ("normal", 6, 0.95),
        ("normal", 50, 0.95),
        ("skewed", 10, 0.93),
        ("skewed", 50, 0.94),
        ("very_skewed", 10, 0.88),
        ("very_skewed", 50, 0.92),
        ("zero_inflated", 20, 0.95),
        ("zeros_and_gains", 10, 0.95),
        ("heavy_tailed", 10, 0.95),
        ("failures", 20, 0.95),
        ("failures", 131, 0.95),
    ],
)
def test_intervals_hold_the_truth(name, n, promised):
    """Fewer are held once in a thousand by chance. The percentile and BCa intervals do not pass."""
    draw, simulations = DIFFERENCES[name], 1000
    mean = true_mean(draw)
    intervals = [mean_interval(sample) for sample in draw(np.random.default_rng(7), (simulations, n))]
    held = sum(low <= mean <= high for low, high in intervals)
    assert held >= binom.ppf(0.001, simulations, promised)


@pytest.mark.parametrize("n", [50, 131])
def test_intervals_are_no_wider_than_promised(n):
    intervals = [mean_interval(sample) for sample in np.random.default_rng(8).normal(size=(1000, n))]
    assert sum(low <= 0 <= high for low, high in intervals) <= binom.ppf(0.999, 1000, 0.95)
