"""What all our networks share: nnU-Net's encoder, built from the arguments a plans file holds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from dynamic_network_architectures.architectures.abstract_arch import AbstractDynamicNetworkArchitectures
from dynamic_network_architectures.building_blocks.helper import convert_conv_op_to_dim, maybe_convert_scalar_to_list
from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.residual import BasicBlockD, BottleneckD
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from dynamic_network_architectures.initialization.weight_init import InitWeights_He, init_last_bn_before_add_to_0
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

IntPerStage = int | Sequence[int]

_PER_STAGE = (
    "features_per_stage",
    "kernel_sizes",
    "strides",
    "n_conv_per_stage",
    "n_blocks_per_stage",
    "n_conv_per_stage_decoder",
    "bottleneck_channels",
)


class EncoderDecoderNetwork(AbstractDynamicNetworkArchitectures):
    """nnU-Net's plain or residual encoder; a subclass adds ``self.decoder``, which turns the skips into logits.

    The arguments are those nnU-Net writes into a plans file, for ``PlainConvUNet`` (``n_conv_per_stage``) as for
    ``ResidualEncoderUNet`` (``n_blocks_per_stage``); a subclass can stand in for either as ``network_class_name``.
    """

    decoder: Any

    def __init__(  # noqa: D417 - the arguments of nnU-Net's own networks are documented there
        self,
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
    ) -> None:
        """Build the encoder; arguments not named here are those of ``PlainConvUNet`` and ``ResidualEncoderUNet``.

        Args:
            n_conv_per_stage: convs in each stage of a plain encoder; give this or ``n_blocks_per_stage``.
            n_blocks_per_stage: residual blocks in each stage of a residual encoder.
            n_conv_per_stage_decoder: accepted because plans hold it; the papers say how many convs a decoder has.
            pool: "conv", "max" or "avg": how a plain encoder goes from stage to stage.

        Raises:
            ValueError: for both or neither kind of encoder, fewer than two stages, a first stage with a stride, a
                kernel other than 1 or 3 along an axis, or an unknown pool.
        """
        super().__init__()
        name = type(self).__name__
        if (n_conv_per_stage is None) == (n_blocks_per_stage is None):
            raise ValueError(
                f"{name} takes n_conv_per_stage (plain encoder) or n_blocks_per_stage (residual encoder): give one."
            )
        if pool not in ("conv", "max", "avg"):
            raise ValueError(f"pool must be 'conv', 'max' or 'avg', not {pool!r}.")
        features = _per_stage(features_per_stage, n_stages)
        kernels = [maybe_convert_scalar_to_list(conv_op, kernel) for kernel in _per_stage(kernel_sizes, n_stages)]
        stage_strides = [maybe_convert_scalar_to_list(conv_op, stride) for stride in _per_stage(strides, n_stages)]
        _check_topology(name, n_stages, kernels, stage_strides)

        norm_and_nonlin = (norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs)
        topology = (input_channels, n_stages, features, conv_op, kernels, stage_strides)
        if n_conv_per_stage is not None:
            self.encoder: PlainConvEncoder | ResidualEncoder = PlainConvEncoder(
                *topology,
                n_conv_per_stage,
                conv_bias,
                *norm_and_nonlin,
                return_skips=True,
                nonlin_first=nonlin_first,
                pool=pool,
            )
            self.key_to_stem = "encoder.stages.0"
            in_proj = "encoder.stages.0.0.convs.0"
        else:
            self.encoder = ResidualEncoder(
                *topology,
                n_blocks_per_stage,
                conv_bias,
                *norm_and_nonlin,
                block,
                bottleneck_channels,
                return_skips=True,
                stem_channels=stem_channels,
            )
            self.key_to_stem = "encoder.stem"
            in_proj = "encoder.stem.convs.0"
        _let_pooling_keep_odd_rows(self.encoder)
        self.key_to_encoder = "encoder.stages"
        self.keys_to_in_proj = (f"{in_proj}.conv", f"{in_proj}.all_modules.0")

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Segment.

        Args:
            x: images of shape ``(B, input_channels, *size)``, any size.

        Returns:
            Logits ``(B, num_classes, *size)``; with deep supervision a list of every head's logits, these first.
        """
        return self.decoder(self.encoder(x))

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """Values stored for backward per sample, in the unit nnU-Net's planner budgets with.

        Args:
            input_size: spatial size of the input, without batch and channels.

        Raises:
            ValueError: if ``input_size`` does not have one entry a spatial axis.
        """
        dims = convert_conv_op_to_dim(self.encoder.conv_op)
        if len(input_size) != dims:
            raise ValueError(f"input_size is the spatial size alone: {dims} numbers, not {tuple(input_size)}.")
        return _encoder_feature_map_size(self.encoder, input_size) + self.decoder.compute_conv_feature_map_size(
            input_size
        )

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """He initialisation; residual blocks start as the identity. To be called through ``network.apply``."""
        InitWeights_He(1e-2)(module)
        init_last_bn_before_add_to_0(module)


def first_stages(plan: dict[str, Any], prune_level: int | None) -> dict[str, Any]:
    """A plan's architecture arguments without the stages below ``prune_level``; all of them for None.

    Raises:
        ValueError: for a level that the plan does not have.
    """
    if prune_level is None:
        return plan
    deepest = plan["n_stages"] - 1
    if type(prune_level) is not int or not 1 <= prune_level <= deepest:
        raise ValueError(
            f"prune_level must be 1 to {deepest} in a network of {deepest + 1} stages, not {prune_level!r}."
        )
    kept = {name: plan[name][: prune_level + 1] for name in _PER_STAGE if isinstance(plan.get(name), list | tuple)}
    return plan | kept | {"n_stages": prune_level + 1}


def _per_stage(value: Any, n_stages: int) -> list:
    """One entry a stage: a single number stands for all of them."""
    per_stage = [value] * n_stages if isinstance(value, int) else list(value)
    if len(per_stage) != n_stages:
        raise ValueError(f"A network of {n_stages} stages needs {n_stages} entries, not {len(per_stage)}: {value}")
    return per_stage


def _check_topology(name: str, n_stages: int, kernels: list[Sequence[int]], strides: list[Sequence[int]]) -> None:
    if n_stages < 2:
        raise ValueError(f"{name} joins stages: it needs at least 2, n_stages is {n_stages}.")
    if any(s != 1 for s in strides[0]):
        raise ValueError(
            f"The first stage works at full resolution: set strides[0] to 1, not {tuple(strides[0])}; "
            "its map is where the segmentation is made."
        )
    for stage, kernel in enumerate(kernels):
        if any(k not in (1, 3) for k in kernel):
            raise ValueError(
                f"{name} knows kernels of 1 or 3 along each axis, stage {stage} has {tuple(kernel)}: "
                "change kernel_sizes in the plans."
            )


def _let_pooling_keep_odd_rows(encoder: nn.Module) -> None:
    """Make pooling, of stages and of residual shortcuts, round sizes up as strided convs do: any input size works."""
    for module in encoder.modules():
        if isinstance(module, nn.AvgPool2d | nn.AvgPool3d | nn.MaxPool2d | nn.MaxPool3d):
            module.ceil_mode = True


def _encoder_feature_map_size(encoder: PlainConvEncoder | ResidualEncoder, input_size: Sequence[int]) -> int:
    """The encoder's own count, stage by stage where the stages pool: there its own count forgets the pooling."""
    pools = isinstance(encoder, PlainConvEncoder) and any(len(stage) > 1 for stage in encoder.stages)
    if not pools:
        return int(encoder.compute_conv_feature_map_size(input_size))
    size, total = list(input_size), np.int64(0)
    for stage, stride in zip(encoder.stages, encoder.strides, strict=True):
        size = [n // s for n, s in zip(size, stride, strict=True)]
        total += stage[-1].compute_conv_feature_map_size(size)
    return int(total)
