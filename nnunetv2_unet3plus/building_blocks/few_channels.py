"""Gradients of a 3 x 3 convolution to few channels, a segmentation head's, without a map of mixed channels.

The values of the result's gradient around a pixel, 9 a channel, are one row of a matrix (im2col). A block of such rows,
while it is in the cache, times the kernels is the gradient of those pixels, and the pixels times the rows add to the
gradient of the kernels.
"""

import torch
from torch import Tensor

from nnunetv2_unet3plus.building_blocks.cpu_loops import CHANNELS_OF_VECTOR, Loops, loops_for

KERNEL = (3, 3)
PIXELS_PER_BLOCK = 48  # as in cpu_loops.c


def loops_for_gradients(x: Tensor, weight: Tensor, grad: Tensor) -> Loops | None:
    """The compiled loops, where they apply: to whole vectors of channels of a map that is not resized.

    Args:
        x: map of shape ``(B, C, H, W)``.
        weight: of shape ``(O, C, *kernel)``.
        grad: of the result, ``(B, O, *size)``.
    """
    same_grid = tuple(weight.shape[2:]) == KERNEL and x.shape[2:] == grad.shape[2:]
    return loops_for(x, weight, grad) if same_grid and x.shape[1] % CHANNELS_OF_VECTOR == 0 else None


def gradients(
    loops: Loops, x: Tensor, weight: Tensor, grad: Tensor, of_x: Tensor, need_x: bool, need_weight: bool
) -> Tensor:
    """Write that of the map, and give that of the weight, of shape ``(O, C, 3, 3)``; zeros for one that nobody needs.

    Args:
        loops: see `loops_for_gradients`.
        x: map of shape ``(B, H, W, C)``, contiguous.
        weight: of shape ``(O, C, 3, 3)``.
        grad: of the result, ``(B, H, W, O)``, contiguous.
        of_x: where the gradient of the map goes, as the map.
        need_x: whether it is wanted.
        need_weight: whether that of the weight is.
    """
    (out_channels, channels), threads = weight.shape[:2], torch.get_num_threads()
    rows = 9 * out_channels
    columns = -(-rows // CHANNELS_OF_VECTOR) * CHANNELS_OF_VECTOR
    turned = weight.flip(2, 3).permute(2, 3, 0, 1).reshape(rows, channels).contiguous()
    of_turned = x.new_zeros(threads, channels, columns)
    scratch = x.new_zeros(threads, PIXELS_PER_BLOCK + channels, columns)
    parts = of_turned if need_weight else None
    if not need_x:
        of_x.zero_()
    if need_x or need_weight:
        for image, of_result, of_image in zip(x, grad, of_x if need_x else [None] * len(x), strict=True):
            sizes = (*image.shape, out_channels)
            loops.few_channels_gradients(image, of_result, *sizes, turned, columns, of_image, parts, scratch)
    of_weight = of_turned.sum(0)[:, :rows].view(channels, *KERNEL, out_channels)
    return of_weight.permute(3, 0, 1, 2).flip(2, 3).contiguous()
