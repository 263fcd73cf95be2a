"""UNet 3+ for every plan nnU-Net can make.

Huang, H., et al.: UNet 3+: A Full-Scale Connected UNet for Medical Image Segmentation. ICASSP 2020, arXiv:2004.08790.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from dynamic_network_architectures.architectures.abstract_arch import AbstractDynamicNetworkArchitectures
from dynamic_network_architectures.building_blocks.helper import convert_conv_op_to_dim, maybe_convert_scalar_to_list
from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.residual import BasicBlockD, BottleneckD
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from dynamic_network_architectures.initialization.weight_init import InitWeights_He, init_last_bn_before_add_to_0
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from nnunetv2_unet3plus.building_blocks.full_scale_decoder import FullScaleDecoder

IntPerStage = int | Sequence[int]


class UNet3Plus(AbstractDynamicNetworkArchitectures):
    """nnU-Net's encoder with the full-scale decoder of UNet 3+.

    The arguments are those nnU-Net writes into a plans file, for ``PlainConvUNet`` (``n_conv_per_stage``) as for
    ``ResidualEncoderUNet`` (``n_blocks_per_stage``); this class can stand in for either as ``network_class_name``.
    """

    def __init__(  # noqa: D417 - the arguments of nnU-Net's own networks are documented there
        self,
        input_channels: int,
        n_stages: int,
        features_per_stage: IntPerStage,
        conv_op: type[_ConvNd],
        kernel_sizes: int | Sequence[int | Sequence[int]],
        strides: int | Sequence[int | Sequence[int]],
        num_classes: int,
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
        deep_supervision: bool = False,
        block: type[BasicBlockD] | type[BottleneckD] = BasicBlockD,
        bottleneck_channels: IntPerStage | None = None,
        stem_channels: int | None = None,
        nonlin_first: bool = False,
        *,
        cat_channels: int | None = None,
        pool: str = "conv",
    ) -> None:
        """Build the network; arguments not named here are those of ``PlainConvUNet`` and ``ResidualEncoderUNet``.

        Args:
            n_conv_per_stage: convs in each stage of a plain encoder; give this or ``n_blocks_per_stage``.
            n_blocks_per_stage: residual blocks in each stage of a residual encoder.
            n_conv_per_stage_decoder: accepted because plans hold it; a UNet 3+ stage has exactly one fusing conv.
            cat_channels: width of every branch of the decoder; None for half the first stage's width. The paper has
                the whole (64), at several times the price.
            pool: "conv", "max" or "avg": how a plain encoder goes from stage to stage (the paper: "max").

        Raises:
            ValueError: for both or neither kind of encoder, fewer than two stages, a first stage with a stride, a
                kernel other than 1 or 3 along an axis, or own options out of range.
        """
        super().__init__()
        if (n_conv_per_stage is None) == (n_blocks_per_stage is None):
            raise ValueError(
                "UNet3Plus takes n_conv_per_stage (plain encoder) or n_blocks_per_stage (residual encoder): give one."
            )
        if cat_channels is not None and cat_channels < 1:
            raise ValueError(f"cat_channels is the width of a branch, at least 1, not {cat_channels}.")
        if pool not in ("conv", "max", "avg"):
            raise ValueError(f"pool must be 'conv', 'max' or 'avg', not {pool!r}.")
        features = _per_stage(features_per_stage, n_stages)
        kernels = [maybe_convert_scalar_to_list(conv_op, kernel) for kernel in _per_stage(kernel_sizes, n_stages)]
        stage_strides = [maybe_convert_scalar_to_list(conv_op, stride) for stride in _per_stage(strides, n_stages)]
        _check_topology(n_stages, kernels, stage_strides)

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
        self.decoder = FullScaleDecoder(
            self.encoder, num_classes, cat_channels or max(1, features[0] // 2), deep_supervision, nonlin_first
        )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Segment.

        Args:
            x: images of shape ``(B, input_channels, *size)``, any size.

        Returns:
            Logits ``(B, num_classes, *size)``; with deep supervision a list, this first, then one coarser each.
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


def unet3plus_paper(input_channels: int, num_classes: int, deep_supervision: bool = True) -> UNet3Plus:
    """The network of the paper's figure 1: 2D, five stages, VGG blocks and max pooling, 64 channels a branch.

    26,989,637 parameters for three input channels and one class, of which 17,860 are the side heads.

    Args:
        input_channels: 3 in the paper, a slice and its two neighbours.
        num_classes: channels of the logits.
        deep_supervision: return the logits of all five heads.
    """
    network = UNet3Plus(
        input_channels=input_channels,
        n_stages=5,
        features_per_stage=(64, 128, 256, 512, 1024),
        conv_op=nn.Conv2d,
        kernel_sizes=3,
        strides=(1, 2, 2, 2, 2),
        num_classes=num_classes,
        n_conv_per_stage=2,
        conv_bias=True,
        norm_op=nn.BatchNorm2d,
        nonlin=nn.ReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=deep_supervision,
        cat_channels=64,
        pool="max",
    )
    # maps follow the weights' memory format; batch norm is as fast in this one, and convolutions are faster
    return network.to(memory_format=torch.channels_last)


def _per_stage(value: Any, n_stages: int) -> list:
    """One entry a stage: a single number stands for all of them."""
    per_stage = [value] * n_stages if isinstance(value, int) else list(value)
    if len(per_stage) != n_stages:
        raise ValueError(f"A network of {n_stages} stages needs {n_stages} entries, not {len(per_stage)}: {value}")
    return per_stage


def _check_topology(n_stages: int, kernels: list[Sequence[int]], strides: list[Sequence[int]]) -> None:
    if n_stages < 2:
        raise ValueError(f"UNet 3+ joins stages: it needs at least 2, n_stages is {n_stages}.")
    if any(s != 1 for s in strides[0]):
        raise ValueError(
            f"The first stage works at full resolution: set strides[0] to 1, not {tuple(strides[0])}; "
            "its map is where the segmentation is made."
        )
    for stage, kernel in enumerate(kernels):
        if any(k not in (1, 3) for k in kernel):
            raise ValueError(
                f"The full-scale decoder knows kernels of 1 or 3 along each axis, stage {stage} has {tuple(kernel)}: "
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
