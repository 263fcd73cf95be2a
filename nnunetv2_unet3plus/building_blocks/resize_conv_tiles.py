"""`resize_conv` on the CPU: mixing channels, interpolation and shifts tile by tile, in the cache.

The mixed channels of a whole map are several times larger than the result and would pass through memory a few times.
A tile is a block of rows of the result along every axis but the last, which is computed whole; neighbours share two
coarse rows, which both mix. In channels-last format a tile's mixed channels are one matrix product.
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import product
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from nnunetv2_unet3plus.building_blocks import few_channels
from nnunetv2_unet3plus.building_blocks.cpu_loops import Loops, Sparse, loops_for
from nnunetv2_unet3plus.building_blocks.kept_memory import empty_map
from nnunetv2_unet3plus.building_blocks.memory_format import CHANNELS_LAST
from nnunetv2_unet3plus.building_blocks.tap_matrix import (
    Block,
    blocks_of_rows,
    cached_tap_matrix,
    product_adjoint,
    product_by_blocks,
    work_of_matrices,
)

# A tile's mixed channels, and its result, have about as many values: what a core's caches hold.
VALUES_PER_TILE = 2**20


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


class _Tile:
    """Some rows of the result along every axis.

    Attributes:
        rows: of the result.
        coarse: rows of the coarse map these need.
    """

    def __init__(self, axes: Sequence[_Axis], kernel: Sequence[int], channels: int) -> None:
        """Of axes, a kernel and the number of channels of the result."""
        self.rows = tuple(axis.rows for axis in axes)
        self.coarse = tuple(axis.coarse for axis in axes)
        self._axes, self._kernel, self._channels = axes, tuple(kernel), channels
        self._counts = [axis.matrix.shape[1] // k for axis, k in zip(axes, kernel, strict=True)]

    def interpolate(self, mixed: Tensor, bias: Tensor | None, out: Tensor) -> None:
        """Write mixed channels ``(coarse voxels, taps * O)``, plus bias, to ``(*rows, O)``."""
        loops = self._loops_for(mixed, out)
        if loops is None:
            y = self._by_matrices(mixed)
            out.copy_(y) if bias is None else torch.add(y, bias, out=out)
            return
        scratch = mixed.new_empty(torch.get_num_threads(), self._counts[1] * self._kernel[1] * self._channels)
        (rows, columns), sparse = out.shape[:2], self._sparse
        loops.interpolate_taps(mixed, *self._size, sparse[0], rows, sparse[1], columns, bias, out, scratch)

    def adjoint(self, grad: Tensor) -> Tensor:
        """``(*rows, O)`` to ``(coarse voxels, taps * O)``."""
        loops = self._loops_for(grad, grad)
        if loops is None:
            return self._by_transposed_matrices(grad)
        row_taps, column_taps = self._kernel
        coarse_rows, coarse_columns = self._counts
        rows, columns, channels = grad.shape
        mixed = grad.new_empty(coarse_rows * coarse_columns, row_taps * column_taps * channels)
        scratch = grad.new_empty(rows, coarse_columns * column_taps * channels)
        of_rows, of_columns = self._transposed
        loops.interpolate_taps_adjoint(
            grad, *self._size, of_rows, rows, coarse_rows, of_columns, columns, mixed, scratch
        )
        return mixed

    def _loops_for(self, x: Tensor, rows: Tensor) -> Loops | None:
        return loops_for(x, rows) if len(self._axes) == 2 and rows.is_contiguous() else None

    @property
    def _size(self) -> tuple[int, int, int, int]:
        """What both loops go by: coarse columns, taps of rows and columns, channels."""
        return self._counts[1], *self._kernel, self._channels  # type: ignore[return-value]

    @cached_property
    def _sparse(self) -> tuple[Sparse, Sparse]:
        """Of rows and columns; a column of the rows' matrix is a coarse row and a tap of all mixed channels."""
        (of_rows, of_columns), (columns, row_taps, column_taps, channels) = self._axes, self._size
        column = torch.arange(of_rows.matrix.shape[1], device="cpu")
        row_offsets = (column // row_taps * columns * row_taps + column % row_taps) * column_taps * channels
        return _sparse(of_rows.matrix, row_offsets), _sparse(of_columns.matrix, channels)

    @cached_property
    def _transposed(self) -> tuple[Sparse, Sparse]:
        (of_rows, of_columns), (columns, _, column_taps, channels) = self._axes, self._size
        return _sparse(of_rows.matrix.T, columns * column_taps * channels), _sparse(of_columns.matrix.T, channels)

    def _by_matrices(self, mixed: Tensor) -> Tensor:
        """Mixed channels ``(coarse voxels, taps * O)`` to ``(*rows, O)``, with PyTorch's operators."""
        dims = len(self._axes)
        y = mixed.view(*self._counts, *self._kernel, -1)
        # axes done are at the front, the latest first; then coarse ones, then taps
        for index, axis in enumerate(self._axes):
            y = y.movedim((index, dims), (0, 1))
            columns, rest = y.shape[0] * y.shape[1], y.shape[2:]
            y = product_by_blocks(y.reshape(1, columns, -1), axis.matrix, axis.blocks).view(-1, *rest)
        return y.permute(*reversed(range(dims)), dims)

    def _by_transposed_matrices(self, grad: Tensor) -> Tensor:
        dims = len(self._axes)
        g = grad.permute(*reversed(range(dims)), dims)
        for index, axis in reversed(list(enumerate(self._axes))):
            rows, rest = g.shape[0], g.shape[1:]
            g = product_adjoint(g.reshape(1, rows, -1), axis.matrix, axis.blocks)
            g = g.view(-1, self._kernel[index], *rest).movedim((0, 1), (index, dims))
        return g.reshape(prod(g.shape[:dims]), -1)


def _sparse(matrix: Tensor, offsets: Tensor | int) -> Sparse:
    """Of a matrix whose columns multiply what begins at these offsets, or a multiple of a number."""
    rows, columns = matrix.nonzero(as_tuple=True)
    starts = torch.searchsorted(rows, torch.arange(len(matrix) + 1, device="cpu"))
    return starts, columns * offsets if isinstance(offsets, int) else offsets[columns], matrix[rows, columns]


@lru_cache(maxsize=256)  # a network asks for the same few in every step
def _tiles(
    grid: tuple[int, ...],
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    out_channels: int,
    dtype: torch.dtype,
    values: int,
) -> list[_Tile]:
    """The tiles of a result, of about so many values each."""
    axes: list[list[_Axis]] = []
    mixed, made = prod(grid) * prod(kernel) * out_channels, prod(size) * out_channels  # values of one tile for all
    for n, m, taps in zip(grid, size, kernel, strict=True):
        blocks = blocks_of_rows(n, m, taps)
        count = len(blocks)
        if len(axes) < len(grid) - 1:
            count = max(1, round(len(blocks) * values / max(mixed, made)))
        parts = [blocks[first : first + count] for first in range(0, len(blocks), count)]
        mixed, made = mixed // len(parts), made // len(parts)
        matrix = cached_tap_matrix(n, m, taps, dtype, torch.device("cpu"))
        axes.append([_axis_of_tile(matrix, part, taps) for part in parts])
    return [_Tile(tile, kernel, out_channels) for tile in product(*axes)]


def _tiles_of(image: Tensor, result: Tensor, weight: Tensor) -> list[_Tile]:
    """Of a coarse map ``(*grid, C)`` and a result ``(*size, O)``."""
    grid, size = tuple(image.shape[:-1]), tuple(result.shape[:-1])
    with torch.inference_mode(False):  # what prediction has made, training may use
        return _tiles(grid, size, tuple(weight.shape[2:]), len(weight), image.dtype, VALUES_PER_TILE)


def _axis_of_tile(matrix: Tensor, blocks: Sequence[Block], taps: int) -> _Axis:
    """What some consecutive blocks need."""
    top, bottom, left, right = blocks[0][0], blocks[-1][1], blocks[0][2], blocks[-1][3]
    inside = [(start - top, stop - top, first - left, last - left) for start, stop, first, last in blocks]
    return _Axis(slice(top, bottom), slice(left // taps, right // taps), matrix[top:bottom, left:right], inside)


def _mixing(weight: Tensor) -> Tensor:
    """``(O, C, *kernel)`` as the matrix ``(C, taps * O)`` that mixes the channels of every tap."""
    return weight.movedim(0, -1).flatten(1)


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
    bias = None if bias is None else bias.to(x.dtype).contiguous()
    mixing = _mixing(weight)
    out = empty_map((x.shape[0], weight.shape[0], *size), x, memory_format=CHANNELS_LAST[x.ndim])
    for image, result in zip(x.movedim(1, -1), out.movedim(1, -1), strict=True):
        for tile in _tiles_of(image, result, weight):
            tile.interpolate(image[tile.coarse].flatten(0, -2) @ mixing, bias, result[tile.rows])
    return out


@torch.library.custom_op("nnunetv2_unet3plus::resize_conv_by_tiles_gradients", mutates_args=())
@torch.autocast("cpu", enabled=False)
def _gradients(x: Tensor, weight: Tensor, grad: Tensor, need_x: bool, need_weight: bool) -> tuple[Tensor, Tensor]:
    """Of the map and of the weight, from the gradient of the result; zeros for one that nobody needs."""
    images, results = (t.movedim(1, -1).contiguous() for t in (x, grad))
    of_x = empty_map(x.shape, x, memory_format=CHANNELS_LAST[x.ndim])
    of_images = of_x.movedim(1, -1)
    loops = few_channels.loops_for_gradients(x, weight, grad)
    if loops is not None:
        return of_x, few_channels.gradients(loops, images, weight, results, of_images, need_x, need_weight)
    kernel, mixing = weight.shape[2:], _mixing(weight)
    of_images.zero_()
    of_mixing = torch.zeros_like(mixing)
    for image, result, of_image in zip(images, results, of_images, strict=True):
        for tile in _tiles_of(image, result, weight):
            of_mixed = tile.adjoint(result[tile.rows])
            if need_x:
                of_image[tile.coarse] += (of_mixed @ mixing.T).view_as(of_image[tile.coarse])
            if need_weight:
                of_mixing.addmm_(image[tile.coarse].flatten(0, -2).T, of_mixed)
    return of_x, of_mixing.unflatten(1, (*kernel, -1)).movedim(-1, 0).contiguous()


@resize_conv_by_tiles.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, size: Sequence[int]) -> Tensor:
    return x.new_empty(x.shape[0], *size, weight.shape[0]).movedim(-1, 1)


@_gradients.register_fake
def _(x: Tensor, weight: Tensor, grad: Tensor, need_x: bool, need_weight: bool) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x.movedim(1, -1).contiguous()).movedim(-1, 1), weight.new_empty(weight.shape)


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
