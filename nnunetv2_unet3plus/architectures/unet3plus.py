"""UNet 3+ for every plan nnU-Net can make.

Huang, H., et al.: UNet 3+: A Full-Scale Connected UNet for Medical Image Segmentation. ICASSP 2020, arXiv:2004.08790.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from torch import nn

from nnunetv2_unet3plus.architectures.encoder_decoder import EncoderDecoderNetwork
from nnunetv2_unet3plus.building_blocks.full_scale_decoder import FullScaleDecoder, FullScaleStage
from nnunetv2_unet3plus.errors import ConfigurationError


class UNet3Plus(EncoderDecoderNetwork):
    """nnU-Net's encoder with the full-scale decoder of UNet 3+: one more logits a stage with deep supervision.

    Attributes:
        stage_class: what builds the decoder's stages.
    """

    stage_class: ClassVar[Callable[..., nn.Module]] = FullScaleStage

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        nonlin_first: bool = False,
        *,
        cat_channels: int | None = None,
        **plan: Any,
    ) -> None:
        """Build the network.

        Args:
            input_channels: channels of the images.
            num_classes: channels of the logits.
            deep_supervision: return the logits of all heads.
            nonlin_first: conv - nonlin - norm instead of conv - norm - nonlin.
            cat_channels: width of every branch of the decoder; None for half the first stage's width. The paper has
                the whole (64), at several times the price.
            **plan: what a plans file says about the encoder, see `plan_encoder`.

        Raises:
            ValueError: for a branch without channels, and as `plan_encoder`.
        """
        if cat_channels is not None and cat_channels < 1:
            raise ConfigurationError(f"cat_channels is the width of a branch, at least 1, not {cat_channels}.")
        super().__init__(input_channels, nonlin_first, **plan)
        width = cat_channels or max(1, self.encoder.output_channels[0] // 2)
        self.decoder = FullScaleDecoder(
            self.encoder, num_classes, width, deep_supervision, nonlin_first, stage_class=self.stage_class
        )
