"""Norm and nonlinearity in one operator that keeps its input alone, and in the memory format it is given.

PyTorch's two keep a map each for the backward pass, and its instance norm copies maps in channels-last format, the one
in which convolutions on the CPU are fastest. Both are memory-bound there: here every map is walked through in pieces
that stay in the cache, once in the forward and twice in the backward pass.

The norms of the branches of a concatenation act on single channels. So the operator takes a list of maps, too, and
writes each to its place in the concatenation.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.instancenorm import _InstanceNorm

from nnunetv2_unet3plus.building_blocks.recompute import derived, own_operators_apply
from nnunetv2_unet3plus.building_blocks.winograd import fastest_form

VALUES_PER_PIECE = 2**17  # half a MB: a few such pieces fit the second-level cache of a core

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def statistics(maps: Sequence[Tensor], per_sample: bool) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance of every channel of a concatenation, each ``(B, C)``, over the batch ``(1, C)``."""
    pairs = [_statistics(x, per_sample) for x in maps]
    mean, variance = (torch.cat(parts, dim=1) for parts in zip(*pairs, strict=True))
    return mean, variance


def _statistics(x: Tensor, per_sample: bool) -> tuple[Tensor, Tensor]:
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64):  # in either format several times faster
        samples = x.split(1) if per_sample else [x]
        pairs = [torch.batch_norm_update_stats(sample, None, None, 0.0) for sample in samples]
        mean, variance = (torch.stack(parts) for parts in zip(*pairs, strict=True))
        return mean, variance
    dims = [axis for axis in range(x.ndim) if axis != 1 and (axis or not per_sample)]
    variance, mean = torch.var_mean(x.to(_compute_type(x)), dims, correction=0)
    return mean.view(-1, x.shape[1]), variance.view(-1, x.shape[1])


def _compute_type(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _pieces(x: Tensor) -> Iterator[tuple[int, slice, slice]]:
    """Sample, channels and rows of every piece of a map: of all channels where they lie side by side."""
    samples, channels, rows = x.shape[0], x.shape[1], x[0, 0].numel()
    row_step, channel_step = rows, channels
    if x.device.type == "cpu":
        if _is_channels_last(x):
            row_step = max(1, VALUES_PER_PIECE // channels)
        else:  # reductions give every thread a channel
            channel_step = max(torch.get_num_threads(), VALUES_PER_PIECE // rows)
    for sample in range(samples):
        for channel in range(0, channels, channel_step):
            for row in range(0, rows, row_step):
                yield sample, slice(channel, min(channel + channel_step, channels)), slice(row, row + row_step)


def _rows(x: Tensor) -> Tensor:
    """A view ``(B, voxels, C)``."""
    return x.movedim(1, -1).flatten(1, -2)


def _is_channels_last(x: Tensor) -> bool:
    return x.shape[1] == 1 or x.stride(1) == 1


def channels_last(x: Tensor) -> Tensor:
    """``(B, C, *grid)`` in the memory format in which the channels of a voxel lie side by side.

    Said by its strides also where there is a single channel: convolutions go by them. That is no copy.
    """
    memory_format = _CHANNELS_LAST[x.ndim]
    if x.shape[1] > 1 or not x.is_contiguous():
        return x.contiguous(memory_format=memory_format)
    return x.as_strided(x.shape, torch.empty_like(x, memory_format=memory_format, device="meta").stride())


def _empty(maps: Sequence[Tensor], dtype: torch.dtype | None = None) -> Tensor:
    """For the concatenation of maps, in the memory format and, without another, the type of the first."""
    first = maps[0]
    shape = (first.shape[0], sum(x.shape[1] for x in maps), *first.shape[2:])
    memory_format = _CHANNELS_LAST[first.ndim] if _is_channels_last(first) else torch.contiguous_format
    return torch.empty(shape, dtype=dtype or first.dtype, device=first.device, memory_format=memory_format)


def _affine(maps: Sequence[Tensor], scale: Tensor, shift: Tensor, slope: float) -> Tensor:
    """``leaky_relu(scale * x + shift)`` of the concatenation."""
    out = _empty(maps)
    widths = [x.shape[1] for x in maps]
    parts = zip(maps, out.split(widths, 1), scale.split(widths, 1), shift.split(widths, 1), strict=True)
    for x, y, own_scale, own_shift in parts:
        x_rows, y_rows = _rows(x), _rows(y)
        for sample, channels, rows in _pieces(x):
            piece, own = y_rows[sample, rows, channels], (min(sample, len(scale) - 1), channels)
            torch.addcmul(own_shift[own], x_rows[sample, rows, channels], own_scale[own], out=piece)
            if slope == 0:
                piece.clamp_(min=0)  # a slope of zero would make NaN of minus infinity
            elif slope != 1:
                nn.functional.leaky_relu_(piece, slope)
    return out


class _NormNonlin(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, mean: Tensor, deviation: Tensor, slope: float, own: bool, *maps: Tensor
    ) -> Tensor:
        ctx.slope, ctx.own = slope, own
        ctx.save_for_backward(weight, bias, mean, deviation, *maps)
        return _affine(maps, *_scale_and_shift(weight, bias, mean, deviation), slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        weight, bias, mean, deviation, *maps = ctx.saved_tensors
        if _is_channels_last(grad) != _is_channels_last(maps[0]):
            grad = channels_last(grad) if _is_channels_last(maps[0]) else grad.contiguous()
        scale, shift = _scale_and_shift(weight, bias, mean, deviation)
        per_channel = (grad, scale, shift, mean, 1 / deviation)
        parts = zip(maps, *(t.split([x.shape[1] for x in maps], 1) for t in per_channel), strict=True)
        gradients = [_gradients(x, of_y, _Norm(*norm), ctx.slope, ctx.own) for x, of_y, *norm in parts]
        of_maps, of_weight, of_bias = zip(*gradients, strict=True)
        return (torch.cat(of_weight), torch.cat(of_bias), None, None, None, None, *of_maps)


def _scale_and_shift(weight: Tensor, bias: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
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
    scale, shift, mean, inverse = norm
    of_x = _empty([x], scale.dtype)
    x_rows, grad_rows, of_x_rows = _rows(x), _rows(grad), _rows(of_x)
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
    factor, offset = torch.zeros_like(scale), torch.zeros_like(scale)
    if own:
        count = x[0, 0].numel() * x.shape[0] / len(scale)
        factor = -scale * inverse * of_weight / count
        offset = -scale * of_bias / count - factor * mean
    for row, at, piece in walk():
        through_statistics = torch.addcmul(offset[row], piece, factor[row])
        torch.addcmul(through_statistics, of_x_rows[at], scale[row], out=of_x_rows[at])
    return of_x.to(x.dtype), of_weight.sum(0), of_bias.sum(0)


def _sums(grad: Tensor, x: Tensor, mean: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Over the rows of ``(rows, C)``: of ``grad * (x - mean) * inverse``, and of ``grad``."""
    images = (t.T[None, :, None] for t in (grad, x))
    _, weighted, plain = torch.ops.aten.native_batch_norm_backward(
        *images, None, None, None, mean, inverse, True, 0.0, [False, True, True]
    )
    return weighted, plain


class _NormNonlinModule:
    """The forward of the norms below, which hold the parameters of the norm they are named after.

    Attributes:
        nonlin: what follows the norm: LeakyReLU, ReLU or nothing.
    """

    nonlin: nn.Module

    def forward(self, maps: Tensor | Sequence[Tensor]) -> Tensor:
        """Norm and nonlinearity of a map ``(B, C, *grid)``, or of the concatenation of maps ``(B, C_k, *grid)``."""
        maps = [maps] if isinstance(maps, Tensor) else list(maps)
        if not own_operators_apply():  # PyTorch's own operators; more memory, the same numbers
            x = torch.cat(maps, dim=1) if len(maps) > 1 else maps[0]
            return self.nonlin(super().forward(x))  # type: ignore[misc]
        with _without_autocast(maps[0].device.type):
            return self._norm_and_nonlin(maps)

    def _norm_and_nonlin(self, maps: list[Tensor]) -> Tensor:
        norm: Any = self
        own = norm.training or norm.running_mean is None
        with torch.no_grad():
            if own:
                self._require_several_values(maps[0])
                mean, variance = statistics(maps, per_sample=isinstance(self, _InstanceNorm))
                if norm.running_mean is not None:
                    self._remember(mean[0], variance[0], maps[0][:, 0].numel())
            else:
                mean, variance = norm.running_mean[None], norm.running_var[None]
            deviation = (variance + norm.eps).sqrt()
        weight = torch.ones_like(mean[0]) if norm.weight is None else norm.weight
        bias = torch.zeros_like(mean[0]) if norm.bias is None else norm.bias
        slope = _slope(self.nonlin)
        out = _NormNonlin.apply(weight, bias, mean, deviation, slope, own, *maps)
        if out.requires_grad:
            scale, shift = _scale_and_shift(weight.detach(), bias.detach(), mean, deviation)
            derived(out, lambda *maps: _affine(maps, scale, shift, slope), *maps)
        return out

    def _require_several_values(self, x: Tensor) -> None:
        """As PyTorch: there is no variance of a single value.

        Raises:
            ValueError: naming the size.
        """
        values = x[0, 0] if isinstance(self, _InstanceNorm) else x[:, 0]
        if values.numel() == 1:
            raise ValueError(f"Expected more than 1 value per channel to normalise, got input size {tuple(x.shape)}")

    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics of batch norm, which hold the unbiased variance."""
        norm: Any = self
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
        unbiased = variance * (count / max(count - 1, 1))
        norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), norm.momentum)


def _without_autocast(device_type: str) -> AbstractContextManager[object]:
    available = torch.amp.is_autocast_available(device_type)  # not on the meta device
    return torch.autocast(device_type, enabled=False) if available else nullcontext()


class InstanceNormNonlin2d(_NormNonlinModule, nn.InstanceNorm2d):
    """Instance norm and nonlinearity."""


class InstanceNormNonlin3d(_NormNonlinModule, nn.InstanceNorm3d):
    """Instance norm and nonlinearity."""


class BatchNormNonlin2d(_NormNonlinModule, nn.BatchNorm2d):
    """Batch norm and nonlinearity."""


class BatchNormNonlin3d(_NormNonlinModule, nn.BatchNorm3d):
    """Batch norm and nonlinearity."""


_JOINED: dict[type[nn.Module], Any] = {
    nn.InstanceNorm2d: InstanceNormNonlin2d,
    nn.InstanceNorm3d: InstanceNormNonlin3d,
    nn.BatchNorm2d: BatchNormNonlin2d,
    nn.BatchNorm3d: BatchNormNonlin3d,
}


def _slope(nonlin: nn.Module) -> float:
    """Of the nonlinearity below zero; 1 for none."""
    if isinstance(nonlin, nn.LeakyReLU):
        return float(nonlin.negative_slope)
    return 0.0 if isinstance(nonlin, nn.ReLU) else 1.0


def join(norm: Any, nonlin: Any) -> Any:
    """A norm that applies the nonlinearity, too; its parameters and buffers are those of the norm.

    The nonlinearity is to stay where it was, and to be passed over while `applies_nonlin` says so: SyncBatchNorm, which
    takes the place of batch norms in training on several GPUs, applies none.

    Returns:
        The joined module; of what the operator does not know, the norm as it is.
    """
    if type(norm) not in _JOINED or not _has_usual_statistics(norm):
        return norm
    both: Any = _JOINED[type(norm)](norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    both.nonlin = nonlin if type(nonlin) in (nn.LeakyReLU, nn.ReLU) else nn.Identity()
    return both


def applies_nonlin(module: nn.Module) -> bool:
    """Whether a module is a joined norm that applies the nonlinearity after it."""
    return is_joined(module) and not isinstance(module.nonlin, nn.Identity)


class NormThenNonlin(nn.Sequential):
    """Modules in turn; what follows a norm that `applies_nonlin` is passed over."""

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Sequential`."""
        done = False
        for module in self:
            x = x if done else module(x)
            done = not done and applies_nonlin(module)
        return x


def _has_usual_statistics(norm: Any) -> bool:
    """Instance norm's are those of the sample, batch norm's have a running mean."""
    return norm.track_running_stats != isinstance(norm, _InstanceNorm) and norm.momentum is not None


def join_blocks(network: nn.Module) -> None:
    """In all of nnU-Net's conv blocks join norm and nonlinearity, and let the conv know its fastest form.

    Names in the state dict stay.

    Args:
        network: with parameters not yet initialised.
    """
    for block in network.modules():
        if isinstance(block, ConvDropoutNormReLU):
            _join_block(block)


def _join_block(block: ConvDropoutNormReLU) -> None:
    modules = list(block.all_modules)
    block.conv = modules[0] = fastest_form(modules[0])
    at = next((index for index, module in enumerate(modules) if type(module) in _JOINED), None)
    if at is not None:
        block.norm = modules[at] = join(modules[at], modules[at + 1] if at + 1 < len(modules) else None)
    block.all_modules = NormThenNonlin(*modules)


class NormsMaps(nn.Module):
    """Base of what ends in dropout, norm and nonlinearity, as a conv block does, over several maps to concatenate."""

    norm: nn.Module
    nonlin: nn.Module
    dropout: nn.Module
    nonlin_first: bool

    def make_norm(self, encoder: Any, channels: int, nonlin_first: bool) -> None:
        """Make the three as an encoder's blocks are made.

        Args:
            encoder: knows dropout, norm and nonlinearity.
            channels: of all maps together.
            nonlin_first: conv - nonlin - norm instead of conv - norm - nonlin.
        """
        norm = encoder.norm_op(channels, **(encoder.norm_op_kwargs or {})) if encoder.norm_op else nn.Identity()
        nonlin = encoder.nonlin(**(encoder.nonlin_kwargs or {})) if encoder.nonlin else nn.Identity()
        self.norm, self.nonlin = norm if nonlin_first else join(norm, nonlin), nonlin
        self.dropout = encoder.dropout_op(**(encoder.dropout_op_kwargs or {})) if encoder.dropout_op else nn.Identity()
        self.nonlin_first = nonlin_first

    def normed(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps ``(B, C_k, *grid)`` concatenated, normalised and activated: ``(B, sum of C_k, *grid)``."""
        joined = is_joined(self.norm) and isinstance(self.dropout, nn.Identity)
        x = maps if joined else self.dropout(torch.cat(list(maps), dim=1) if len(maps) > 1 else maps[0])
        if self.nonlin_first:
            return self.norm(self.nonlin(x))
        return self.norm(x) if applies_nonlin(self.norm) else self.nonlin(self.norm(x))


def is_joined(norm: nn.Module) -> bool:
    """Whether a norm takes lists of maps, and is as fast in channels-last format."""
    return isinstance(norm, _NormNonlinModule)


def has_slow_norm(network: nn.Module) -> bool:
    """Whether an instance norm is left that would copy maps in channels-last format."""
    return any(isinstance(module, _InstanceNorm) and not is_joined(module) for module in network.modules())
