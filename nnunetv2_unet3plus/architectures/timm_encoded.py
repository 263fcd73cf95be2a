"""UNet 3+, UNet++ and UNet# on the encoders of the UNet 3+ paper's table 1: VGG-16 and ResNet-101, by timm."""

from typing import Any, ClassVar

from torch import nn

from nnunetv2_unet3plus.architectures.encoder_decoder import EncoderDecoderNetwork
from nnunetv2_unet3plus.architectures.unet3plus import UNet3Plus
from nnunetv2_unet3plus.architectures.unetplusplus import UNetPlusPlus
from nnunetv2_unet3plus.architectures.unetsharp import UNetSharp
from nnunetv2_unet3plus.building_blocks.timm_encoder import TimmEncoder


class TimmEncoded(EncoderDecoderNetwork):
    """A classifier of timm instead of nnU-Net's encoder; of the plan counts what the decoder is made of.

    Attributes:
        stages: of the encoder, the first at full resolution.
    """

    key_to_encoder = "encoder.body"
    stages: ClassVar[int]

    @classmethod
    def topology(cls, plan: dict[str, Any]) -> dict[str, Any]:
        """As many stages as the classifier has; its own width, kernels and strides."""
        return plan | {"n_stages": cls.stages}


class VGG16Encoded(TimmEncoded):
    """VGG-16 with batch norm up to the last of its five groups of convs, 64 to 512 features."""

    stages = 5

    @staticmethod
    def build_encoder(input_channels: int, **plan: Any) -> nn.Module:
        """VGG-16."""
        return TimmEncoder(input_channels, "vgg16_bn", **plan)


class ResNet101Encoded(TimmEncoded):
    """ResNet-101, 64 to 2048 features, behind a conv block at full resolution."""

    stages = 6

    @staticmethod
    def build_encoder(input_channels: int, **plan: Any) -> nn.Module:
        """ResNet-101."""
        return TimmEncoder(input_channels, "resnet101", **plan)


class UNet3PlusVGG16(VGG16Encoded, UNet3Plus):
    """UNet 3+ on VGG-16."""


class UNet3PlusResNet101(ResNet101Encoded, UNet3Plus):
    """UNet 3+ on ResNet-101."""


class UNetPlusPlusVGG16(VGG16Encoded, UNetPlusPlus):
    """UNet++ on VGG-16."""


class UNetPlusPlusResNet101(ResNet101Encoded, UNetPlusPlus):
    """UNet++ on ResNet-101."""


class UNetSharpVGG16(VGG16Encoded, UNetSharp):
    """UNet# on VGG-16."""


class UNetSharpResNet101(ResNet101Encoded, UNetSharp):
    """UNet# on ResNet-101."""
