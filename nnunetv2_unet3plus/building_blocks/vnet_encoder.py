"""The encoder of V-Net (Milletari et al., 3DV 2016, figure 2): wide kernels, PReLU, a residual a stage."""

from collections.abc import Sequence
from math import prod
from typing import Any

from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.modules.conv import _ConvNd

from nnunetv2_unet3plus.building_blocks.plan_encoder import IntPerStage, checked_topology

WIDE = 5  # kernel along an axis on which the plan has 3


class VNetEncoder(nn.Module):
    """Stages of 5 x 5 x 5 convs around which their input is carried, joined by strided convs.

    Where the plan's kernel is 1 along an axis, so is the encoder's; `kernel_sizes` and `nonlin` are the plan's, for the
    decoder.
    """

    def __init__(
        self,
        input_channels: int,
        n_stages: int,
        features_per_stage: IntPerStage,
        conv_op: type[_ConvNd],
        kernel_sizes: int | Sequence[int | Sequence[int]],
        strides: int | Sequence[int | Sequence[int]],
        n_conv_per_stage: Sequence[int],
        conv_bias: bool = False,
        norm_op: type[nn.Module] | None = None,
        norm_op_kwargs: dict[str, Any] | None = None,
        dropout_op: type[nn.Module] | None = None,
        dropout_op_kwargs: dict[str, Any] | None = None,
        nonlin: type[nn.Module] | None = None,
        nonlin_kwargs: dict[str, Any] | None = None,
        nonlin_first: bool = False,
        **_not_used: Any,
    ) -> None:
        """Build the encoder; the arguments are those of `plan_encoder`, the paper's stages have `convs_per_stage`.

        Raises:
            ValueError: as `plan_encoder`.
        """
        super().__init__()
        self.output_channels, self.kernel_sizes, self.strides = checked_topology(
            conv_op, n_stages, features_per_stage, kernel_sizes, strides
        )
        self.conv_op, self.conv_bias = conv_op, conv_bias
        self.norm_op, self.norm_op_kwargs = norm_op, norm_op_kwargs
        self.dropout_op, self.dropout_op_kwargs = dropout_op, dropout_op_kwargs
        self.nonlin, self.nonlin_kwargs = nonlin, nonlin_kwargs
        self.nonlin_first = nonlin_first
        self.n_conv_per_stage = list(n_conv_per_stage)
        channels = [input_channels, *self.output_channels]
        self.stages = nn.ModuleList(
            VNetStage(self, stage, channels[stage], convs) for stage, convs in enumerate(self.n_conv_per_stage)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps of all stages, finest first, for images ``(B, input_channels, *size)``."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """Half the values stored for backward, nnU-Net's unit: a conv block with LeakyReLU stores two maps.

        A PReLU needs what it was given: a block stores three maps, a stage's last PReLU two. What the last block
        returns is added to the stage's input and forgotten.
        """
        size, total = list(input_size), 0.0
        for stage, (convs, stride) in enumerate(zip(self.n_conv_per_stage, self.strides, strict=True)):
            size = [-(-n // s) for n, s in zip(size, stride, strict=True)]
            maps = (
                3 * (convs + 1) + 1 if stage else 3 * convs
            )  # no strided conv leads to the first stage, no PReLU ends
            total += maps / 2 * self.output_channels[stage] * prod(size)
        return int(total)


class VNetStage(nn.Module):
    """A strided conv, then convs to whose result their input is added."""

    def __init__(self, encoder: VNetEncoder, stage: int, input_channels: int, convs: int) -> None:
        """Build one stage of an encoder."""
        super().__init__()
        channels, self.stride = encoder.output_channels[stage], tuple(encoder.strides[stage])
        conv_norm_prelu = (
            encoder.conv_bias, encoder.norm_op, encoder.norm_op_kwargs, encoder.dropout_op, encoder.dropout_op_kwargs,
            nn.PReLU, {"num_parameters": channels}, encoder.nonlin_first,
        )  # fmt: skip
        kernel = [WIDE if k == 3 else 1 for k in encoder.kernel_sizes[stage]]
        self.down: Any = None
        if stage:
            self.down = ConvDropoutNormReLU(
                encoder.conv_op, input_channels, channels, self.stride, self.stride, *conv_norm_prelu
            )
            self.down.conv.padding = (0,) * len(kernel)  # windows that meet; the block means it for odd kernels
            input_channels = channels
        self.convs = nn.Sequential(
            *(
                ConvDropoutNormReLU(
                    encoder.conv_op, channels if i else input_channels, channels, kernel, 1, *conv_norm_prelu
                )
                for i in range(convs)
            )
        )
        # the paper's first stage carries an image of one channel to all of its own, and has no PReLU of its own
        self.nonlin = nn.PReLU(channels) if stage else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *grid)`` to ``(B, own C, *ceil(grid / stride))``."""
        if self.down is None:
            return self.convs(x) + x.mean(1, keepdim=True)
        missing = [-n % s for n, s in zip(x.shape[2:], self.stride, strict=True)]
        if any(missing):
            x = pad(x, [n for axis in reversed(missing) for n in (0, axis)])
        x = self.down(x)
        return self.nonlin(self.convs(x) + x)


def convs_per_stage(n_stages: int) -> list[int]:
    """1, 1, 2, 3, 2 in the paper's five stages: deeper networks have more of three."""
    return [1, 1, 2, *[3] * (n_stages - 4), 2][:n_stages]
