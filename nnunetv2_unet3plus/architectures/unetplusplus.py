"""UNet++ for every plan nnU-Net can make.

Zhou, Z., et al.: UNet++: Redesigning Skip Connections to Exploit Multiscale Features in Image Segmentation. IEEE
Transactions on Medical Imaging 39 (6), 2020, arXiv:1912.05074.
"""

from typing import Any

from nnunetv2_unet3plus.architectures.encoder_decoder import EncoderDecoderNetwork
from nnunetv2_unet3plus.building_blocks.concat_decoder import INTERPOLATED, ConcatDecoder, InferenceMode, NodeStyle
from nnunetv2_unet3plus.building_blocks.wiring import nested


class UNetPlusPlus(EncoderDecoderNetwork):
    """nnU-Net's encoder with nested skips; with deep supervision one full-resolution output a level."""

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        nonlin_first: bool = False,
        *,
        prune_level: int | None = None,
        inference_mode: InferenceMode = "fast",
        regions: bool = False,
        style: NodeStyle = INTERPOLATED,
        **plan: Any,
    ) -> None:
        """Build the network.

        Args:
            input_channels: channels of the images.
            num_classes: channels of the logits.
            deep_supervision: return the logits of all heads.
            nonlin_first: conv - nonlin - norm instead of conv - norm - nonlin.
            prune_level: keep the nodes X(i, j) with i + j up to this alone; None for all.
            inference_mode: "fast" or "accurate", see `ConcatDecoder`.
            regions: outputs are independent regions, not exclusive labels with background first.
            style: how the nodes are made.
            **plan: what a plans file says about the encoder, see `plan_encoder`.

        Raises:
            ValueError: for an option out of range, and as `plan_encoder`.
        """
        super().__init__(input_channels, nonlin_first, prune_level, **plan)
        self.decoder = ConcatDecoder(
            self.encoder,
            nested(len(self.encoder.output_channels) - 1),
            num_classes,
            deep_supervision,
            nonlin_first,
            style=style,
            inference_mode=inference_mode,
            regions=regions,
        )
