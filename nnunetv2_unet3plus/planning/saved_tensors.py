"""The bytes that a network keeps between forward and backward."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def saved_bytes(network: nn.Module, x: Tensor) -> int:
    """Bytes kept between forward and backward, parameters, the input and the outputs not counted.

    Counted is what is still there when the forward pass is over, whoever holds it: autograd itself, a checkpoint, a
    recipe. Every storage counts once. Works on the meta device, where nothing is computed.

    Args:
        network: in the mode (train or eval) to be measured.
        x: its input, shape `(B, C, *size)`.
    """
    return sum(saved_bytes_by_kind(network, x))


def saved_bytes_by_kind(network: nn.Module, x: Tensor) -> tuple[int, int]:
    """As `saved_bytes`: those of floating-point numbers, which mixed precision halves, and those of indices."""
    with torch.no_grad():
        network(x)  # what is made once and kept for good does not count
    storages = _Storages()
    with storages:
        output = network(x)
    returned = {tensor.untyped_storage()._cdata for tensor in tree_leaves(output) if isinstance(tensor, Tensor)}
    alive = [kept for address, kept in storages.alive() if address not in returned]
    numbers = sum(size for size, is_number in alive if is_number)
    return numbers, sum(size for size, _ in alive) - numbers


class _Storages(TorchDispatchMode):
    """Remembers, without holding it, the memory of every tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[tuple[StorageWeakRef, int, int, bool]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                entry = (StorageWeakRef(storage), storage._cdata, storage.nbytes(), tensor.is_floating_point())
                self._seen.append(entry)
        return result

    def alive(self) -> Iterator[tuple[int, tuple[int, bool]]]:
        """Address, bytes and kind of what is still there, each storage once."""
        found = {address: (size, kind) for reference, address, size, kind in self._seen if not reference.expired()}
        return iter(found.items())
