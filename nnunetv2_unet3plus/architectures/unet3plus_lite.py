"""UNet3PlusLite: the full-scale skips of UNet 3+ below the price of a plain U-Net."""

from nnunetv2_unet3plus.architectures.unet3plus import UNet3Plus
from nnunetv2_unet3plus.architectures.unet3plus_cgm import UNet3PlusCGM
from nnunetv2_unet3plus.building_blocks.lite_decoder import LiteStage


class UNet3PlusLite(UNet3Plus):
    """As `UNet3Plus`, with the stages of `LiteStage`."""

    stage_class = LiteStage


class UNet3PlusLiteCGM(UNet3PlusCGM):
    """As `UNet3PlusCGM`, with the stages of `LiteStage`."""

    stage_class = LiteStage
