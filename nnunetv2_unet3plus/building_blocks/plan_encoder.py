"""nnU-Net's encoders, plain and residual, from the arguments a plans file holds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from dynamic_network_architectures.building_blocks.helper import maybe_convert_scalar_to_list
from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.residual import BasicBlockD, BottleneckD
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from nnunetv2_unet3plus.building_blocks.max_pool import MaxPool
from nnunetv2_unet3plus.errors import ConfigurationError

IntPerStage = int | Sequence[int]


def plan_encoder(  # noqa: D417 - the arguments of nnU-Net's own networks are documented there
    input_channels: int,
    n_stages: int,
    features_per_stage: IntPerStage,
    conv_op: type[_ConvNd],
    kernel_sizes: int | Sequence[int | Sequence[int]],
    strides: int | Sequence[int | Sequence[int]],
    n_conv_per_stage: IntPerStage | None = None,
    n_blocks_per_stage: IntPerStage | None = None,
    n_conv_per_stage_decoder: IntPerStage | None = None,
    conv_bias: bool = False,
    norm_op: type[nn.Module] | None = None,
    norm_op_kwargs: dict[str, Any] | None = None,
    dropout_op: type[_DropoutNd] | None = None,
    dropout_op_kwargs: dict[str, Any] | None = None,
    nonlin: type[nn.Module] | None = None,
    nonlin_kwargs: dict[str, Any] | None = None,
    block: type[BasicBlockD] | type[BottleneckD] = BasicBlockD,
    bottleneck_channels: IntPerStage | None = None,
    stem_channels: int | None = None,
    nonlin_first: bool = False,
    pool: str = "conv",
) -> PlainConvEncoder | ResidualEncoder:
    """Build the encoder; arguments not named here are those of ``PlainConvUNet`` and ``ResidualEncoderUNet``.

    Args:
        n_conv_per_stage: convs in each stage of a plain encoder; give this or ``n_blocks_per_stage``.
        n_blocks_per_stage: residual blocks in each stage of a residual encoder.
        n_conv_per_stage_decoder: accepted because plans hold it; the papers say how many convs a decoder has.
        pool: "conv", "max" or "avg": how a plain encoder goes from stage to stage.

    Returns:
        An encoder that returns the maps of all stages, finest first.

    Raises:
        ValueError: for both or neither kind of encoder, fewer than two stages, a first stage with a stride, a kernel
            other than 1 or 3 along an axis, or an unknown pool.
    """
    if (n_conv_per_stage is None) == (n_blocks_per_stage is None):
        raise ConfigurationError(
            "An encoder takes n_conv_per_stage (plain encoder) or n_blocks_per_stage (residual encoder): give one."
        )
    if pool not in ("conv", "max", "avg"):
        raise ConfigurationError(f"pool must be 'conv', 'max' or 'avg', not {pool!r}.")
    features, kernels, stage_strides = checked_topology(conv_op, n_stages, features_per_stage, kernel_sizes, strides)
    norm_and_nonlin = (norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs)
    topology = (input_channels, n_stages, features, conv_op, kernels, stage_strides)
    encoder: PlainConvEncoder | ResidualEncoder
    if n_conv_per_stage is not None:
        encoder = PlainConvEncoder(
            *topology,
            n_conv_per_stage,
            conv_bias,
            *norm_and_nonlin,
            return_skips=True,
            nonlin_first=nonlin_first,
            pool=pool,
        )
    else:
        encoder = ResidualEncoder(
            *topology,
            n_blocks_per_stage,
            conv_bias,
            *norm_and_nonlin,
            block,
            bottleneck_channels,
            return_skips=True,
            stem_channels=stem_channels,
        )
    let_pooling_keep_odd_rows(encoder)
    return encoder


def checked_topology(
    conv_op: type[_ConvNd],
    n_stages: int,
    features_per_stage: IntPerStage,
    kernel_sizes: int | Sequence[int | Sequence[int]],
    strides: int | Sequence[int | Sequence[int]],
) -> tuple[list[int], list[Sequence[int]], list[Sequence[int]]]:
    """Features, kernels and strides of every stage.

    Raises:
        ValueError: for fewer than two stages, too few entries, a first stage with a stride, or a kernel other than 1
            or 3 along an axis.
    """
    features = _per_stage(features_per_stage, n_stages)
    kernels = [maybe_convert_scalar_to_list(conv_op, kernel) for kernel in _per_stage(kernel_sizes, n_stages)]
    stage_strides = [maybe_convert_scalar_to_list(conv_op, stride) for stride in _per_stage(strides, n_stages)]
    if n_stages < 2:
        raise ConfigurationError(f"Skips join stages: a network needs at least 2, n_stages is {n_stages}.")
    if any(s != 1 for s in stage_strides[0]):
        raise ConfigurationError(
            f"The first stage works at full resolution: set strides[0] to 1, not {tuple(stage_strides[0])}; "
            "its map is where the segmentation is made."
        )
    for stage, kernel in enumerate(kernels):
        if any(k not in (1, 3) for k in kernel):
            raise ConfigurationError(
                f"Our decoders know kernels of 1 or 3 along each axis, stage {stage} has {tuple(kernel)}: "
                "change kernel_sizes in the plans."
            )
    return features, kernels, stage_strides


def let_pooling_keep_odd_rows(encoder: nn.Module) -> None:
    """Make pooling, of stages and of residual shortcuts, round sizes up as strided convs do: any input size works."""
    for module in list(encoder.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AvgPool2d | nn.AvgPool3d):
                child.ceil_mode = True
            if isinstance(child, nn.MaxPool2d | nn.MaxPool3d):
                module.register_module(name, MaxPool(child.stride))


def encoder_feature_map_size(encoder: Any, input_size: Sequence[int]) -> int:
    """The encoder's own count, stage by stage where the stages pool: there its own count forgets the pooling."""
    pools = isinstance(encoder, PlainConvEncoder) and any(len(stage) > 1 for stage in encoder.stages)
    if not pools:
        return int(encoder.compute_conv_feature_map_size(input_size))
    size, total = list(input_size), np.int64(0)
    for stage, stride in zip(encoder.stages, encoder.strides, strict=True):
        size = [n // s for n, s in zip(size, stride, strict=True)]
        total += stage[-1].compute_conv_feature_map_size(size)
    return int(total)


def _per_stage(value: Any, n_stages: int) -> list:
    """One entry a stage: a single number stands for all of them."""
    per_stage = [value] * n_stages if isinstance(value, int) else list(value)
    if len(per_stage) != n_stages:
        raise ConfigurationError(
            f"A network of {n_stages} stages needs {n_stages} entries, not {len(per_stage)}: {value}"
        )
    return per_stage
