"""What the convolutions of somebody else's network return, for the memory it will need."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

_CONVS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def count_conv_outputs(network: nn.Module, input_channels: int, input_size: Sequence[int]) -> int:
    """Values that all convolutions return for one image, in nnU-Net's unit: one count a conv block.

    Args:
        network: stays as it is; a copy without memory answers.
        input_channels: of the image.
        input_size: its spatial size.
    """
    network, total = deepcopy(network).to("meta").eval(), 0

    def count(_module: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal total
        total += output[0].numel()

    for module in network.modules():
        if isinstance(module, _CONVS):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.empty(1, input_channels, *input_size, device="meta"))
    return total
