"""The bytes that a network keeps between forward and backward, by asking autograd."""

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
