"""A convolution over an interpolated map, computed where it is cheap: on the coarse grid.

UNet 3+ (Huang et al., ICASSP 2020, eq. 1) upsamples every coarser map and then convolves it. Both steps are linear and
act on different axes, so their order can be exchanged without changing the function:

1. mix the channels on the coarse grid: one convolution to ``taps x out_channels`` channels,
2. per resized axis, multiply by one small matrix that interpolates and shifts each tap to its place at once.

With ``U`` the 1-D interpolation matrix and ``S_k`` the shift by ``k`` rows that zero padding implies, the matrix of an
axis with three taps is ``[S_-1 U | S_0 U | S_+1 U]``. An axis that is not resized keeps its taps in the convolution.
The upsampled map is never stored, and the channel mixing, the dear part, runs on a fraction of the voxels.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import floor, prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import register_flop_formula

from nnunetv2_unet3plus.building_blocks.winograd import conv

# Output rows are computed in blocks that need about this many coarse rows: the matrices are banded, so the work per
# row stays constant however large the grid. Smaller blocks cost calls, larger ones multiply by zeros.
COARSE_ROWS_PER_BLOCK = 8
# What is computed in between has about as many values at a time, but of a few channels at least: they lie side by side.
VALUES_AT_ONCE = 2**23
LEAST_CHANNELS_AT_ONCE = 8

_CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
_INTERPOLATION = {2: "bilinear", 3: "trilinear"}

Block = tuple[int, int, int, int]
"""First and last (exclusive) output row, first and last (exclusive) input column that these rows need."""


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bi- or trilinear interpolation, ``align_corners=False``.

    Args:
        x: map of shape ``(B, C, *grid)``, two or three grid axes.
        size: the new grid.

    Returns:
        Map of shape ``(B, C, *size)``.
    """
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return functional.interpolate(x, size=tuple(size), mode=_INTERPOLATION[x.ndim - 2], align_corners=False)


def resize_conv(x: Tensor, weight: Tensor, bias: Tensor | None, size: Sequence[int]) -> Tensor:
    """``conv(resize(x, size), weight, bias)`` with zero padding, by whichever of the two orders needs less work.

    Args:
        x: coarse map of shape ``(B, C, *grid)``.
        weight: of shape ``(O, C, *kernel)``, every kernel axis 1 or 3.
        bias: of shape ``(O,)`` or None.
        size: the grid of the result.

    Returns:
        Map of shape ``(B, O, *size)``.
    """
    size = tuple(size)
    if not _channels_first_pays(x, weight, size):
        return conv(resize(x, size), weight, bias)
    axes = _axes_by_matrix(tuple(x.shape[2:]), weight, size)
    y = _mix_channels(x, weight, bias, axes)
    taps = [k if axis in axes else 1 for axis, k in enumerate(weight.shape[2:])]
    return interpolate_taps(y, size, taps, channels_last=not y.is_contiguous())


def resize_conv_of_concatenation(
    maps: Sequence[Tensor], weight: Tensor, bias: Tensor | None, size: Sequence[int]
) -> Tensor:
    """``conv(cat([resize(x, size) for x in maps]), weight, bias)`` with zero padding.

    A convolution of a concatenation is the sum of convolutions of its parts: those that have to be resized each go
    their cheapest way, and only the others are concatenated.

    Args:
        maps: each of shape ``(B, C_k, *grid_k)``, at least one of grid ``size``.
        weight: of shape ``(O, sum of C_k, *kernel)``, every kernel axis 1 or 3.
        bias: of shape ``(O,)`` or None.
        size: the grid of the result.

    Returns:
        Map of shape ``(B, O, *size)``.
    """
    size = tuple(size)
    parts = list(zip(maps, weight.split([x.shape[1] for x in maps], dim=1), strict=True))
    here = [part for part in parts if tuple(part[0].shape[2:]) == size]
    x, w = (torch.cat(tensors, dim=1) if len(here) > 1 else tensors[0] for tensors in zip(*here, strict=True))
    out = conv(x, w, bias)
    for x, w in parts:
        if tuple(x.shape[2:]) != size:
            out += resize_conv(x, w, None, size)
    return out


def _channels_first_pays(x: Tensor, weight: Tensor, size: tuple[int, ...]) -> bool:
    """Whether to mix channels before interpolation and taps: on a coarser grid, and for the few outputs of a head.

    A convolution to fewer channels than a vector register has lanes wastes the rest of them on a CPU; one output a tap
    fills them, as long as these are no more values than the input has.
    """
    grid = tuple(x.shape[2:])
    taps = prod(weight.shape[2:])
    if grid == size:
        return x.device.type == "cpu" and taps > 1 and weight.shape[0] * taps <= weight.shape[1]
    return _work_coarse(weight, grid, size) < _work_fine(weight, size)


def _axes_by_matrix(grid: tuple[int, ...], weight: Tensor, size: tuple[int, ...]) -> list[int]:
    """The axes that are resized; without one, those with taps."""
    resized = [axis for axis, (n, m) in enumerate(zip(grid, size, strict=True)) if n != m]
    return resized or [axis for axis, k in enumerate(weight.shape[2:]) if k > 1]


def _same_padding(kernel: Sequence[int]) -> tuple[int, ...]:
    return tuple(k // 2 for k in kernel)


def _mix_channels(x: Tensor, weight: Tensor, bias: Tensor | None, axes: Sequence[int]) -> Tensor:
    """Convolve on the grid of ``x``, each tap along ``axes`` to channels of its own.

    Returns:
        Map of shape ``(B, taps * O, *grid)``: all outputs of the first tap, then all of the next one.
    """
    dims = x.ndim - 2
    kept = [axis for axis in range(dims) if axis not in axes]
    kernel = [weight.shape[2 + axis] if axis in kept else 1 for axis in range(dims)]
    mixing = weight.permute(*(2 + axis for axis in axes), 0, 1, *(2 + axis for axis in kept))
    mixing = mixing.reshape(-1, weight.shape[1], *kernel)
    if bias is not None:  # with the middle tap: its interpolation weights sum to 1 in every row, borders included
        others = (len(mixing) - len(bias)) // 2
        bias = functional.pad(bias, (others, others))
    return conv(x, mixing, bias)


def tap_matrix(n: int, m: int, taps: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """The matrix that interpolates ``n`` rows to ``m`` and shifts each tap to its place.

    Args:
        n: rows of the coarse axis.
        m: rows of the fine axis.
        taps: kernel size of the axis, 1 or 3.
        dtype: of the result; half precisions are rounded from float32.
        device: of the result.

    Returns:
        Tensor of shape ``(m, n * taps)``; column ``k * taps + t`` belongs to tap ``t`` of coarse row ``k``.
    """
    exact = dtype if dtype in (torch.float32, torch.float64) else torch.float32
    rows = torch.arange(m, dtype=exact, device=device)
    position = ((rows + 0.5) * (n / m) - 0.5).clamp(0, n - 1)
    columns = torch.arange(n, dtype=exact, device=device)
    interpolation = (1 - (position[:, None] - columns).abs()).clamp(min=0)
    if taps == 1:
        return interpolation.to(dtype)
    # tap t looks at fine row p + t - 1; the rows beyond the border are the convolution's zero padding
    padded = functional.pad(interpolation, (0, 0, 1, 1))
    return torch.stack([padded[t : t + m] for t in range(3)], dim=2).reshape(m, 3 * n).to(dtype)


@lru_cache(maxsize=256)  # a network asks for the same few in every step; the largest of a 512 x 512 patch has 1.5 MB
def _cached_tap_matrix(n: int, m: int, taps: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # what prediction has made, training may use
        return tap_matrix(n, m, taps, dtype, device)


def _blocks(n: int, m: int, taps: int) -> list[Block]:
    """Blocks of rows of ``tap_matrix(n, m, taps)`` with the columns outside which the rows are zero."""
    step = max(1, COARSE_ROWS_PER_BLOCK * m // n)
    blocks = []
    for start in range(0, m, step):
        stop = min(start + step, m)
        first = max(0, floor((start - 0.5) * n / m - 0.5))  # row start - 1, the farthest a tap reaches back
        last = min(n, floor((stop + 0.5) * n / m - 0.5) + 2)  # row stop, and its upper neighbour
        blocks.append((start, stop, first * taps, last * taps))
    return blocks


def _work_fine(weight: Tensor, size: tuple[int, ...]) -> int:
    """Multiplications per sample of interpolating first; the interpolation itself is not counted."""
    return prod(size) * weight.numel()


def _work_coarse(weight: Tensor, grid: tuple[int, ...], size: tuple[int, ...]) -> int:
    """Multiplications per sample of mixing channels on the coarse grid and multiplying by the matrices."""
    taps = [1 if n == m else k for n, m, k in zip(grid, size, weight.shape[2:], strict=True)]
    return prod(grid) * weight.numel() + _work_of_matrices(weight.shape[0], grid, size, taps)


def _work_of_matrices(channels: int, grid: Sequence[int], size: Sequence[int], taps: Sequence[int]) -> int:
    """Multiplications per sample by the matrices of all axes, the last axis first."""
    work, rows = 0, [n * k for n, k in zip(grid, taps, strict=True)]
    for axis in reversed(range(len(grid))):
        n, m, k = grid[axis], size[axis], taps[axis]
        if (n, k) != (m, 1):
            band = sum((stop - start) * (last - first) for start, stop, first, last in _blocks(n, m, k))
            work += channels * band * prod(rows[:axis] + rows[axis + 1 :])
        rows[axis] = m
    return work


# Both directions are operators of their own, so that torch.compile sees one node and not a loop over blocks, and
# autograd does not write a full-size zero tensor for every block, as it would for slices joined by torch.cat.


@torch.library.custom_op("nnunetv2_unet3plus::interpolate_taps", mutates_args=())
def interpolate_taps(y: Tensor, size: Sequence[int], taps: Sequence[int], channels_last: bool) -> Tensor:
    """Multiply every axis that is resized or has taps by its `tap_matrix`.

    Args:
        y: mixed channels of shape `(B, prod(taps) * O, *grid)`.
        size: the grid of the result.
        taps: 1 or 3 for each axis.
        channels_last: the memory format of `y`, and of the result.

    Returns:
        Map of shape `(B, O, *size)`.
    """
    channels = y.shape[1] // prod(taps)
    if y.numel() <= VALUES_AT_ONCE:
        return _interpolate(y, size, taps, channels_last).contiguous(
            memory_format=_memory_format(len(size), channels_last)
        )
    out = _empty_like(y, (y.shape[0], channels, *size), channels_last)
    y = y.unflatten(1, (prod(taps), channels))
    for sample, part in _portions(y.shape[0], channels, prod(taps) * prod(y.shape[3:])):
        out[sample, part] = _interpolate(y[sample, :, part].flatten(1, 2), size, taps, channels_last)
    return out


def _interpolate(y: Tensor, size: Sequence[int], taps: Sequence[int], channels_last: bool) -> Tensor:
    """As `interpolate_taps`, at once; in whatever memory format it comes out."""
    grid, dims = y.shape[2:], len(size)
    y = y.unflatten(1, (*taps, y.shape[1] // prod(taps)))
    # (B, *taps, O, *grid) -> (B, O, n1, taps1, n2, taps2, ...), the form _along_axis works on
    y = y.permute(0, 1 + dims, *(i for axis in range(dims) for i in (2 + dims + axis, 1 + axis)))
    for axis in reversed(range(dims)):
        y = _along_axis(y, axis, grid[axis], size[axis], taps[axis], channels_last)
    return y.squeeze(tuple(range(3, 3 + 2 * dims, 2)))


def _portions(samples: int, channels: int, values_a_channel: int) -> Iterator[tuple[slice, slice]]:
    """Samples and channels that are computed at a time, so that what is computed in between stays small.

    The allocator keeps memory of up to 32 MB for the next; larger pieces it gets anew, at a page fault for every 4 kB.
    """
    step = max(LEAST_CHANNELS_AT_ONCE, VALUES_AT_ONCE // values_a_channel)
    for sample in range(samples):
        for first in range(0, channels, step):
            yield slice(sample, sample + 1), slice(first, min(first + step, channels))


def _empty_like(x: Tensor, shape: Sequence[int], channels_last: bool) -> Tensor:
    return torch.empty(
        tuple(shape), dtype=x.dtype, device=x.device, memory_format=_memory_format(len(shape) - 2, channels_last)
    )


@torch.library.custom_op("nnunetv2_unet3plus::interpolate_taps_adjoint", mutates_args=())
def _interpolate_taps_adjoint(g: Tensor, grid: Sequence[int], taps: Sequence[int], channels_last: bool) -> Tensor:
    """The transposed matrices in the opposite order, `(B, O, *size)` to `(B, prod(taps) * O, *grid)`."""
    samples, channels, taps_of_all = *g.shape[:2], prod(taps)
    if taps_of_all * prod(grid) * samples * channels <= VALUES_AT_ONCE:
        return _adjoint(g, grid, taps, channels_last)
    out = _empty_like(g, (samples, taps_of_all * channels, *grid), channels_last)
    parts = out.unflatten(1, (taps_of_all, channels))
    for sample, part in _portions(samples, channels, taps_of_all * prod(grid)):
        parts[sample, :, part] = _adjoint(g[sample, part], grid, taps, channels_last).unflatten(1, (taps_of_all, -1))
    return out


def _adjoint(g: Tensor, grid: Sequence[int], taps: Sequence[int], channels_last: bool) -> Tensor:
    """As `_interpolate_taps_adjoint`, at once."""
    size, dims = g.shape[2:], len(grid)
    for axis in range(dims):
        g = g.unsqueeze(3 + 2 * axis)
    for axis in range(dims):
        g = _along_axis(g, axis, grid[axis], size[axis], taps[axis], channels_last, adjoint=True)
    rows, tap = range(2, 2 + 2 * dims, 2), range(3, 3 + 2 * dims, 2)
    if channels_last:
        return g.permute(0, *rows, *tap, 1).reshape(g.shape[0], *grid, -1).movedim(-1, 1)
    return g.permute(0, *tap, 1, *rows).reshape(g.shape[0], -1, *grid)


def _along_axis(y: Tensor, axis: int, n: int, m: int, taps: int, channels_last: bool, adjoint: bool = False) -> Tensor:
    """Multiply one axis of `(B, O, n1, taps1, n2, taps2, ...)`; one that is interpolated has a single tap.

    In channels-last format the axis comes to the front and the channels to the end: the matrices then meet rows as long
    as can be, and after the first axis the result is in this format.
    """
    if (n, taps) == (m, 1):
        return y
    at = 2 + 2 * axis
    order = list(range(y.ndim))
    if channels_last:
        order = [0, at, at + 1, *(i for i in order[2:] if i not in (at, at + 1)), 1]
    y = y.permute(order)
    at = order.index(at)
    before, after = y.shape[:at], y.shape[at + 2 :]
    matrix = _cached_tap_matrix(n, m, taps, y.dtype, y.device)
    product, result = (_product_adjoint, (n, taps)) if adjoint else (_product, (m, 1))
    y = product(y.reshape(prod(before), -1, prod(after)), matrix, _blocks(n, m, taps))
    return y.view(*before, *result, *after).permute([order.index(i) for i in range(len(order))])


def _product(x: Tensor, matrix: Tensor, blocks: list[Block]) -> Tensor:
    """`matrix @ x` for `x` of shape `(outer, n * taps, inner)`, block by block."""
    out = x.new_empty(x.shape[0], matrix.shape[0], x.shape[2])
    for start, stop, first, last in blocks:
        band = matrix[start:stop, first:last]
        if x.shape[2] == 1:  # one matrix product instead of many matrix-vector products
            torch.mm(x[:, first:last, 0], band.T, out=out[:, start:stop, 0])
        else:
            torch.bmm(band.expand(x.shape[0], -1, -1), x[:, first:last], out=out[:, start:stop])
    return out


def _product_adjoint(g: Tensor, matrix: Tensor, blocks: list[Block]) -> Tensor:
    """`matrix.T @ g` for `g` of shape `(outer, m, inner)`: the same loop, adding into one tensor."""
    out = g.new_zeros(g.shape[0], matrix.shape[1], g.shape[2])
    for start, stop, first, last in blocks:
        band = matrix[start:stop, first:last]
        if g.shape[2] == 1:
            out[:, first:last, 0].addmm_(g[:, start:stop, 0], band)
        else:
            out[:, first:last].baddbmm_(band.T.expand(g.shape[0], -1, -1), g[:, start:stop])
    return out


def _memory_format(dims: int, channels_last: bool) -> torch.memory_format:
    return _CHANNELS_LAST[dims] if channels_last else torch.contiguous_format


@interpolate_taps.register_fake
def _(y: Tensor, size: Sequence[int], taps: Sequence[int], channels_last: bool) -> Tensor:
    shape = (y.shape[0], y.shape[1] // prod(taps), *size)
    return torch.empty_like(y.new_empty(shape), memory_format=_memory_format(len(size), channels_last))


@_interpolate_taps_adjoint.register_fake
def _(g: Tensor, grid: Sequence[int], taps: Sequence[int], channels_last: bool) -> Tensor:
    shape = (g.shape[0], g.shape[1] * prod(taps), *grid)
    return torch.empty_like(g.new_empty(shape), memory_format=_memory_format(len(grid), channels_last))


def _remember(ctx: Any, inputs: tuple[Tensor, Sequence[int], Sequence[int], bool], output: Tensor) -> None:
    y, _, ctx.taps, ctx.channels_last = inputs
    ctx.grid = y.shape[2:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    return _interpolate_taps_adjoint(grad, ctx.grid, ctx.taps, ctx.channels_last), None, None, None


interpolate_taps.register_autograd(_backward, setup_context=_remember)


@register_flop_formula(torch.ops.nnunetv2_unet3plus.interpolate_taps)
def _flop(y: torch.Size, size: Sequence[int], taps: Sequence[int], *_: Any, **__: Any) -> int:
    """For PyTorch's counter: two a multiplication."""
    samples, channels, *grid = y
    return 2 * samples * _work_of_matrices(channels // prod(taps), grid, size, taps)


class _ResizeConv:
    """The constructor and forward shared by the 2D and the 3D operator."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sequence[int], bias: bool = True) -> None:
        if any(k not in (1, 3) for k in kernel_size):
            raise ValueError(
                f"resize_conv knows kernels of 1 or 3 along each axis, not {tuple(kernel_size)}: "
                "set kernel_sizes of this stage to 1 or 3."
            )
        super().__init__(in_channels, out_channels, kernel_size, padding=_same_padding(kernel_size), bias=bias)  # type: ignore[call-arg]

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Interpolate ``x`` of shape ``(B, C, *grid)`` to ``size`` (None: its own) and convolve; ``(B, O, *size)``."""
        return resize_conv(x, self.weight, self.bias, x.shape[2:] if size is None else size)  # type: ignore[attr-defined]


class ResizeConv2d(_ResizeConv, nn.Conv2d):
    """``nn.Conv2d`` over a bilinearly resized map; parameters and state dict are those of ``nn.Conv2d``."""


class ResizeConv3d(_ResizeConv, nn.Conv3d):
    """``nn.Conv3d`` over a trilinearly resized map; parameters and state dict are those of ``nn.Conv3d``."""


class _ConcatConv:
    """The forward shared by the 2D and the 3D operator; the constructor is that of a conv, which blocks call."""

    def forward(self, maps: Tensor | Sequence[Tensor]) -> Tensor:
        """Resize ``maps``, each ``(B, C_k, *grid_k)``, to the grid of the first, concatenate, convolve."""
        maps = [maps] if isinstance(maps, Tensor) else maps
        return resize_conv_of_concatenation(maps, self.weight, self.bias, maps[0].shape[2:])  # type: ignore[attr-defined]


class ConcatConv2d(_ConcatConv, nn.Conv2d):
    """``nn.Conv2d`` of stride 1 over a concatenation of maps, each resized to the grid of the first."""


class ConcatConv3d(_ConcatConv, nn.Conv3d):
    """``nn.Conv3d`` of stride 1 over a concatenation of maps, each resized to the grid of the first."""


def matching_resize_conv(conv_op: type[nn.Module]) -> type[ResizeConv2d] | type[ResizeConv3d]:
    """The operator for ``nn.Conv2d`` or ``nn.Conv3d``."""
    return {2: ResizeConv2d, 3: ResizeConv3d}[_dimensions(conv_op)]  # type: ignore[return-value]


def matching_concat_conv(conv_op: type[nn.Module]) -> type[ConcatConv2d] | type[ConcatConv3d]:
    """The operator for ``nn.Conv2d`` or ``nn.Conv3d``."""
    return {2: ConcatConv2d, 3: ConcatConv3d}[_dimensions(conv_op)]  # type: ignore[return-value]


def _dimensions(conv_op: type[nn.Module]) -> int:
    if conv_op not in (nn.Conv2d, nn.Conv3d):
        raise ValueError(f"conv_op must be torch.nn.Conv2d or torch.nn.Conv3d, not {conv_op}.")
    return 2 if conv_op is nn.Conv2d else 3
