"""A convolution over an interpolated map, computed where it is cheap: on the coarse grid.

UNet 3+ (Huang et al., ICASSP 2020, eq. 1) upsamples every coarser map and then convolves it. Both steps are linear and
act on different axes, so their order can be exchanged without changing the function:

1. mix the channels on the coarse grid: one convolution to ``taps x out_channels`` channels,
2. per resized axis, multiply by one small matrix that interpolates and shifts each tap to its place at once.

With ``U`` the 1-D interpolation matrix and ``S_k`` the shift by ``k`` rows that zero padding implies, the matrix of an
axis with three taps is ``[S_-1 U | S_0 U | S_+1 U]``. An axis that is not resized keeps its taps in the convolution.
The upsampled map is never stored, and the channel mixing, the dear part, runs on a fraction of the voxels.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import register_flop_formula

from nnunetv2_unet3plus.building_blocks.memory_format import channels_last
from nnunetv2_unet3plus.building_blocks.recompute import derived
from nnunetv2_unet3plus.building_blocks.resize_conv_tiles import resize_conv_by_tiles, tiles_apply
from nnunetv2_unet3plus.building_blocks.tap_matrix import (
    blocks_of_rows,
    cached_tap_matrix,
    product_adjoint,
    product_by_blocks,
    work_of_matrices,
)
from nnunetv2_unet3plus.building_blocks.winograd import conv

_INTERPOLATION = {2: "bilinear", 3: "trilinear"}


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
    return derived(_interpolate(x, tuple(size)), lambda x: _interpolate(x, tuple(size)), x)


def _interpolate(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return functional.interpolate(x, size=size, mode=_INTERPOLATION[x.ndim - 2], align_corners=False)


def concatenate(maps: Sequence[Tensor]) -> Tensor:
    """Along the channels; a single one is no copy, and autograd keeps the maps instead of the concatenation."""
    if len(maps) == 1:
        return maps[0]
    return derived(torch.cat(list(maps), dim=1), lambda *maps: torch.cat(maps, dim=1), *maps)


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
    if tiles_apply(x, weight):
        return resize_conv_by_tiles(x, weight, bias, size)
    axes = _axes_by_matrix(tuple(x.shape[2:]), weight, size)
    y = mix_channels(x, weight, bias, axes)
    taps = [k if axis in axes else 1 for axis, k in enumerate(weight.shape[2:])]
    out = interpolate_taps(y.contiguous(), size, taps)
    return out if y.is_contiguous() else channels_last(out)


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
    here, weights = zip(*(part for part in parts if tuple(part[0].shape[2:]) == size), strict=True)
    out = conv(concatenate(here), concatenate(weights), bias)
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


def mix_channels(x: Tensor, weight: Tensor, bias: Tensor | None, axes: Sequence[int]) -> Tensor:
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


def _work_fine(weight: Tensor, size: tuple[int, ...]) -> int:
    """Multiplications per sample of interpolating first; the interpolation itself is not counted."""
    return prod(size) * weight.numel()


def _work_coarse(weight: Tensor, grid: tuple[int, ...], size: tuple[int, ...]) -> int:
    """Multiplications per sample of mixing channels on the coarse grid and multiplying by the matrices."""
    taps = [1 if n == m else k for n, m, k in zip(grid, size, weight.shape[2:], strict=True)]
    return prod(grid) * weight.numel() + work_of_matrices(weight.shape[0], grid, size, taps)


# Both directions are operators of their own, so that torch.compile sees one node and not a loop over blocks, and
# autograd does not write a full-size zero tensor for every block, as it would for slices joined by torch.cat.


@torch.library.custom_op("nnunetv2_unet3plus::interpolate_taps", mutates_args=())
def interpolate_taps(y: Tensor, size: Sequence[int], taps: Sequence[int]) -> Tensor:
    """Multiply every axis that is resized or has taps by its `tap_matrix`.

    Args:
        y: mixed channels of shape `(B, prod(taps) * O, *grid)`, contiguous.
        size: the grid of the result.
        taps: 1 or 3 for each axis.

    Returns:
        Map of shape `(B, O, *size)`.
    """
    grid, dims = y.shape[2:], len(size)
    y = y.unflatten(1, (*taps, y.shape[1] // prod(taps)))
    # (B, *taps, O, *grid) -> (B, O, n1, taps1, n2, taps2, ...), the form _along_axis works on
    y = y.permute(0, 1 + dims, *(i for axis in range(dims) for i in (2 + dims + axis, 1 + axis)))
    for axis in reversed(range(dims)):
        y = _along_axis(y, axis, grid[axis], size[axis], taps[axis])
    return y.squeeze(tuple(range(3, 3 + 2 * dims, 2))).contiguous()


@torch.library.custom_op("nnunetv2_unet3plus::interpolate_taps_adjoint", mutates_args=())
def _interpolate_taps_adjoint(g: Tensor, grid: Sequence[int], taps: Sequence[int]) -> Tensor:
    """The transposed matrices in the opposite order, `(B, O, *size)` to `(B, prod(taps) * O, *grid)`."""
    size, dims = g.shape[2:], len(grid)
    for axis in range(dims):
        g = g.unsqueeze(3 + 2 * axis)
    for axis in range(dims):
        g = _along_axis(g, axis, grid[axis], size[axis], taps[axis], adjoint=True)
    rows, tap = range(2, 2 + 2 * dims, 2), range(3, 3 + 2 * dims, 2)
    return g.permute(0, *tap, 1, *rows).reshape(g.shape[0], -1, *grid)


def _along_axis(y: Tensor, axis: int, n: int, m: int, taps: int, adjoint: bool = False) -> Tensor:
    """Multiply one axis of `(B, O, n1, taps1, n2, taps2, ...)`; one that is interpolated has a single tap."""
    if (n, taps) == (m, 1):
        return y
    at = 2 + 2 * axis
    before, after = y.shape[:at], y.shape[at + 2 :]
    matrix = cached_tap_matrix(n, m, taps, y.dtype, y.device)
    product, result = (product_adjoint, (n, taps)) if adjoint else (product_by_blocks, (m, 1))
    y = product(y.reshape(prod(before), -1, prod(after)), matrix, blocks_of_rows(n, m, taps, on_gpu=y.is_cuda))
    return y.view(*before, *result, *after)


@interpolate_taps.register_fake
def _(y: Tensor, size: Sequence[int], taps: Sequence[int]) -> Tensor:
    return y.new_empty(y.shape[0], y.shape[1] // prod(taps), *size)


@_interpolate_taps_adjoint.register_fake
def _(g: Tensor, grid: Sequence[int], taps: Sequence[int]) -> Tensor:
    return g.new_empty(g.shape[0], g.shape[1] * prod(taps), *grid)


def _remember(ctx: Any, inputs: tuple[Tensor, Sequence[int], Sequence[int]], output: Tensor) -> None:
    y, _, ctx.taps = inputs
    ctx.grid = y.shape[2:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return _interpolate_taps_adjoint(grad, ctx.grid, ctx.taps), None, None


interpolate_taps.register_autograd(_backward, setup_context=_remember)


@register_flop_formula(torch.ops.nnunetv2_unet3plus.interpolate_taps)
def _flop(y: torch.Size, size: Sequence[int], taps: Sequence[int], *_: Any, **__: Any) -> int:
    """For PyTorch's counter: two a multiplication."""
    samples, channels, *grid = y
    return 2 * samples * work_of_matrices(channels // prod(taps), grid, size, taps)


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
