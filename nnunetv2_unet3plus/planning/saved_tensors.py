"""The bytes that a network keeps between forward and backward."""

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nnunetv2_unet3plus.planning.dry_run import LiveBytes


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
    with LiveBytes([*network.parameters(), *network.buffers(), x]) as live:
        output = network(x)
    outputs = {tensor.untyped_storage()._cdata: tensor for tensor in tree_leaves(output)}.values()
    numbers = live.numbers - sum(tensor.untyped_storage().nbytes() for tensor in outputs)
    return numbers, live.now - live.numbers
