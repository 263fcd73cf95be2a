"""The networks of the papers' tables, fixed in size as published: five stages, VGG blocks, max pooling.

UNet 3+: Huang et al., ICASSP 2020. UNet++: Zhou et al., TMI 2020. UNet#: Qian et al., 2022. Parameters are of networks
without the side heads that `deep_supervision` is about, for the input channels the paper had and one class.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from nnunetv2_unet3plus.architectures.unet import UNet
from nnunetv2_unet3plus.architectures.unet3plus import UNet3Plus
from nnunetv2_unet3plus.architectures.unet3plus_cgm import UNet3PlusCGM
from nnunetv2_unet3plus.architectures.unet3plus_raw import UNet3PlusRaw
from nnunetv2_unet3plus.architectures.unetplusplus import UNetPlusPlus
from nnunetv2_unet3plus.architectures.unetsharp import UNetSharp
from nnunetv2_unet3plus.architectures.vnet import VNet, VNet3Plus, VNetPlusPlus, VNetSharp
from nnunetv2_unet3plus.building_blocks.concat_decoder import FarEdges, NodeStyle

NARROW = (32, 64, 128, 256, 512)
NARROW_WIDENED = (35, 70, 140, 280, 560)
WIDE = (64, 128, 256, 512, 1024)
VNET_WIDENED = (36, 72, 144, 288, 576)  # halved by V-Net's encoder


def paper_plan(features: Sequence[int], dims: int = 2, norm: bool = True) -> dict[str, Any]:
    """What a plans file would say about the papers' encoder: two conv - batch norm - ReLU with bias a stage."""
    return {
        "n_stages": 5,
        "features_per_stage": features,
        "conv_op": {2: nn.Conv2d, 3: nn.Conv3d}[dims],
        "kernel_sizes": 3,
        "strides": (1, 2, 2, 2, 2),
        "n_conv_per_stage": 2,
        "conv_bias": True,
        "norm_op": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims] if norm else None,
        "nonlin": nn.ReLU,
        "nonlin_kwargs": {"inplace": True},
        "pool": "max",
    }


def unet3plus_paper(input_channels: int, num_classes: int, deep_supervision: bool = True) -> UNet3Plus:
    """UNet 3+ of its own paper: 64 channels a branch; 26,971,777 parameters for three input channels.

    Args:
        input_channels: 3 in the paper, a slice and its two neighbours.
        num_classes: channels of the logits.
        deep_supervision: return the logits of all five heads.
    """
    return UNet3Plus(input_channels, num_classes, deep_supervision, cat_channels=64, **paper_plan(WIDE))


def unet3plus_paper_cgm(input_channels: int, num_classes: int, deep_supervision: bool = True) -> UNet3PlusCGM:
    """The same with its classification gate, one a class; 26,991,687 with all heads for one class."""
    plan = paper_plan(WIDE)
    return UNet3PlusCGM(input_channels, num_classes, deep_supervision, regions=True, cat_channels=64, **plan)


def unet3plus_paper_unet(input_channels: int, num_classes: int, deep_supervision: bool = False) -> UNet:
    """U-Net of the UNet 3+ paper: nodes without norm, 4 x 4 transposed convs; 39,394,881 for one input channel."""
    style = NodeStyle(transposed=4, norm=False, head_kernel=3)
    return UNet(input_channels, num_classes, deep_supervision, style=style, **paper_plan(WIDE))


def unet3plus_paper_unetplusplus(input_channels: int, num_classes: int, deep_supervision: bool = True) -> UNetPlusPlus:
    """UNet++ of the UNet 3+ paper; 47,176,132 with its four heads, for three input channels."""
    style = NodeStyle(transposed=4, norm=False)
    return UNetPlusPlus(input_channels, num_classes, deep_supervision, style=style, **paper_plan(WIDE))


def unetplusplus_paper_unet(input_channels: int, num_classes: int, deep_supervision: bool = False) -> UNet:
    """U-Net of the UNet++ paper: no norm, 2 x 2 transposed convs; 7,759,521 for one input channel."""
    style = NodeStyle(transposed=2)
    return UNet(input_channels, num_classes, deep_supervision, style=style, **paper_plan(NARROW, norm=False))


def unetplusplus_paper(input_channels: int, num_classes: int, deep_supervision: bool = True) -> UNetPlusPlus:
    """UNet++ of its own paper, made as its U-Net; 9,041,601 for one input channel, with four heads 9,041,700."""
    style = NodeStyle(transposed=2)
    return UNetPlusPlus(input_channels, num_classes, deep_supervision, style=style, **paper_plan(NARROW, norm=False))


def unetsharp_paper_unet(input_channels: int, num_classes: int, deep_supervision: bool = False) -> UNet:
    """U-Net of the UNet# paper: bilinear interpolation; 7,852,545 for three input channels."""
    return UNet(input_channels, num_classes, deep_supervision, **paper_plan(NARROW))


def unetsharp_paper_wide_unet(input_channels: int, num_classes: int, deep_supervision: bool = False) -> UNet:
    """The same with 35 to 560 features; 9,392,916."""
    return UNet(input_channels, num_classes, deep_supervision, **paper_plan(NARROW_WIDENED))


def unetsharp_paper_unetplusplus(input_channels: int, num_classes: int, deep_supervision: bool = True) -> UNetPlusPlus:
    """UNet++ of the UNet# paper, made as its U-Net; 9,163,329 for three input channels, with four heads 9,163,428."""
    return UNetPlusPlus(input_channels, num_classes, deep_supervision, **paper_plan(NARROW))


def unetsharp_paper_unet3plus(input_channels: int, num_classes: int, deep_supervision: bool = True) -> UNet3PlusRaw:
    """UNet 3+ of the UNet# paper, raw concatenations; 9,787,905 for three input channels."""
    return UNet3PlusRaw(input_channels, num_classes, deep_supervision, **paper_plan(NARROW))


def unetsharp_paper(
    input_channels: int,
    num_classes: int,
    deep_supervision: bool = True,
    far_edges: FarEdges = "conv",
    prune_level: int | None = None,
) -> UNetSharp:
    """UNet# of its own paper; 9,716,545 for three input channels. Its pruned L1 to L3 were counted with raw edges."""
    plan = paper_plan(NARROW)
    return UNetSharp(
        input_channels, num_classes, deep_supervision, far_edges=far_edges, prune_level=prune_level, **plan
    )


def unetsharp_paper_vnet(input_channels: int, num_classes: int, deep_supervision: bool = False) -> VNet:
    """V-Net of the UNet# paper: trilinear interpolation; 26,388,385 for one input channel."""
    return VNet(input_channels, num_classes, deep_supervision, **paper_plan(NARROW, dims=3))


def unetsharp_paper_wide_vnet(input_channels: int, num_classes: int, deep_supervision: bool = False) -> VNet:
    """The same with 18 to 288 features; 33,396,373."""
    return VNet(input_channels, num_classes, deep_supervision, **paper_plan(VNET_WIDENED, dims=3))


def unetsharp_paper_vnetplusplus(input_channels: int, num_classes: int, deep_supervision: bool = True) -> VNetPlusPlus:
    """V-Net++ of the UNet# paper; 27,370,945 for one input channel."""
    return VNetPlusPlus(input_channels, num_classes, deep_supervision, **paper_plan(NARROW, dims=3))


def unetsharp_paper_vnet3plus(input_channels: int, num_classes: int, deep_supervision: bool = True) -> VNet3Plus:
    """V-Net3+ of the UNet# paper; 27,839,905 for one input channel."""
    return VNet3Plus(input_channels, num_classes, deep_supervision, **paper_plan(NARROW, dims=3))


def unetsharp_paper_vnetsharp(
    input_channels: int, num_classes: int, deep_supervision: bool = True, far_edges: FarEdges = "raw"
) -> VNetSharp:
    """V-Net# of the UNet# paper; 28,559,809 with raw far edges, for one input channel (published: 28.37 million)."""
    plan = paper_plan(NARROW, dims=3)
    return VNetSharp(input_channels, num_classes, deep_supervision, far_edges=far_edges, **plan)
