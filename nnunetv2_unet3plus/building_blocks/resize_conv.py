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
from functools import lru_cache
from math import floor, prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# Output rows are computed in blocks that need about this many coarse rows: the matrices are banded, so the work per
# row stays constant however large the grid. Smaller blocks cost calls, larger ones multiply by zeros.
COARSE_ROWS_PER_BLOCK = 16

_CONV = {2: functional.conv2d, 3: functional.conv3d}
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
    grid, size = tuple(x.shape[2:]), tuple(size)
    if grid == size or _work_coarse(weight, grid, size) >= _work_fine(weight, size):
        return _CONV[len(size)](resize(x, size), weight, bias, padding=_same_padding(weight.shape[2:]))
    y = _mix_channels(x, weight, grid, size)
    for axis, (n, m) in enumerate(zip(grid, size, strict=True)):
        if n != m:
            y = interpolate_taps(y, m, weight.shape[2 + axis], 2 + axis)
    return y if bias is None else y + bias.to(y.dtype).view(1, -1, *[1] * len(size))


def _same_padding(kernel: Sequence[int]) -> tuple[int, ...]:
    return tuple(k // 2 for k in kernel)


def _mix_channels(x: Tensor, weight: Tensor, grid: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """Convolve on the coarse grid, each tap of a resized axis to a channel of its own.

    Returns:
        Map of shape ``(B, O, *rows)`` with ``rows = taps * n`` on a resized axis (the taps of a row side by side, so
        that the columns a block of output rows needs lie together) and ``n`` on any other.
    """
    out_channels, dims = weight.shape[0], len(grid)
    resized = [axis for axis in range(dims) if grid[axis] != size[axis]]
    kept_kernel = [1 if axis in resized else weight.shape[2 + axis] for axis in range(dims)]
    taps = [weight.shape[2 + axis] if axis in resized else 1 for axis in range(dims)]
    # (O, C, *kernel) -> (O, *taps, C, *kept kernel)
    tap_axes = [2 + axis for axis in resized]
    kept_axes = [2 + axis for axis in range(dims) if axis not in resized]
    mixing = weight.permute(0, *tap_axes, 1, *kept_axes).reshape(-1, weight.shape[1], *kept_kernel)
    y = _CONV[dims](x, mixing, padding=_same_padding(kept_kernel))
    # (B, O, *taps, *grid) -> (B, O, n1, taps1, n2, taps2, ...)
    y = y.view(x.shape[0], out_channels, *taps, *grid)
    interleaved = [i for axis in range(dims) for i in (2 + dims + axis, 2 + axis)]
    return y.permute(0, 1, *interleaved).reshape(
        x.shape[0], out_channels, *(n * t for n, t in zip(grid, taps, strict=True))
    )


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
    work = prod(grid) * weight.numel()
    resized = [n != m for n, m in zip(grid, size, strict=True)]
    rows = [n * k if r else n for n, k, r in zip(grid, weight.shape[2:], resized, strict=True)]
    for axis, (n, m) in enumerate(zip(grid, size, strict=True)):
        if resized[axis]:
            band = sum((stop - start) * (last - first) for start, stop, first, last in _blocks(n, m, rows[axis] // n))
            work += weight.shape[0] * band * prod(rows[:axis] + rows[axis + 1 :])
            rows[axis] = m
    return work


# Both directions are operators of their own, so that torch.compile sees one node and not a loop over blocks, and
# autograd does not write a full-size zero tensor for every block, as it would for slices joined by torch.cat.


@torch.library.custom_op("nnunetv2_unet3plus::interpolate_taps", mutates_args=())
def interpolate_taps(x: Tensor, rows: int, taps: int, axis: int) -> Tensor:
    """Multiply one axis of a tensor by its `tap_matrix`, block by block.

    Args:
        x: of any shape, with `n * taps` entries along `axis`.
        rows: entries of the result along `axis`.
        taps: 1 or 3.
        axis: not negative.
    """
    n = x.shape[axis] // taps
    matrix = _cached_tap_matrix(n, rows, taps, x.dtype, x.device)
    x3 = x.reshape(prod(x.shape[:axis]), x.shape[axis], -1)
    out = x3.new_empty(x3.shape[0], rows, x3.shape[2])
    for start, stop, first, last in _blocks(n, rows, taps):
        band = matrix[start:stop, first:last]
        if x3.shape[2] == 1:  # the last axis: one matrix product instead of many matrix-vector products
            torch.mm(x3[:, first:last, 0], band.T, out=out[:, start:stop, 0])
        else:
            torch.bmm(band.expand(x3.shape[0], -1, -1), x3[:, first:last], out=out[:, start:stop])
    return out.view(_with_entries(x.shape, axis, rows))


@torch.library.custom_op("nnunetv2_unet3plus::interpolate_taps_adjoint", mutates_args=())
def _interpolate_taps_adjoint(grad: Tensor, n: int, taps: int, axis: int) -> Tensor:
    """Multiply one axis by the transposed matrix: the same loop, adding into one tensor."""
    rows = grad.shape[axis]
    matrix = _cached_tap_matrix(n, rows, taps, grad.dtype, grad.device)
    g3 = grad.reshape(prod(grad.shape[:axis]), rows, -1)
    out = g3.new_zeros(g3.shape[0], n * taps, g3.shape[2])
    for start, stop, first, last in _blocks(n, rows, taps):
        band = matrix[start:stop, first:last]
        if g3.shape[2] == 1:
            out[:, first:last, 0].addmm_(g3[:, start:stop, 0], band)
        else:
            out[:, first:last].baddbmm_(band.T.expand(g3.shape[0], -1, -1), g3[:, start:stop])
    return out.view(_with_entries(grad.shape, axis, n * taps))


@interpolate_taps.register_fake
def _(x: Tensor, rows: int, taps: int, axis: int) -> Tensor:
    return x.new_empty(_with_entries(x.shape, axis, rows))


@_interpolate_taps_adjoint.register_fake
def _(grad: Tensor, n: int, taps: int, axis: int) -> Tensor:
    return grad.new_empty(_with_entries(grad.shape, axis, n * taps))


def _remember_sizes(ctx: Any, inputs: tuple[Tensor, int, int, int], output: Tensor) -> None:
    x, _, ctx.taps, ctx.axis = inputs
    ctx.n = x.shape[ctx.axis] // ctx.taps


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    return _interpolate_taps_adjoint(grad, ctx.n, ctx.taps, ctx.axis), None, None, None


interpolate_taps.register_autograd(_backward, setup_context=_remember_sizes)


def _with_entries(shape: Sequence[int], axis: int, entries: int) -> list[int]:
    return [*shape[:axis], entries, *shape[axis + 1 :]]


class _ResizeConv:
    """The constructor and forward shared by the 2D and the 3D operator."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sequence[int], bias: bool = True) -> None:
        if any(k not in (1, 3) for k in kernel_size):
            raise ValueError(
                f"resize_conv knows kernels of 1 or 3 along each axis, not {tuple(kernel_size)}: "
                "set kernel_sizes of this stage to 1 or 3."
            )
        super().__init__(in_channels, out_channels, kernel_size, padding=_same_padding(kernel_size), bias=bias)  # type: ignore[call-arg]

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Interpolate ``x`` of shape ``(B, C, *grid)`` to ``size`` and convolve; returns ``(B, O, *size)``."""
        return resize_conv(x, self.weight, self.bias, size)  # type: ignore[attr-defined]


class ResizeConv2d(_ResizeConv, nn.Conv2d):  # type: ignore[misc]
    """``nn.Conv2d`` over a bilinearly resized map; parameters and state dict are those of ``nn.Conv2d``."""


class ResizeConv3d(_ResizeConv, nn.Conv3d):  # type: ignore[misc]
    """``nn.Conv3d`` over a trilinearly resized map; parameters and state dict are those of ``nn.Conv3d``."""


def matching_resize_conv(conv_op: type[nn.Module]) -> type[ResizeConv2d] | type[ResizeConv3d]:
    """The operator for ``nn.Conv2d`` or ``nn.Conv3d``."""
    if conv_op is nn.Conv2d:
        return ResizeConv2d
    if conv_op is nn.Conv3d:
        return ResizeConv3d
    raise ValueError(f"conv_op must be torch.nn.Conv2d or torch.nn.Conv3d, not {conv_op}.")
