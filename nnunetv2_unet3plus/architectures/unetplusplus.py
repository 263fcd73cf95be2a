"""UNet++ for every plan nnU-Net can make.

Zhou, Z., et al.: UNet++: Redesigning Skip Connections to Exploit Multiscale Features in Image Segmentation. IEEE
Transactions on Medical Imaging 39 (6), 2020, arXiv:1912.05074.
"""

from typing import Any

from nnunetv2_unet3plus.architectures.encoder_decoder import EncoderDecoderNetwork, first_stages
from nnunetv2_unet3plus.building_blocks.nested_decoder import InferenceMode, NestedDecoder


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
        **plan: Any,
    ) -> None:
        """Build the network.

        Args:
            input_channels: channels of the images.
            num_classes: channels of the logits.
            deep_supervision: return the logits of all heads.
            nonlin_first: conv - nonlin - norm instead of conv - norm - nonlin.
            prune_level: keep the nodes X(i, j) with i + j up to this alone; None for all.
            inference_mode: "fast" or "accurate", see `NestedDecoder`.
            regions: outputs are independent regions, not exclusive labels with background first.
            **plan: what a plans file says about the encoder, see `EncoderDecoderNetwork`.

        Raises:
            ValueError: for an option out of range, and as `EncoderDecoderNetwork`.
        """
        super().__init__(input_channels, nonlin_first=nonlin_first, **first_stages(plan, prune_level))
        self.decoder = NestedDecoder(
            self.encoder,
            num_classes,
            deep_supervision,
            nonlin_first,
            inference_mode=inference_mode,
            regions=regions,
        )
