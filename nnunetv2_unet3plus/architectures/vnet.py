"""The V-Net family of the UNet# paper (Qian et al., 2022): V-Net's encoder, each decoder.

Milletari, F., et al.: V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation. 3DV 2016.
"""

from typing import Any

from torch import nn

from nnunetv2_unet3plus.architectures.encoder_decoder import EncoderDecoderNetwork
from nnunetv2_unet3plus.architectures.unet import UNet
from nnunetv2_unet3plus.architectures.unet3plus_raw import UNet3PlusRaw
from nnunetv2_unet3plus.architectures.unetplusplus import UNetPlusPlus
from nnunetv2_unet3plus.architectures.unetsharp import UNetSharp
from nnunetv2_unet3plus.building_blocks.vnet_encoder import VNetEncoder, convs_per_stage


class VNetEncoded(EncoderDecoderNetwork):
    """V-Net's encoder instead of nnU-Net's, half as wide as the plan: 16 to 256 where a U-Net has 32 to 512."""

    @classmethod
    def topology(cls, plan: dict[str, Any]) -> dict[str, Any]:
        """Half the features, and the paper's number of convs."""
        features, n_stages = plan["features_per_stage"], plan["n_stages"]
        features = [features] * n_stages if isinstance(features, int) else features
        halved = [max(1, width // 2) for width in features]
        return plan | {"features_per_stage": halved, "n_conv_per_stage": convs_per_stage(n_stages)}

    @staticmethod
    def build_encoder(input_channels: int, **plan: Any) -> nn.Module:
        """V-Net's."""
        return VNetEncoder(input_channels, **plan)


class VNet(VNetEncoded, UNet):
    """V-Net with a plain decoder."""


class VNetPlusPlus(VNetEncoded, UNetPlusPlus):
    """V-Net with nested skips."""


class VNet3Plus(VNetEncoded, UNet3PlusRaw):
    """V-Net with full-scale skips, as the UNet# paper has them."""


class VNetSharp(VNetEncoded, UNetSharp):
    """V-Net with nested and full-scale skips."""
