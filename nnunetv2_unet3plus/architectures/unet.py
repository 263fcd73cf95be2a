"""U-Net as the papers compare with it: two convs a node, no head but the last.

Ronneberger, O., et al.: U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015.
"""

from typing import Any

from nnunetv2_unet3plus.architectures.encoder_decoder import EncoderDecoderNetwork
from nnunetv2_unet3plus.building_blocks.concat_decoder import INTERPOLATED, ConcatDecoder, NodeStyle
from nnunetv2_unet3plus.building_blocks.wiring import unet


class UNet(EncoderDecoderNetwork):
    """nnU-Net's encoder with a plain decoder; with deep supervision a list of one."""

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        nonlin_first: bool = False,
        *,
        style: NodeStyle = INTERPOLATED,
        **plan: Any,
    ) -> None:
        """Build the network.

        Args:
            input_channels: channels of the images.
            num_classes: channels of the logits.
            deep_supervision: return a list.
            nonlin_first: conv - nonlin - norm instead of conv - norm - nonlin.
            style: how the nodes are made.
            **plan: what a plans file says about the encoder, see `plan_encoder`.

        Raises:
            ValueError: as `plan_encoder`.
        """
        super().__init__(input_channels, nonlin_first, **plan)
        wiring = unet(len(self.encoder.output_channels) - 1)
        self.decoder = ConcatDecoder(self.encoder, wiring, num_classes, deep_supervision, nonlin_first, style=style)
