"""Norm and nonlinearity as one module, in the place of a norm, and nnU-Net's conv blocks made of it.

The norms of the branches of a concatenation act on single channels. So the module takes a list of maps, too, and writes
each to its place in the concatenation.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm

from nnunetv2_unet3plus.building_blocks.norm_operator import affine, norm_nonlin, scale_and_shift, statistics
from nnunetv2_unet3plus.building_blocks.recompute import derived, own_operators_apply
from nnunetv2_unet3plus.building_blocks.winograd import fastest_form


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
        out = norm_nonlin(maps, weight, bias, mean, deviation, slope, own)
        if out.requires_grad:
            scale, shift = scale_and_shift(weight.detach(), bias.detach(), mean, deviation)
            derived(out, lambda *maps: affine(maps, scale, shift, slope), *maps)
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
