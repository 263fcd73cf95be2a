"""The decoder of UNet3PlusLite: UNet 3+'s full-scale skips with no wide convolution where the maps are large.

Every stage fuses the same N maps as UNet 3+'s. What is different: a coarser map goes through conv - norm - nonlin on
its own grid, and all coarser maps meet on the next coarser grid, where the fusing convolution takes its share of them;
its result is interpolated and added to the share of the finer maps.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from nnunetv2_unet3plus.building_blocks.norm_nonlin import NormsMaps
from nnunetv2_unet3plus.building_blocks.resize_conv import concatenate, resize
from nnunetv2_unet3plus.building_blocks.winograd import fastest_form


class LiteStage(nn.Module):
    """One decoder stage; takes the arguments of `FullScaleStage` and the same maps."""

    def __init__(self, encoder: Any, stage: int, cat_channels: int, nonlin_first: bool) -> None:
        """Build the stage.

        Args:
            encoder: gives channels, kernels, norm and nonlinearity.
            stage: the index of this stage, 0 is the finest.
            cat_channels: width of every branch.
            nonlin_first: conv - nonlin - norm instead of conv - norm - nonlin.
        """
        super().__init__()
        n_stages = len(encoder.output_channels)
        width = cat_channels * n_stages
        coarser = range(stage + 1, n_stages)

        def conv(channels: int, out_channels: int, at: int, bias: bool = encoder.conv_bias) -> Any:
            kernel_size = encoder.kernel_sizes[at]
            padding = tuple(k // 2 for k in kernel_size)
            return fastest_form(encoder.conv_op(channels, out_channels, kernel_size, padding=padding, bias=bias))

        def norm_and_nonlin(channels: int) -> NormAndNonlin:
            return NormAndNonlin(encoder, channels, nonlin_first)

        self.encoder_branches = nn.ModuleList(
            conv(channels, cat_channels, stage) for channels in encoder.output_channels[: stage + 1]
        )
        self.encoder_norm = norm_and_nonlin(cat_channels * (stage + 1))
        self.decoder_branches = nn.ModuleList(
            conv(encoder.output_channels[-1] if other == n_stages - 1 else width, cat_channels, other)
            for other in coarser
        )
        self.decoder_norms = nn.ModuleList(norm_and_nonlin(cat_channels) for _ in coarser)
        self.fine_fusion = conv(cat_channels * (stage + 1), width, stage)
        self.coarse_fusion = conv(cat_channels * len(coarser), width, stage + 1, bias=False)
        self.norm = norm_and_nonlin(width)

    def forward(self, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        """Fuse all scales.

        Args:
            encoded: encoder maps of this stage and the finer ones, finest first, all on this stage's grid.
            decoded: coarser decoder maps, each ``(B, C, *own grid)``, finest first.

        Returns:
            Map of shape ``(B, N * cat_channels, *grid)``.
        """
        fine = self.encoder_norm([conv(x) for conv, x in zip(self.encoder_branches, encoded, strict=True)])
        grid = decoded[0].shape[2:]
        coarse = [
            resize(norm([conv(x)]), grid)
            for conv, norm, x in zip(self.decoder_branches, self.decoder_norms, decoded, strict=True)
        ]
        share = self.coarse_fusion(concatenate(coarse))
        return self.norm([self.fine_fusion(fine) + resize(share, encoded[-1].shape[2:])])

    def stored_values(self, voxels: Sequence[int]) -> float:
        """Values stored for backward, one count a conv block.

        Args:
            voxels: of the grids of this stage and the coarser ones, finest first.
        """
        fine, coarse = self.fine_fusion.in_channels, self.coarse_fusion.in_channels
        branch = coarse // (len(voxels) - 1)
        here = (fine + self.fine_fusion.out_channels) * voxels[0]
        # what meets on the next coarser grid is stored once more, without a normalised copy
        return float(here + branch * sum(voxels[1:]) + 0.5 * coarse * voxels[1])


class NormAndNonlin(NormsMaps):
    """The end of a conv block, over one map or over several to concatenate."""

    def __init__(self, encoder: Any, channels: int, nonlin_first: bool) -> None:
        """Make it as the encoder's blocks are made."""
        super().__init__()
        self.make_norm(encoder, channels, nonlin_first)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """``(B, C_k, *grid)`` of each to ``(B, sum of C_k, *grid)``."""
        return self.normed(maps)
