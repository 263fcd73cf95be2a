"""UNet# for every plan nnU-Net can make.

Qian, L., et al.: UNet#: A UNet-like Redesigning Skip Connections for Medical Image Segmentation. 2022,
arXiv:2205.11759.
"""

from typing import Any

from nnunetv2_unet3plus.architectures.encoder_decoder import EncoderDecoderNetwork
from nnunetv2_unet3plus.building_blocks.concat_decoder import ConcatDecoder, FarEdges, InferenceMode, NodeStyle
from nnunetv2_unet3plus.building_blocks.wiring import sharp


class UNetSharp(EncoderDecoderNetwork):
    """nnU-Net's encoder with nested and full-scale skips.

    With deep supervision one full-resolution output a level, then those of the last diagonal at their own size.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        nonlin_first: bool = False,
        *,
        far_edges: FarEdges = "conv",
        prune_level: int | None = None,
        inference_mode: InferenceMode = "fast",
        regions: bool = False,
        **plan: Any,
    ) -> None:
        """Build the network.

        Args:
            input_channels: channels of the images.
            num_classes: channels of the logits.
            deep_supervision: return the logits of all heads.
            nonlin_first: conv - nonlin - norm instead of conv - norm - nonlin.
            far_edges: "conv" (the paper's eq. 1) or "raw" (plain concatenation), see `NodeStyle`.
            prune_level: keep the nodes X(i, j) with i + j up to this alone; None for all.
            inference_mode: "fast" or "accurate", see `ConcatDecoder`.
            regions: outputs are independent regions, not exclusive labels with background first.
            **plan: what a plans file says about the encoder, see `plan_encoder`.

        Raises:
            ValueError: for an option out of range, and as `plan_encoder`.
        """
        super().__init__(input_channels, nonlin_first, prune_level, **plan)
        self.decoder = ConcatDecoder(
            self.encoder,
            sharp(len(self.encoder.output_channels) - 1, diagonal_heads=prune_level is None),
            num_classes,
            deep_supervision,
            nonlin_first,
            style=NodeStyle(far_edges),
            inference_mode=inference_mode,
            regions=regions,
        )
