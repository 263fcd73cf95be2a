"""`resize_conv` on the CPU: mixing channels, interpolation and shifts tile by tile, in the cache.

The mixed channels of a whole map are several times larger than the result and would pass through memory a few times.
A tile is a block of rows of the result along every axis but the last, which is computed whole; neighbours share two
coarse rows, which both mix. In channels-last format a tile's mixed channels are one matrix product.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from nnunetv2_unet3plus.building_blocks.tap_matrix import (
    Block,
    blocks_of_rows,
    cached_tap_matrix,
    product_adjoint,
    product_by_blocks,
    work_of_matrices,
)

# A tile's mixed channels, and its result, have about as many values: what a core's caches hold.
VALUES_PER_TILE = 2**21


def tiles_apply(x: Tensor, weight: Tensor) -> bool:
    """Whether a map ``(B, C, *grid)`` and a weight are on the CPU, channels last, in one full precision."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and x.movedim(1, -1).is_contiguous()
    )


class _Axis(NamedTuple):
    """What happens along an axis of a tile."""

    rows: slice
    """Of the result."""
    coarse: slice
    """Rows of the coarse map these need."""
    matrix: Tensor
    """Of shape ``(rows, coarse rows * taps)``."""
    blocks: list[Block]
    """Outside which it is zero."""


def _tiles(
    grid: Sequence[int], size: Sequence[int], kernel: Sequence[int], out_channels: int, dtype: torch.dtype
) -> Iterator[list[_Axis]]:
    axes: list[list[_Axis]] = []
    mixed, made = prod(grid) * prod(kernel) * out_channels, prod(size) * out_channels  # values of one tile for all
    for n, m, taps in zip(grid, size, kernel, strict=True):
        blocks = blocks_of_rows(n, m, taps)
        count = len(blocks)
        if len(axes) < len(grid) - 1:
            count = max(1, round(len(blocks) * VALUES_PER_TILE / max(mixed, made)))
        parts = [blocks[first : first + count] for first in range(0, len(blocks), count)]
        mixed, made = mixed // len(parts), made // len(parts)
        matrix = cached_tap_matrix(n, m, taps, dtype, torch.device("cpu"))
        axes.append([_axis_of_tile(matrix, part, taps) for part in parts])
    for tile in product(*axes):
        yield list(tile)


def _axis_of_tile(matrix: Tensor, blocks: Sequence[Block], taps: int) -> _Axis:
    """What some consecutive blocks need."""
    top, bottom, left, right = blocks[0][0], blocks[-1][1], blocks[0][2], blocks[-1][3]
    inside = [(start - top, stop - top, first - left, last - left) for start, stop, first, last in blocks]
    return _Axis(slice(top, bottom), slice(left // taps, right // taps), matrix[top:bottom, left:right], inside)


def _mixing(weight: Tensor) -> Tensor:
    """``(O, C, *kernel)`` as the matrix ``(C, taps * O)`` that mixes the channels of every tap."""
    return weight.movedim(0, -1).flatten(1)


def _interpolate(y: Tensor, tile: Sequence[_Axis], kernel: Sequence[int]) -> Tensor:
    """Mixed channels ``(coarse voxels, taps * O)`` to ``(*rows, O)``."""
    dims = len(tile)
    y = y.view(*(axis.matrix.shape[1] // k for axis, k in zip(tile, kernel, strict=True)), *kernel, -1)
    for index, axis in enumerate(tile):  # axes done are at the front, the latest first; then coarse ones, then taps
        y = y.movedim((index, dims), (0, 1))
        columns, rest = y.shape[0] * y.shape[1], y.shape[2:]
        y = product_by_blocks(y.reshape(1, columns, -1), axis.matrix, axis.blocks).view(-1, *rest)
    return y.permute(*reversed(range(dims)), dims)


def _adjoint(g: Tensor, tile: Sequence[_Axis], kernel: Sequence[int]) -> Tensor:
    """``(*rows, O)`` to ``(coarse voxels, taps * O)``."""
    dims = len(tile)
    g = g.permute(*reversed(range(dims)), dims)
    for index, axis in reversed(list(enumerate(tile))):
        rows, rest = g.shape[0], g.shape[1:]
        g = product_adjoint(g.reshape(1, rows, -1), axis.matrix, axis.blocks)
        g = g.view(-1, kernel[index], *rest).movedim((0, 1), (index, dims))
    return g.reshape(prod(g.shape[:dims]), -1)


@torch.library.custom_op("nnunetv2_unet3plus::resize_conv_by_tiles", mutates_args=())
@torch.autocast("cpu", enabled=False)
def resize_conv_by_tiles(x: Tensor, weight: Tensor, bias: Tensor | None, size: Sequence[int]) -> Tensor:
    """`conv(resize(x, size), weight, bias)` with zero padding.

    Args:
        x: coarse map of shape `(B, C, *grid)`, to which `tiles_apply`.
        weight: of shape `(O, C, *kernel)`, every kernel axis 1 or 3.
        bias: of shape `(O,)` or None.
        size: the grid of the result.

    Returns:
        Map of shape `(B, O, *size)` in channels-last format.
    """
    kernel, mixing = weight.shape[2:], _mixing(weight)
    out = x.new_empty(x.shape[0], *size, weight.shape[0])
    for image, result in zip(x.movedim(1, -1), out, strict=True):
        for tile in _tiles(image.shape[:-1], size, kernel, len(weight), x.dtype):
            coarse, rows = (tuple(axis[part] for axis in tile) for part in (1, 0))
            y = _interpolate(image[coarse].flatten(0, -2) @ mixing, tile, kernel)
            result[rows].copy_(y) if bias is None else torch.add(y, bias, out=result[rows])
    return out.movedim(-1, 1)


@torch.library.custom_op("nnunetv2_unet3plus::resize_conv_by_tiles_gradients", mutates_args=())
@torch.autocast("cpu", enabled=False)
def _gradients(x: Tensor, weight: Tensor, grad: Tensor, need_x: bool, need_weight: bool) -> tuple[Tensor, Tensor]:
    """Of the map and of the weight, from the gradient of the result; zeros for one that nobody needs."""
    kernel, mixing = weight.shape[2:], _mixing(weight)
    of_x, of_mixing = torch.zeros_like(x), torch.zeros_like(mixing)
    for image, result, of_image in zip(*(t.movedim(1, -1) for t in (x, grad, of_x)), strict=True):
        for tile in _tiles(image.shape[:-1], result.shape[:-1], kernel, len(weight), x.dtype):
            coarse, rows = (tuple(axis[part] for axis in tile) for part in (1, 0))
            of_y = _adjoint(result[rows], tile, kernel)
            if need_x:
                of_image[coarse] += (of_y @ mixing.T).view_as(of_image[coarse])
            if need_weight:
                of_mixing.addmm_(image[coarse].flatten(0, -2).T, of_y)
    return of_x, of_mixing.unflatten(1, (*kernel, -1)).movedim(-1, 0).contiguous()


@resize_conv_by_tiles.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, size: Sequence[int]) -> Tensor:
    return x.new_empty(x.shape[0], *size, weight.shape[0]).movedim(-1, 1)


@_gradients.register_fake
def _(x: Tensor, weight: Tensor, grad: Tensor, need_x: bool, need_weight: bool) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), weight.new_empty(weight.shape)


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, Sequence[int]], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
    need_x, need_weight, need_bias, _ = ctx.needs_input_grad
    of_x, of_weight = _gradients(*ctx.saved_tensors, grad, need_x, need_weight)
    of_bias = grad.sum((0, *range(2, grad.ndim))) if need_bias else None
    return of_x if need_x else None, of_weight if need_weight else None, of_bias, None


resize_conv_by_tiles.register_autograd(_backward, setup_context=_remember)


@register_flop_formula(torch.ops.nnunetv2_unet3plus.resize_conv_by_tiles)
def _flop(x: torch.Size, weight: torch.Size, bias: Any, size: Sequence[int], *_: Any, **__: Any) -> int:
    """For PyTorch's counter: two a multiplication; what neighbouring tiles share is counted once."""
    grid, out_channels, kernel = x[2:], weight[0], weight[2:]
    return 2 * x[0] * (prod(grid) * prod(weight) + work_of_matrices(out_channels, grid, size, kernel))
