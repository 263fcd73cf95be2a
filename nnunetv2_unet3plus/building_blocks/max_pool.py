"""Max pooling to a coarser stage's grid."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nnunetv2_unet3plus.building_blocks.recompute import own_operators_apply

_MAX_POOL: dict[int, Any] = {2: functional.max_pool2d, 3: functional.max_pool3d}


class _MaxPool(torch.autograd.Function):
    """Keeps its input alone, which others keep anyway, and finds the maxima again for the backward pass.

    Their indices take 64 bits each, twice the memory of the pooled map.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.stride = stride
        return _pool(x, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(_pool(x, ctx.stride), x, grad)[0], None


def _pool(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    return _MAX_POOL[len(stride)](x, stride, stride, ceil_mode=True)


def max_pool(x: Tensor, stride: Sequence[int]) -> Tensor:
    """Non-overlapping max pooling; a last, incomplete window counts (ceil mode), so that no row of ``x`` is lost.

    Args:
        x: map of shape ``(B, C, *grid)``.
        stride: window and stride an axis.

    Returns:
        Map of shape ``(B, C, *ceil(grid / stride))``, the grid a strided convolution with same padding gives.
    """
    if all(s == 1 for s in stride):
        return x
    return _MaxPool.apply(x, tuple(stride)) if own_operators_apply() else _pool(x, tuple(stride))


class MaxPool(nn.Module):
    """`max_pool` as a module."""

    def __init__(self, stride: Any) -> None:
        """Pool by `stride`, a number an axis."""
        super().__init__()
        self.stride = tuple(stride)

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``(B, C, *grid)``."""
        return max_pool(x, self.stride)
