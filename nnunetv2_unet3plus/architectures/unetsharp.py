"""UNet# for every plan nnU-Net can make.

Qian, L., et al.: UNet#: A UNet-like Redesigning Skip Connections for Medical Image Segmentation. 2022,
arXiv:2205.11759.
"""

from typing import Any

from nnunetv2_unet3plus.architectures.encoder_decoder import EncoderDecoderNetwork, first_stages
from nnunetv2_unet3plus.building_blocks.nested_decoder import FarEdges, InferenceMode, NestedDecoder


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
            far_edges: "conv" (the paper's eq. 1) or "raw" (plain concatenation), see `NestedDecoder`.
            prune_level: keep the nodes X(i, j) with i + j up to this alone; None for all.
            inference_mode: "fast" or "accurate", see `NestedDecoder`.
            regions: outputs are independent regions, not exclusive labels with background first.
            **plan: what a plans file says about the encoder, see `EncoderDecoderNetwork`.

        Raises:
            ValueError: for an option out of range, and as `EncoderDecoderNetwork`.
        """
        if far_edges is None:
            raise ValueError("far_edges of UNet# is 'conv' or 'raw'; without far edges it is UNetPlusPlus.")
        super().__init__(input_channels, nonlin_first=nonlin_first, **first_stages(plan, prune_level))
        self.decoder = NestedDecoder(
            self.encoder,
            num_classes,
            deep_supervision,
            nonlin_first,
            far_edges=far_edges,
            inference_mode=inference_mode,
            regions=regions,
            diagonal_heads=prune_level is None,
        )
