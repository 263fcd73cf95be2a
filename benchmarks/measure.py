"""The time of two things run in turn."""

from collections.abc import Callable
from statistics import median
from time import perf_counter


def paired_seconds(
    first: Callable[[], object], second: Callable[[], object], runs: int
) -> tuple[list[float], list[float]]:
    """Time two functions in turn, A B A B, after one warm-up each: what slows the machine slows both.

    Returns:
        Seconds of every run of the first, and of the second.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for run in range(runs + 1):
        for function, seconds in zip((first, second), times, strict=True):
            start = perf_counter()
            function()
            if run > 0:
                seconds.append(perf_counter() - start)
    return times


def median_ratio(times: tuple[list[float], list[float]]) -> float:
    """Median over the pairs of first / second."""
    return median(a / b for a, b in zip(*times, strict=True))
