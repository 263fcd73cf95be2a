"""The time of things run in turn."""

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter

import torch


def interleaved_seconds(functions: Sequence[Callable[[], object]], runs: int) -> list[list[float]]:
    """Time functions in turn, A B C A B C: what slows the machine slows all.

    Each is timed right after an untimed run of itself, as a training repeats one step: the first run after another
    function pays for the memory and the caches that the other has left. Where there is a CUDA device, its work is
    waited for before and after each.

    Args:
        functions: what is timed.
        runs: rounds measured.

    Returns:
        For each function the seconds of every round.
    """
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(runs):
        for function, seconds in zip(functions, times, strict=True):
            function()
            synchronise()
            start = perf_counter()
            function()
            synchronise()
            seconds.append(perf_counter() - start)
    return times


def paired_seconds(
    first: Callable[[], object], second: Callable[[], object], runs: int
) -> tuple[list[float], list[float]]:
    """`interleaved_seconds` of two.

    Returns:
        Seconds of every run of the first, and of the second.
    """
    of_first, of_second = interleaved_seconds((first, second), runs)
    return of_first, of_second


def median_ratio(times: Sequence[Sequence[float]]) -> float:
    """Median over the pairs of first / second."""
    first, second = times
    return median(a / b for a, b in zip(first, second, strict=True))


def synchronise() -> None:
    """Wait for the CUDA device, where one is in use."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
