"""The full-scale decoder of UNet 3+ (Huang et al., ICASSP 2020, section 2.1, eq. 1).

Stage i of N fuses N maps, one from every scale: the encoder maps finer than i (max pooled), the encoder map of i, and
the decoder maps coarser than i (interpolated). The deepest decoder map is the deepest encoder map.
"""

from collections.abc import Callable, Sequence
from math import prod

from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn

from nnunetv2_unet3plus.building_blocks.max_pool import max_pool
from nnunetv2_unet3plus.building_blocks.norm_nonlin import NormsMaps, join_blocks
from nnunetv2_unet3plus.building_blocks.resize_conv import matching_resize_conv
from nnunetv2_unet3plus.building_blocks.winograd import fastest_form


class FullScaleStage(NormsMaps):
    """One decoder stage: a branch conv for every scale, concatenation, norm - nonlin, and one fusing conv block.

    The branches' norms act on single channels, so one norm over the concatenation is the norm of every branch.
    """

    def __init__(
        self, encoder: PlainConvEncoder | ResidualEncoder, stage: int, cat_channels: int, nonlin_first: bool
    ) -> None:
        """Build the stage.

        Args:
            encoder: gives channels, kernels, norm and nonlinearity.
            stage: the index of this stage, 0 is the finest.
            cat_channels: width of every branch.
            nonlin_first: conv - nonlin - norm instead of conv - norm - nonlin.

        Raises:
            ValueError: for a kernel other than 1 or 3 along an axis.
        """
        super().__init__()
        n_stages = len(encoder.output_channels)
        kernel_size = encoder.kernel_sizes[stage]
        padding = tuple(k // 2 for k in kernel_size)
        width = cat_channels * n_stages
        coarser_channels = [width] * (n_stages - stage - 2) + [encoder.output_channels[-1]]

        self.encoder_branches = nn.ModuleList(
            fastest_form(encoder.conv_op(channels, cat_channels, kernel_size, padding=padding, bias=encoder.conv_bias))
            for channels in encoder.output_channels[: stage + 1]
        )
        resize_conv = matching_resize_conv(encoder.conv_op)
        self.decoder_branches = nn.ModuleList(
            resize_conv(channels, cat_channels, kernel_size, bias=encoder.conv_bias) for channels in coarser_channels
        )
        self.make_norm(encoder, width, nonlin_first)
        self.fusion = ConvDropoutNormReLU(
            encoder.conv_op,
            width,
            width,
            kernel_size,
            1,
            encoder.conv_bias,
            encoder.norm_op,
            encoder.norm_op_kwargs,
            encoder.dropout_op,
            encoder.dropout_op_kwargs,
            encoder.nonlin,
            encoder.nonlin_kwargs,
            nonlin_first,
        )

    def forward(self, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        """Fuse all scales.

        Args:
            encoded: encoder maps of this stage and the finer ones, finest first, all on this stage's grid.
            decoded: coarser decoder maps, each ``(B, C, *own grid)``, finest first.

        Returns:
            Map of shape ``(B, N * cat_channels, *grid)``.
        """
        grid = encoded[-1].shape[2:]
        branches = [conv(x) for conv, x in zip(self.encoder_branches, encoded, strict=True)]
        branches += [conv(x, grid) for conv, x in zip(self.decoder_branches, decoded, strict=True)]
        return self.fusion(self.normed(branches))

    def stored_values(self, voxels: Sequence[int]) -> float:
        """Values stored for backward, one count a conv block.

        Args:
            voxels: of the grids of this stage and the coarser ones, finest first.
        """
        return 2 * self.fusion.conv.out_channels * voxels[0]  # the branches and the fusion are a conv block each


class FullScaleDecoder(nn.Module):
    """All stages of the decoder and a segmentation head for each of them and for the deepest map.

    All heads are always built, so that a network trained with deep supervision loads strictly into one without.
    """

    def __init__(
        self,
        encoder: PlainConvEncoder | ResidualEncoder,
        num_classes: int,
        cat_channels: int,
        deep_supervision: bool,
        nonlin_first: bool = False,
        stage_class: Callable[..., nn.Module] = FullScaleStage,
    ) -> None:
        """Build one stage for each encoder stage but the deepest.

        Args:
            encoder: the encoder whose skips this decoder takes.
            num_classes: channels of every head.
            cat_channels: width of every branch (64 in the paper).
            deep_supervision: return the logits of all heads, or those of full resolution alone.
            nonlin_first: conv - nonlin - norm instead of conv - norm - nonlin.
            stage_class: what builds a stage.
        """
        super().__init__()
        self.deep_supervision = deep_supervision
        self.strides = [tuple(stride) for stride in encoder.strides]
        self.num_classes = num_classes
        self.encoder_channels = list(encoder.output_channels)
        n_stages = len(self.encoder_channels)
        self.head_stages = list(range(n_stages))
        self.decoded_channels = cat_channels * n_stages
        self.stages = nn.ModuleList(
            stage_class(encoder, stage, cat_channels, nonlin_first) for stage in range(n_stages - 1)
        )
        # nnU-Net's loader of pretrained weights knows the heads by this name and leaves them out
        head = matching_resize_conv(encoder.conv_op)  # resizes nothing here, but knows convolutions to few channels
        self.seg_layers = nn.ModuleList(
            head(channels, num_classes, encoder.kernel_sizes[stage])
            for stage, channels in enumerate([self.decoded_channels] * (n_stages - 1) + [self.encoder_channels[-1]])
        )
        # DDP waits for a gradient of every trainable parameter; without deep supervision these would never get one
        self.seg_layers[1:].requires_grad_(deep_supervision)
        join_blocks(self)

    def forward(self, skips: list[Tensor]) -> Tensor | list[Tensor]:
        """Decode.

        Args:
            skips: encoder maps ``(B, C_i, *grid_i)``, finest first.

        Returns:
            With deep supervision N logits ``(B, num_classes, *grid_i)``, full resolution first; else the first alone.
        """
        encoded = self._encoder_maps_by_stage(skips)
        decoded = [skips[-1]]
        for stage in reversed(range(len(self.stages))):
            decoded.insert(0, self.stages[stage](encoded[stage], decoded))
        if not self.deep_supervision:
            return self.seg_layers[0](decoded[0])
        return [head(x) for head, x in zip(self.seg_layers, decoded, strict=True)]

    def _encoder_maps_by_stage(self, skips: list[Tensor]) -> list[list[Tensor]]:
        """For every stage its own skip and all finer ones, pooled to its grid step by step (max of max is max)."""
        maps = [[skips[0]]]
        for stage in range(1, len(self.stages)):
            maps.append([max_pool(x, self.strides[stage]) for x in maps[-1]] + [skips[stage]])
        return maps

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """Values stored for backward, in nnU-Net's unit: one conv block's output counts once.

        Args:
            input_size: spatial size of the network's input.
        """
        size, voxels = list(input_size), []
        for stride in self.strides:
            size = [-(-n // s) for n, s in zip(size, stride, strict=True)]
            voxels.append(prod(size))
        total = 0.0
        for stage, block in enumerate(self.stages):
            # a pooled map is stored with its indices, 64 bits a value, but without a normalised copy: three 32-bit
            # values where a conv block has two
            pooled = sum(self.encoder_channels[:stage])
            total += block.stored_values(voxels[stage:]) + 1.5 * pooled * voxels[stage]  # type: ignore[operator]
        heads = voxels if self.deep_supervision else voxels[:1]
        return int(total + self.num_classes * sum(heads))
