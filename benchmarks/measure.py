"""Two measures: bytes kept for backward, and the time of two things run in turn."""

from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn


def saved_bytes(network: nn.Module, x: Tensor) -> int:
    """Bytes autograd keeps between forward and backward, parameters and the input itself not counted.

    Every storage counts once, however many operations keep a view of it. Works on the meta device, where nothing is
    computed.

    Args:
        network: in the mode (train or eval) to be measured.
        x: its input, shape `(B, C, *size)`.
    """
    return sum(saved_bytes_by_kind(network, x))


def saved_bytes_by_kind(network: nn.Module, x: Tensor) -> tuple[int, int]:
    """As `saved_bytes`: those of floating-point numbers, which mixed precision halves, and those of indices."""
    free = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers(), x)}
    kept: dict[int, Tensor] = {}  # the tensors are held, so that no storage is freed and its address used again

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in free:
            kept[storage] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(x)
    total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    numbers = sum(tensor.untyped_storage().nbytes() for tensor in kept.values() if tensor.is_floating_point())
    del output
    return numbers, total - numbers


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
