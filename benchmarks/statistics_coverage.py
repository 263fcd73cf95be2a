"""What the statistics of a benchmark are worth where the truth is known.

    python -m benchmarks.statistics_coverage      # from the repository's root; a quarter of an hour on one core

Prints how often in 100 an interval holds the true mean of paired differences, for the usual methods and for ours (the
table in `nnunetv2_unet3plus.benchmarking.statistics.resampling`); how often of 100 benchmarks of six equal models at
least one pair is said to differ; how often a true shift is found; and how often a pair is said to differ whose means
are equal, but not its distributions.
"""

import gc
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from scipy import stats

from nnunetv2_unet3plus.benchmarking.results import MEASURES
from nnunetv2_unet3plus.benchmarking.statistics.paired import MEAN, Comparison, compare
from nnunetv2_unet3plus.benchmarking.statistics.resampling import mean_interval

SIZES = (6, 10, 20, 50, 131)
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def normal(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Differences of models that are alike but for noise."""
    return generator.normal(0.01, 0.03, shape)


def skewed(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Exponential: skewness 2."""
    return generator.exponential(0.03, shape) - 0.02


def very_skewed(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Log-normal: skewness 6."""
    return 0.03 * generator.lognormal(0, 1, shape) - 0.02


def zero_inflated(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """60 % ties."""
    return np.where(generator.random(shape) < 0.6, 0, generator.normal(0.02, 0.05, shape))


def zeros_and_gains(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """60 % ties, the rest gains of log-normal size."""
    return np.where(generator.random(shape) < 0.6, 0, 0.03 * generator.lognormal(0, 1, shape))


def heavy_tailed(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Student's t with three degrees of freedom."""
    return 0.01 + 0.03 * generator.standard_t(3, shape)


def failures(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Dice of two models on scans that are hard for both; one misses the organ in 5 % of the scans, the other in 12."""
    ease = generator.beta(8, 3, shape)
    first = np.clip(ease + generator.normal(0.01, 0.05, shape), 0, 1)
    second = np.clip(ease + generator.normal(0, 0.05, shape), 0, 1)
    first[generator.random(shape) < 0.05] = 0
    second[generator.random(shape) < 0.12] = 0
    return first - second


DIFFERENCES: dict[str, Draw] = {
    draw.__name__: draw
    for draw in (normal, skewed, very_skewed, zero_inflated, zeros_and_gains, heavy_tailed, failures)
}


def true_mean(draw: Draw) -> float:
    """Mean of ten million differences."""
    generator = np.random.default_rng(1)
    return float(np.mean([draw(generator, (1000, 1000)).mean() for _ in range(10)]))


def ours(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of `mean_interval` of each row."""
    low, high = np.array([mean_interval(sample) for sample in samples]).T
    return low, high


def student(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of Student's interval of each row."""
    error = stats.sem(samples, axis=1) * stats.t.ppf(0.975, samples.shape[1] - 1)
    return samples.mean(axis=1) - error, samples.mean(axis=1) + error


def by_scipy(method: str) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Ends of scipy's bootstrap interval of each row."""

    def ends(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        spread = np.ptp(samples, axis=1) > 0  # scipy has no BCa interval of a constant
        low, high = samples.mean(axis=1), samples.mean(axis=1)
        result = stats.bootstrap(
            (samples[spread],), np.mean, axis=1, method=method, n_resamples=1999, batch=20, rng=np.random.default_rng(2)
        )
        low[spread], high[spread] = result.confidence_interval
        return low, high

    return ends


METHODS = {"percentile": by_scipy("percentile"), "BCa": by_scipy("BCa"), "Student": student, "ours": ours}


def coverage(simulations: int = 2000) -> Iterator[str]:
    """Rows of the table of coverage."""
    yield f"{'differences':16}{'method':12}" + "".join(f"{f'n = {n}':>9}" for n in SIZES)
    for name, draw in DIFFERENCES.items():
        mean = true_mean(draw)
        samples = {n: draw(np.random.default_rng(n), (simulations, n)) for n in SIZES}
        for method, ends in METHODS.items():
            intervals = {n: ends(samples[n]) for n in SIZES}
            held = [100 * np.mean((intervals[n][0] <= mean) & (mean <= intervals[n][1])) for n in SIZES]
            yield f"{name:16}{method:12}" + "".join(f"{share:9.1f}" for share in held)
        endless = [100 * np.mean(np.isinf(intervals[n][0])) for n in SIZES]
        yield f"{name:16}{'no interval':12}" + "".join(f"{share:9.1f}" for share in endless)


def case_table(dice: np.ndarray) -> pd.DataFrame:
    """(cases, models) -> the case table of models `0`, `1`, ... and one class."""
    n, models = dice.shape
    rows = {
        "model": np.tile(np.arange(models).astype(str), n),
        "fold": "0",
        "split": "validation",
        "case": np.repeat([f"case_{case:04d}" for case in range(n)], models),
        "label": "organ",
    }
    return pd.DataFrame(rows | dict.fromkeys(MEASURES, np.nan) | {"dice": dice.ravel()})


def comparisons(dice: np.ndarray) -> list[Comparison]:
    """(cases, models) -> the primary family."""
    models = [str(model) for model in range(dice.shape[1])]
    found = compare(case_table(dice), models, "dice", ["organ"])
    return [comparison for comparison in found if comparison.label == MEAN]


def claims(comparison: Comparison) -> bool:
    """Whether the sentence says that there is a difference."""
    return " has a " in comparison.sentence


def six_models(generator: np.random.Generator, n: int, shift: float = 0.0) -> np.ndarray:
    """Dice of six models on scans that are hard for all, missed in 5 %; the first is better by `shift`."""
    dice = generator.beta(8, 3, (n, 1)) * 0.8 + generator.normal(0.1, 0.03, (n, 6))
    dice[:, 0] += shift
    dice[generator.random((n, 6)) < 0.05] = 0
    return np.clip(dice, 0, 1)


def equal_models(simulations: int = 500) -> Iterator[str]:
    """Rows: benchmarks of 100 in which at least one of the 15 pairs of equal models differs."""
    yield f"{'n':>6}{'p':>8}{'Holm':>8}{'claimed':>9}"
    for n in SIZES:
        generator = np.random.default_rng(n)
        families = [comparisons(six_models(generator, n)) for _ in range(simulations)]
        rates = [
            100 * np.mean([any(c.p < 0.05 for c in family) for family in families]),
            100 * np.mean([any(c.p_holm < 0.05 for c in family) for family in families]),
            100 * np.mean([any(map(claims, family)) for family in families]),
        ]
        yield f"{n:6}{rates[0]:8.1f}{rates[1]:8.1f}{rates[2]:9.1f}"


def better_model(simulations: int = 100) -> Iterator[str]:
    """Rows: pairs of 100 with the better one of six models that are found to differ, for each shift in Dice."""
    shifts = (0.01, 0.02, 0.04)
    yield f"{'n':>6}" + "".join(f"{f'{shift}: Holm':>14}{'claimed':>9}" for shift in shifts)
    for n in SIZES:
        row = f"{n:6}"
        for shift in shifts:
            generator = np.random.default_rng(n)
            families = [comparisons(six_models(generator, n, shift)) for _ in range(simulations)]
            pairs = [c for family in families for c in family if c.first == "0"]
            row += f"{100 * np.mean([c.p_holm < 0.05 for c in pairs]):14.1f}"
            row += f"{100 * np.mean([claims(c) for c in pairs]):9.1f}"
        yield row


def equal_means(simulations: int = 500) -> Iterator[str]:
    """Rows: pairs of 100 that are said to differ where the differences have mean zero but are not symmetric."""
    yield f"{'differences':16}{'':12}" + "".join(f"{f'n = {n}':>9}" for n in SIZES)
    for name, draw in DIFFERENCES.items():
        mean = true_mean(draw)
        rates: dict[str, list[float]] = {"p": [], "claimed": []}
        for n in SIZES:
            samples = draw(np.random.default_rng(n), (simulations, n)) - mean
            found = [comparisons(np.stack([sample, np.zeros(n)], axis=1))[0] for sample in samples]
            rates["p"].append(100 * np.mean([c.p < 0.05 for c in found]))
            rates["claimed"].append(100 * np.mean([claims(c) for c in found]))
        for what, shares in rates.items():
            yield f"{name:16}{what:12}" + "".join(f"{share:9.1f}" for share in shares)


def main() -> None:
    """Prints the tables."""
    gc.freeze()  # statsmodels collects garbage at every call, and what is imported by then is none
    for table in (coverage, equal_models, better_model, equal_means):
        print(f"\n{(table.__doc__ or '').strip()}")
        for row in table():
            print(row, flush=True)


if __name__ == "__main__":
    main()
