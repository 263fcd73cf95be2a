"""UNet 3+ as the UNet# paper rebuilds it to compare with (Qian et al., 2022, arXiv:2205.11759).

No branch convs: a node is two convs over the raw concatenation of the maps of all scales, as wide as its encoder stage.
"""

from typing import Any

from nnunetv2_unet3plus.architectures.encoder_decoder import EncoderDecoderNetwork
from nnunetv2_unet3plus.building_blocks.concat_decoder import ConcatDecoder
from nnunetv2_unet3plus.building_blocks.wiring import full_scale


class UNet3PlusRaw(EncoderDecoderNetwork):
    """nnU-Net's encoder with full-scale skips, concatenated as they are; one more logits a stage with supervision."""

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        nonlin_first: bool = False,
        **plan: Any,
    ) -> None:
        """Build the network.

        Args:
            input_channels: channels of the images.
            num_classes: channels of the logits.
            deep_supervision: return the logits of all heads.
            nonlin_first: conv - nonlin - norm instead of conv - norm - nonlin.
            **plan: what a plans file says about the encoder, see `plan_encoder`.

        Raises:
            ValueError: as `plan_encoder`.
        """
        super().__init__(input_channels, nonlin_first, **plan)
        wiring = full_scale(len(self.encoder.output_channels) - 1)
        self.decoder = ConcatDecoder(self.encoder, wiring, num_classes, deep_supervision, nonlin_first)
