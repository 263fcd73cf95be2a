"""Stacks of adjacent slices as the channels of 2D images: "2.5D", the three-slice input of the UNet 3+ paper.

Slices lie along the first spatial axis of a patch ``(B, C, D, H, W)``. The stack of slice ``d`` are the slices
``d - k .. d + k`` with ``k = slices // 2``; beyond the patch its first or last slice is repeated.
"""

import torch
from torch import Tensor


def stack_slices(x: Tensor, slices: int) -> Tensor:
    """The stack of every slice of every patch, copied once.

    Args:
        x: patches `(B, C, D, H, W)`.
        slices: in a stack, an odd number.

    Returns:
        `(B * D, slices * C, H, W)`. Row `b * D + d` is the stack of slice `d` of patch `b`; its channels are all C of
        slice `d - k`, then all C of the next, up to those of slice `d + k`.
    """
    depth, k = x.shape[2], slices // 2
    neighbours = torch.arange(depth, device=x.device)[:, None] + torch.arange(-k, k + 1, device=x.device)
    stacks = x.transpose(1, 2).index_select(1, neighbours.clamp(0, depth - 1).flatten())  # (B, D * slices, C, H, W)
    return stacks.unflatten(1, (depth, slices)).flatten(2, 3).flatten(0, 1)


def slices_to_batch(x: Tensor) -> Tensor:
    """Patches `(B, K, D, *size)` as images `(B * D, K, *size)`, in the order of `stack_slices`."""
    return x.transpose(1, 2).flatten(0, 1)


def batch_to_slices(x: Tensor, depth: int) -> Tensor:
    """Back: images `(B * D, K, *size)` as patches `(B, K, D, *size)` of `D = depth` slices, without a copy."""
    return x.unflatten(0, (-1, depth)).transpose(1, 2)
