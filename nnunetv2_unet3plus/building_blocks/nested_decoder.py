"""The nested decoders of UNet++ and UNet#.

UNet++ (Zhou et al., IEEE TMI 2020): node X(i, j) fuses all nodes before it in its row i and the node below,
X(i+1, j-1). UNet# (Qian et al., 2022, eq. 1) adds far edges: X(i+k, j-k) for k = 2..j, from every coarser row. X(i, 0)
are the encoder's maps. A node is two conv blocks over the concatenation of its sources, interpolated to its grid.

With L + 1 rows the nodes of i + j <= l form the same network with l + 1 rows: what pruning keeps.
"""

from collections.abc import Sequence
from math import log, prod
from typing import Literal

import torch
from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid

from nnunetv2_unet3plus.building_blocks.resize_conv import matching_concat_conv, matching_resize_conv

FarEdges = Literal["conv", "raw"] | None
InferenceMode = Literal["fast", "accurate"]
CONVS_PER_NODE = 2


class NestedDecoder(nn.Module):
    """All nodes, and a segmentation head on every branch.

    The branches are the nodes of the first row, at full resolution, X(0, L) first; with far edges also the nodes of the
    last diagonal, X(1, L-1) to X(L, 0), each at its own size. All heads are always built, so that a network trained
    with deep supervision loads strictly into one without.
    """

    def __init__(
        self,
        encoder: PlainConvEncoder | ResidualEncoder,
        num_classes: int,
        deep_supervision: bool,
        nonlin_first: bool = False,
        *,
        far_edges: FarEdges = None,
        inference_mode: InferenceMode = "fast",
        regions: bool = False,
        diagonal_heads: bool = False,
    ) -> None:
        """Build the nodes.

        Args:
            encoder: the encoder whose skips this decoder takes; its deepest map is X(L, 0).
            num_classes: channels of every head.
            deep_supervision: return the logits of all heads, or one segmentation.
            nonlin_first: conv - nonlin - norm instead of conv - norm - nonlin.
            far_edges: None (UNet++); "conv": each source of far edges has a conv to the first stage's width, all share
                one norm (UNet#, eq. 1); "raw": far maps are concatenated as they are.
            inference_mode: without deep supervision "fast" gives the logits of X(0, L), "accurate" the logarithm of
                the mean of all full-resolution branches' probabilities.
            regions: channels are independent regions (sigmoid), not exclusive labels (softmax).
            diagonal_heads: heads on the last diagonal, too.

        Raises:
            ValueError: for an unknown kind of far edges or inference mode.
        """
        super().__init__()
        if far_edges not in (None, "conv", "raw"):
            raise ValueError(f"far_edges must be 'conv', 'raw' or None, not {far_edges!r}.")
        if inference_mode not in ("fast", "accurate"):
            raise ValueError(f"inference_mode must be 'fast' or 'accurate', not {inference_mode!r}.")
        self.deep_supervision = deep_supervision
        self.far_edges = far_edges
        self.inference_mode = inference_mode
        self.regions = regions
        self.num_classes = num_classes
        self.channels = list(encoder.output_channels)
        self.strides = [tuple(stride) for stride in encoder.strides]
        self.levels = len(self.channels) - 1

        concat_conv = matching_concat_conv(encoder.conv_op)
        self.nodes = nn.ModuleDict()
        for row, column in self._order():
            self.nodes[_key(row, column)] = StackedConvBlocks(
                CONVS_PER_NODE,
                concat_conv,
                sum(self._source_channels(row, column)),
                self.channels[row],
                encoder.kernel_sizes[row],
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
        self.far = FarConvs(encoder, self._far_sources(), nonlin_first) if far_edges == "conv" else None

        branches = [(0, column) for column in range(self.levels, 0, -1)]
        if diagonal_heads:
            branches += [(row, self.levels - row) for row in range(1, self.levels + 1)]
        self.branches = branches
        self.head_stages = [row for row, _ in branches]
        head = matching_resize_conv(encoder.conv_op)  # resizes nothing here, but knows convolutions to few channels
        # nnU-Net's loader of pretrained weights knows the heads by this name and leaves them out
        self.seg_layers = nn.ModuleDict(
            {
                _key(row, column): head(
                    self.channels[row], num_classes, encoder.kernel_sizes[row] if row else [1] * len(self.strides[0])
                )
                for row, column in branches
            }
        )
        self._freeze_unsupervised_heads()

    def _freeze_unsupervised_heads(self) -> None:
        """DDP waits for a gradient of every trainable parameter; without deep supervision these would never get one."""
        for branch in self.branches[1:]:
            self.seg_layers[_key(*branch)].requires_grad_(self.deep_supervision)

    def _order(self) -> list[tuple[int, int]]:
        """All nodes but the encoder's, each after its sources: diagonal by diagonal, from below."""
        return [(row, level - row) for level in range(1, self.levels + 1) for row in reversed(range(level))]

    def _far_nodes(self, row: int, column: int) -> list[tuple[int, int]]:
        """The sources of the far edges of a node."""
        return [(row + k, column - k) for k in range(2, column + 1)] if self.far_edges else []

    def _far_sources(self) -> list[tuple[int, int]]:
        return sorted({source for node in self._order() for source in self._far_nodes(*node)})

    def _source_channels(self, row: int, column: int) -> list[int]:
        """Channels of every part of a node's concatenation."""
        far = [self.channels[0 if self.far_edges == "conv" else source] for source, _ in self._far_nodes(row, column)]
        return [self.channels[row]] * column + [self.channels[row + 1]] + far

    def forward(self, skips: list[Tensor]) -> Tensor | list[Tensor]:
        """Decode.

        Args:
            skips: encoder maps ``(B, C_i, *grid_i)``, finest first.

        Returns:
            With deep supervision the logits ``(B, num_classes, *grid)`` of every branch; else one segmentation of full
            resolution.
        """
        maps = self.node_maps(skips)
        if self.deep_supervision:
            return [self._segment(branch, maps) for branch in self.branches]
        if self.inference_mode == "fast" or self.training:
            return self._segment(self.branches[0], maps)
        return log_mean_probability([self._segment(b, maps) for b in self.branches if b[0] == 0], self.regions)

    def node_maps(self, skips: list[Tensor]) -> dict[tuple[int, int], Tensor]:
        """The maps of all nodes ``(row, column)``, the encoder's included, for skips as in ``forward``."""
        maps = {(row, 0): skip for row, skip in enumerate(skips)}
        for row, column in self._order():
            sources = [maps[row, before] for before in range(column)] + [maps[row + 1, column - 1]]
            for source in self._far_nodes(row, column):
                far = maps[source]
                sources.append(self.far(source, far, sources[0].shape[2:]) if self.far is not None else far)
            maps[row, column] = self.nodes[_key(row, column)](sources)
        return maps

    def _segment(self, branch: tuple[int, int], maps: dict[tuple[int, int], Tensor]) -> Tensor:
        return self.seg_layers[_key(*branch)](maps[branch])

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
        for row, column in self._order():
            # a conv block stores two maps, its conv's output and its own; the concatenation is one more
            far = len(self._far_nodes(row, column)) * self.channels[0] * (self.far_edges == "conv")
            copied = self.channels[row] * column * (column > 1) + far
            total += (CONVS_PER_NODE * self.channels[row] + far + copied / 2) * voxels[row]
        heads = self.head_stages if self.deep_supervision else self.head_stages[:1]
        return int(total + sum(self.num_classes * voxels[row] for row in heads))


class FarConvs(nn.Module):
    """f of UNet#'s eq. 1: interpolation, conv to the first stage's width, norm, nonlinearity.

    One conv a source, whatever the target; one norm for all of them. Together they have the published parameters.
    """

    def __init__(
        self,
        encoder: PlainConvEncoder | ResidualEncoder,
        sources: Sequence[tuple[int, int]],
        nonlin_first: bool,
    ) -> None:
        """Build a conv a source.

        Args:
            encoder: gives channels, kernels, norm and nonlinearity.
            sources: nodes (row, column) with far edges.
            nonlin_first: conv - nonlin - norm instead of conv - norm - nonlin.
        """
        super().__init__()
        resize_conv = matching_resize_conv(encoder.conv_op)
        width = encoder.output_channels[0]
        self.convs = nn.ModuleDict(
            {
                _key(row, column): resize_conv(
                    encoder.output_channels[row], width, encoder.kernel_sizes[row], bias=encoder.conv_bias
                )
                for row, column in sources
            }
        )
        # without a far edge (two rows) there is nothing to normalise, and nothing that would get a gradient
        norm = (
            encoder.norm_op(width, **(encoder.norm_op_kwargs or {})) if encoder.norm_op and sources else nn.Identity()
        )
        nonlin = encoder.nonlin(**(encoder.nonlin_kwargs or {})) if encoder.nonlin else nn.Identity()
        if isinstance(norm, nn.Identity) or nonlin_first:
            nonlin.inplace = False  # autograd lets nothing be written into what a custom operator returns
        self.norm_and_nonlin = nn.Sequential(*((nonlin, norm) if nonlin_first else (norm, nonlin)))

    def forward(self, source: tuple[int, int], x: Tensor, size: Sequence[int]) -> Tensor:
        """Bring the map ``(B, C, *grid)`` of a source to a target's grid: ``(B, width, *size)``."""
        return self.norm_and_nonlin(self.convs[_key(*source)](x, size))


def log_mean_probability(branches: Sequence[Tensor], regions: bool) -> Tensor:
    """Logits whose probabilities are the mean of the branches' probabilities.

    Args:
        branches: logits ``(B, C, *size)`` of each.
        regions: sigmoid of every channel instead of softmax over the channels.

    Returns:
        ``(B, C, *size)``: the logarithm of the mean, for regions that of the odds.
    """
    logits = torch.stack([branch.float() for branch in branches])
    if regions:
        mean = logsigmoid(logits).logsumexp(0) - logsigmoid(-logits).logsumexp(0)
    else:
        mean = log_softmax(logits, dim=2).logsumexp(0) - log(len(branches))
    return mean.to(branches[0].dtype)


def _key(row: int, column: int) -> str:
    return f"{row}_{column}"
