"""UNet 3+ for every plan nnU-Net can make.

Huang, H., et al.: UNet 3+: A Full-Scale Connected UNet for Medical Image Segmentation. ICASSP 2020, arXiv:2004.08790.
"""

from typing import Any

import torch
from torch import nn

from nnunetv2_unet3plus.architectures.encoder_decoder import EncoderDecoderNetwork
from nnunetv2_unet3plus.building_blocks.full_scale_decoder import FullScaleDecoder


class UNet3Plus(EncoderDecoderNetwork):
    """nnU-Net's encoder with the full-scale decoder of UNet 3+: one more logits a stage with deep supervision."""

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
            **plan: what a plans file says about the encoder, see `EncoderDecoderNetwork`.

        Raises:
            ValueError: for a branch without channels, and as `EncoderDecoderNetwork`.
        """
        if cat_channels is not None and cat_channels < 1:
            raise ValueError(f"cat_channels is the width of a branch, at least 1, not {cat_channels}.")
        super().__init__(input_channels, nonlin_first=nonlin_first, **plan)
        width = cat_channels or max(1, self.encoder.output_channels[0] // 2)
        self.decoder = FullScaleDecoder(self.encoder, num_classes, width, deep_supervision, nonlin_first)


def unet3plus_paper(input_channels: int, num_classes: int, deep_supervision: bool = True) -> UNet3Plus:
    """The network of the paper's figure 1: 2D, five stages, VGG blocks and max pooling, 64 channels a branch.

    26,989,637 parameters for three input channels and one class, of which 17,860 are the side heads.

    Args:
        input_channels: 3 in the paper, a slice and its two neighbours.
        num_classes: channels of the logits.
        deep_supervision: return the logits of all five heads.
    """
    network = UNet3Plus(
        input_channels=input_channels,
        n_stages=5,
        features_per_stage=(64, 128, 256, 512, 1024),
        conv_op=nn.Conv2d,
        kernel_sizes=3,
        strides=(1, 2, 2, 2, 2),
        num_classes=num_classes,
        n_conv_per_stage=2,
        conv_bias=True,
        norm_op=nn.BatchNorm2d,
        nonlin=nn.ReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=deep_supervision,
        cat_channels=64,
        pool="max",
    )
    # maps follow the weights' memory format; batch norm is as fast in this one, and convolutions are faster
    return network.to(memory_format=torch.channels_last)
