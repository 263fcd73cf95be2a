"""Norm and nonlinearity in one operator that keeps its input alone, and in the memory format it is given.

PyTorch's two keep a map each for the backward pass, and its instance norm copies maps in channels-last format. Both are
memory-bound: here every map is walked through twice in the forward pass, for its statistics, then to normalise, and
twice in the backward pass, by compiled loops or, piece by piece, by PyTorch's operators.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nnunetv2_unet3plus.building_blocks.cpu_loops import Loops, loops_for
from nnunetv2_unet3plus.building_blocks.memory_format import (
    channels_last,
    empty_concatenation,
    is_channels_last,
    rows_of,
)

VALUES_PER_PIECE = 2**17  # half a MB: a few such pieces fit the second-level cache of a core
LEAST_CHANNELS = 8  # of the compiled loops, which go by vectors of channels


def statistics(maps: Sequence[Tensor], per_sample: bool) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance of every channel of a concatenation, each ``(B, C)``, over the batch ``(1, C)``."""
    pairs = [_statistics(x, per_sample) for x in maps]
    mean, variance = (torch.cat(parts, dim=1) for parts in zip(*pairs, strict=True))
    return mean, variance


def _statistics(x: Tensor, per_sample: bool) -> tuple[Tensor, Tensor]:
    loops = _loops_for(x)
    if loops is not None:
        return _statistics_by_loops(loops, rows_of(x) if per_sample else rows_of(x).flatten(0, 1)[None])
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64):  # in either format several times faster
        samples = x.split(1) if per_sample else [x]
        pairs = [torch.batch_norm_update_stats(sample, None, None, 0.0) for sample in samples]
        mean, variance = (torch.stack(parts) for parts in zip(*pairs, strict=True))
        return mean, variance
    dims = [axis for axis in range(x.ndim) if axis != 1 and (axis or not per_sample)]
    variance, mean = torch.var_mean(x.to(_compute_type(x)), dims, correction=0)
    return mean.view(-1, x.shape[1]), variance.view(-1, x.shape[1])


def _statistics_by_loops(loops: Loops, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of ``(B, rows, C)``; a variance is that within the pieces the loop goes by and that between their means."""
    samples, count, channels = rows.shape
    sums = rows.new_zeros(samples, torch.get_num_threads(), 3, channels, dtype=torch.float64)
    for sample, of_sample in zip(rows, sums, strict=True):
        loops.moments(sample, count, channels, of_sample)
    total, within, between = sums.sum(1).unbind(1)
    mean = total / count
    variance = (within + (between - total * mean).clamp(min=0)) / count
    return mean.to(rows.dtype), variance.to(rows.dtype)


def _loops_for(x: Tensor, *others: Tensor) -> Loops | None:
    """The compiled loops, where they apply: to dense maps in channels-last format.

    Args:
        x: the map, ``(B, C, *grid)``.
        *others: maps of its shape, maybe some channels of wider ones, and numbers ``(B, C)``.
    """
    dense = x.movedim(1, -1).is_contiguous() and all(t.stride(1) == 1 for t in others)
    return loops_for(x, *others) if dense and x.shape[1] >= LEAST_CHANNELS else None


def _compute_type(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _pieces(x: Tensor) -> Iterator[tuple[int, slice, slice]]:
    """Sample, channels and rows of every piece of a map: of all channels where they lie side by side."""
    samples, channels, rows = x.shape[0], x.shape[1], x[0, 0].numel()
    row_step, channel_step = rows, channels
    if x.device.type == "cpu":
        if is_channels_last(x):
            row_step = max(1, VALUES_PER_PIECE // channels)
        else:  # reductions give every thread a channel
            channel_step = max(torch.get_num_threads(), VALUES_PER_PIECE // rows)
    for sample in range(samples):
        for channel in range(0, channels, channel_step):
            for row in range(0, rows, row_step):
                yield sample, slice(channel, min(channel + channel_step, channels)), slice(row, row + row_step)


def affine(maps: Sequence[Tensor], scale: Tensor, shift: Tensor, slope: float) -> Tensor:
    """``leaky_relu(scale * x + shift)`` of the concatenation.

    Args:
        maps: of shape ``(B, C_k, *grid)``.
        scale: ``(B, C)``, for all samples ``(1, C)``.
        shift: of the same shape.
        slope: below zero.

    Returns:
        Map of shape ``(B, C, *grid)``.
    """
    out = empty_concatenation(maps)
    widths = [x.shape[1] for x in maps]
    parts = zip(maps, out.split(widths, 1), scale.split(widths, 1), shift.split(widths, 1), strict=True)
    for x, out_of_x, own_scale, own_shift in parts:
        _affine_of_part(x, out_of_x, own_scale, own_shift, slope)
    return out


def _affine_of_part(x: Tensor, out: Tensor, scale: Tensor, shift: Tensor, slope: float) -> None:
    """Write ``leaky_relu(scale * x + shift)`` to some channels of the result, ``out``."""
    x_rows, out_rows = rows_of(x), rows_of(out)
    loops = _loops_for(x, out, scale, shift)
    if loops is not None:
        scale, shift = scale.contiguous(), shift.contiguous()
        for sample, (values, results) in enumerate(zip(x_rows, out_rows, strict=True)):
            at = min(sample, len(scale) - 1)
            loops.norm_nonlin(values, results, results.stride(0), *values.shape, scale[at], shift[at], slope)
        return
    for sample, channels, rows in _pieces(x):
        piece, own = out_rows[sample, rows, channels], (min(sample, len(scale) - 1), channels)
        torch.addcmul(shift[own], x_rows[sample, rows, channels], scale[own], out=piece)
        if slope == 0:
            piece.clamp_(min=0)  # a slope of zero would make NaN of minus infinity
        elif slope != 1:
            nn.functional.leaky_relu_(piece, slope)


def norm_nonlin(
    maps: Sequence[Tensor], weight: Tensor, bias: Tensor, mean: Tensor, deviation: Tensor, slope: float, own: bool
) -> Tensor:
    """Norm and nonlinearity of the concatenation of maps, of which autograd keeps the maps alone.

    Args:
        maps: of shape ``(B, C_k, *grid)``.
        weight: of the norm, a number a channel.
        bias: of the norm.
        mean: ``(B, C)``, over the batch ``(1, C)``.
        deviation: of the same shape.
        slope: of the nonlinearity below zero.
        own: whether mean and deviation are those of the maps, and depend on them.

    Returns:
        Map of shape ``(B, C, *grid)``.
    """
    return _NormNonlin.apply(weight, bias, mean, deviation, slope, own, *maps)


class _NormNonlin(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, mean: Tensor, deviation: Tensor, slope: float, own: bool, *maps: Tensor
    ) -> Tensor:
        ctx.slope, ctx.own = slope, own
        ctx.save_for_backward(weight, bias, mean, deviation, *maps)
        return affine(maps, *scale_and_shift(weight, bias, mean, deviation), slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        weight, bias, mean, deviation, *maps = ctx.saved_tensors
        if is_channels_last(grad) != is_channels_last(maps[0]):
            grad = channels_last(grad) if is_channels_last(maps[0]) else grad.contiguous()
        scale, shift = scale_and_shift(weight, bias, mean, deviation)
        per_channel = (grad, scale, shift, mean, 1 / deviation)
        parts = zip(maps, *(t.split([x.shape[1] for x in maps], 1) for t in per_channel), strict=True)
        gradients = [_gradients(x, of_y, _Norm(*norm), ctx.slope, ctx.own) for x, of_y, *norm in parts]
        of_maps, of_weight, of_bias = zip(*gradients, strict=True)
        return (torch.cat(of_weight), torch.cat(of_bias), None, None, None, None, *of_maps)


def scale_and_shift(weight: Tensor, bias: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Of a norm, which is ``scale * x + shift``: both ``(B, C)`` as mean and deviation; weight and bias ``(C,)``."""
    scale = weight / deviation
    return scale, bias - mean * scale


class _Norm(NamedTuple):
    """A norm of some channels; each of shape ``(B, C)``, over the batch ``(1, C)``."""

    scale: Tensor
    shift: Tensor
    """The norm is ``scale * x + shift``."""
    mean: Tensor
    inverse: Tensor
    """Of the standard deviation."""


def _gradients(x: Tensor, grad: Tensor, norm: _Norm, slope: float, own: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a map, of the norm's weight and of its bias; the norm's output is computed again.

    Args:
        x: map before the norm, ``(B, C, *grid)``.
        grad: gradient of what comes after the nonlinearity, of the same shape.
        norm: of these channels.
        slope: of the nonlinearity below zero.
        own: whether the norm's statistics are those of the map, and depend on it.
    """
    of_x = empty_concatenation([x], norm.scale.dtype)
    x_rows, grad_rows, of_x_rows = rows_of(x), rows_of(grad), rows_of(of_x)
    loops = _loops_for(x, grad, *norm)
    if loops is not None:
        of_weight, of_bias = _gradients_by_loops(loops, x_rows, grad_rows, of_x_rows, norm, slope, own)
    else:
        of_weight, of_bias = _gradients_by_pieces(x, x_rows, grad_rows, of_x_rows, norm, slope, own)
    return of_x.to(x.dtype), of_weight.sum(0), of_bias.sum(0)


def _through_statistics(
    norm: _Norm, of_weight: Tensor, of_bias: Tensor, own: bool, x_rows: Tensor
) -> tuple[Tensor, Tensor]:
    """Factor and offset of what comes to the gradient of x by way of the norm's mean and variance."""
    if not own:
        return torch.zeros_like(norm.scale), torch.zeros_like(norm.scale)
    count = x_rows.shape[1] * x_rows.shape[0] / len(norm.scale)
    factor = -norm.scale * norm.inverse * of_weight / count
    return factor, -norm.scale * of_bias / count - factor * norm.mean


def _gradients_by_loops(
    loops: Loops, x_rows: Tensor, grad_rows: Tensor, of_x_rows: Tensor, norm: _Norm, slope: float, own: bool
) -> tuple[Tensor, Tensor]:
    """Write the gradient of x; of the norm's weight and bias ``(B, C)``, over the batch ``(1, C)``."""
    norm = _Norm(*(part.contiguous() for part in norm))
    (samples, rows, channels), stride, threads = x_rows.shape, grad_rows.stride(1), torch.get_num_threads()
    sums = x_rows.new_zeros(len(norm.scale), threads, 2, channels, dtype=torch.float64)
    size = (stride, rows, channels)
    for sample in range(samples):
        at = min(sample, len(norm.scale) - 1)
        of_norm = [part[at] for part in norm]
        loops.norm_nonlin_sums(x_rows[sample], grad_rows[sample], *size, *of_norm, slope, sums[at])
    of_bias, of_weight = sums.sum(1).to(norm.scale.dtype).unbind(1)
    statistics = _through_statistics(norm, of_weight, of_bias, own, x_rows)
    for sample in range(samples):
        at = min(sample, len(norm.scale) - 1)
        parts = (part[at] for part in (norm.scale, norm.shift, *statistics))
        loops.norm_nonlin_gradient(
            x_rows[sample], grad_rows[sample], stride, of_x_rows[sample], rows, channels, *parts, slope
        )
    return of_weight, of_bias


def _gradients_by_pieces(
    x: Tensor, x_rows: Tensor, grad_rows: Tensor, of_x_rows: Tensor, norm: _Norm, slope: float, own: bool
) -> tuple[Tensor, Tensor]:
    """As `_gradients_by_loops`, with PyTorch's operators."""
    scale, shift, mean, inverse = norm
    of_weight, of_bias = torch.zeros_like(scale), torch.zeros_like(scale)

    leaky_relu_backward = torch.ops.aten.leaky_relu_backward.grad_input

    def walk() -> Iterator[tuple[tuple[int, slice], tuple[int, slice, slice], Tensor]]:
        for sample, channels, rows in _pieces(x):
            at = (sample, rows, channels)
            yield (min(sample, len(scale) - 1), channels), at, x_rows[at].to(scale.dtype)

    for row, at, piece in walk():
        of_norm = of_x_rows[at]  # from which the second walk makes that of the map
        if slope == 1:
            of_norm.copy_(grad_rows[at])
        else:
            normed = torch.addcmul(shift[row], piece, scale[row])
            leaky_relu_backward(grad_rows[at].to(scale.dtype), normed, slope, False, grad_input=of_norm)
        weighted, plain = _sums(of_norm, piece, mean[row], inverse[row])
        of_weight[row] += weighted
        of_bias[row] += plain
    factor, offset = _through_statistics(norm, of_weight, of_bias, own, x_rows)
    for row, at, piece in walk():
        through_statistics = torch.addcmul(offset[row], piece, factor[row])
        torch.addcmul(through_statistics, of_x_rows[at], scale[row], out=of_x_rows[at])
    return of_weight, of_bias


def _sums(grad: Tensor, x: Tensor, mean: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Over the rows of ``(rows, C)``: of ``grad * (x - mean) * inverse``, and of ``grad``."""
    images = (t.T[None, :, None] for t in (grad, x))
    _, weighted, plain = torch.ops.aten.native_batch_norm_backward(
        *images, None, None, None, mean, inverse, True, 0.0, [False, True, True]
    )
    return weighted, plain
