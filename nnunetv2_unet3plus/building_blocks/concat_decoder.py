"""The decoder of U-Net, UNet++, UNet# and their relatives: every node two conv blocks over a concatenation.

Which nodes there are and what they concatenate is a `Wiring`. Coarser maps are interpolated, which costs little (see
`resize_conv_of_concatenation`), or brought up by transposed convolutions, as the older papers do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, prod
from typing import Any, Literal

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid

from nnunetv2_unet3plus.building_blocks.max_pool import max_pool
from nnunetv2_unet3plus.building_blocks.norm_nonlin import NormThenNonlin, join, join_blocks
from nnunetv2_unet3plus.building_blocks.resize_conv import matching_concat_conv, matching_resize_conv
from nnunetv2_unet3plus.building_blocks.wiring import Node, Wiring
from nnunetv2_unet3plus.errors import ConfigurationError

FarEdges = Literal["conv", "raw"]
InferenceMode = Literal["fast", "accurate"]
CONVS_PER_NODE = 2


@dataclass(frozen=True)
class NodeStyle:
    """How the nodes are made; the papers differ.

    Attributes:
        far_edges: maps from two or more rows below are concatenated as they are ("raw"), or each source of such edges
            has a conv to the first stage's width, and all share one norm ("conv": UNet#, eq. 1).
        transposed: kernel of the transposed convolutions that bring maps one row up; None to interpolate.
        norm: whether the nodes have a norm, where the encoder has one.
        head_kernel: of the heads at full resolution; the others have their stage's kernel.
    """

    far_edges: FarEdges = "raw"
    transposed: int | None = None
    norm: bool = True
    head_kernel: int = 1

    def __post_init__(self) -> None:
        if self.far_edges not in ("conv", "raw"):
            raise ConfigurationError(f"far_edges must be 'conv' or 'raw', not {self.far_edges!r}.")


INTERPOLATED = NodeStyle()


class ConcatDecoder(nn.Module):
    """All nodes of a wiring, and a segmentation head on every branch.

    All heads are always built, so that a network trained with deep supervision loads strictly into one without.
    """

    def __init__(
        self,
        encoder: Any,
        wiring: Wiring,
        num_classes: int,
        deep_supervision: bool,
        nonlin_first: bool = False,
        *,
        style: NodeStyle = INTERPOLATED,
        inference_mode: InferenceMode = "fast",
        regions: bool = False,
    ) -> None:
        """Build the nodes.

        Args:
            encoder: the encoder whose skips this decoder takes; its deepest map is X(L, 0).
            wiring: the nodes, for as many rows as the encoder has stages.
            num_classes: channels of every head.
            deep_supervision: return the logits of all heads, or one segmentation.
            nonlin_first: conv - nonlin - norm instead of conv - norm - nonlin.
            style: how the nodes are made.
            inference_mode: without deep supervision "fast" gives the logits of X(0, L), "accurate" the logarithm of
                the mean of all full-resolution branches' probabilities.
            regions: channels are independent regions (sigmoid), not exclusive labels (softmax).

        Raises:
            ValueError: for an unknown inference mode.
        """
        super().__init__()
        if inference_mode not in ("fast", "accurate"):
            raise ConfigurationError(f"inference_mode must be 'fast' or 'accurate', not {inference_mode!r}.")
        self.deep_supervision = deep_supervision
        self.inference_mode = inference_mode
        self.regions = regions
        self.num_classes = num_classes
        self.wiring = wiring
        self.style = style
        self.channels = list(encoder.output_channels)
        self.strides = [tuple(stride) for stride in encoder.strides]

        concat_conv = matching_concat_conv(encoder.conv_op)
        self.nodes = nn.ModuleDict(
            {
                _key(node): StackedConvBlocks(
                    CONVS_PER_NODE,
                    concat_conv,
                    sum(self._source_channels(node, source) for source in sources),
                    self.channels[node[0]],
                    encoder.kernel_sizes[node[0]],
                    1,
                    encoder.conv_bias,
                    encoder.norm_op if style.norm else None,
                    encoder.norm_op_kwargs,
                    encoder.dropout_op,
                    encoder.dropout_op_kwargs,
                    encoder.nonlin,
                    encoder.nonlin_kwargs,
                    nonlin_first,
                )
                for node, sources in wiring.sources.items()
            }
        )
        # two rows have no far edge, and nothing in FarConvs would get a gradient
        self.far = FarConvs(encoder, sources, nonlin_first) if (sources := self._far_sources()) else None
        self.up = nn.ModuleDict({_key(node): self._transposed_conv(encoder, node[0]) for node in self._brought_up()})

        self.branches = wiring.branches
        self.head_stages = [row for row, _ in self.branches]
        head = matching_resize_conv(encoder.conv_op)  # resizes nothing here, but knows convolutions to few channels
        full_size_kernel = [style.head_kernel] * len(self.strides[0])
        # nnU-Net's loader of pretrained weights knows the heads by this name and leaves them out
        self.seg_layers = nn.ModuleDict(
            {
                _key(node): head(
                    self.channels[node[0]], num_classes, encoder.kernel_sizes[node[0]] if node[0] else full_size_kernel
                )
                for node in self.branches
            }
        )
        # DDP waits for a gradient of every trainable parameter; without deep supervision these would never get one
        for branch in self.branches[1:]:
            self.seg_layers[_key(branch)].requires_grad_(deep_supervision)
        join_blocks(self)

    def _is_far(self, node: Node, source: Node) -> bool:
        """Whether a conv of the far edges lies between the two."""
        return self.style.far_edges == "conv" and source[0] > node[0] + 1

    def _far_sources(self) -> list[Node]:
        wiring = self.wiring.sources.items()
        return sorted({source for node, sources in wiring for source in sources if self._is_far(node, source)})

    def _brought_up(self) -> list[Node]:
        """The nodes that a transposed convolution brings their coarser source."""
        return list(self.wiring.sources) if self.style.transposed else []

    def _transposed_conv(self, encoder: Any, row: int) -> nn.Module:
        conv: Any = {nn.Conv2d: nn.ConvTranspose2d, nn.Conv3d: nn.ConvTranspose3d}[encoder.conv_op]
        stride, kernel = self.strides[row + 1], [self.style.transposed or 0] * len(self.strides[0])
        padding = [(k - s) // 2 for k, s in zip(kernel, stride, strict=True)]
        return conv(self.channels[row + 1], self.channels[row], kernel, stride, padding)

    def _source_channels(self, node: Node, source: Node) -> int:
        """Channels of one part of a node's concatenation."""
        if self._is_far(node, source):
            return self.channels[0]
        return self.channels[node[0] if self.style.transposed and source[0] > node[0] else source[0]]

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
            return [self.segment(branch, maps) for branch in self.branches]
        return self.result([self.segment(branch, maps) for branch in self.result_branches()])

    def result_branches(self) -> list[Node]:
        """The branches that are asked without deep supervision."""
        averages = self.inference_mode == "accurate" and not self.training
        return [branch for branch in self.branches if branch[0] == 0] if averages else self.branches[:1]

    def result(self, segmentations: list[Tensor]) -> Tensor:
        """One segmentation of those of the `result_branches`."""
        return segmentations[0] if len(segmentations) == 1 else log_mean_probability(segmentations, self.regions)

    def node_maps(self, skips: list[Tensor]) -> dict[Node, Tensor]:
        """The maps of all nodes, the encoder's included, for skips as in ``forward``."""
        maps = {(row, 0): skip for row, skip in enumerate(skips)}
        pooled: dict[tuple[Node, int], Tensor] = {}
        for node, sources in self.wiring.sources.items():
            size = skips[node[0]].shape[2:]
            concatenated = [
                self._pooled(source, node[0], maps, pooled)
                if source[0] <= node[0]
                else self._brought_to(node, source, maps[source], size)
                for source in sources
            ]
            maps[node] = self.nodes[_key(node)](concatenated)
        return maps

    def _pooled(
        self, source: Node, row: int, maps: dict[Node, Tensor], pooled: dict[tuple[Node, int], Tensor]
    ) -> Tensor:
        """A map pooled to a coarser row, stage by stage (max of max is max), each time once."""
        if source[0] == row:
            return maps[source]
        if (source, row) not in pooled:
            pooled[source, row] = max_pool(self._pooled(source, row - 1, maps, pooled), self.strides[row])
        return pooled[source, row]

    def _brought_to(self, node: Node, source: Node, x: Tensor, size: torch.Size) -> Tensor:
        """A coarser map for a node of this size; as it is, where the node's own conv interpolates it."""
        if self._is_far(node, source) and self.far is not None:
            return self.far(_key(source), x, size)
        return _crop(self.up[_key(node)](x), size) if self.style.transposed else x

    def segment(self, branch: Node, maps: dict[Node, Tensor]) -> Tensor:
        """Logits of one branch."""
        return self.seg_layers[_key(branch)](maps[branch])

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
        for node, sources in self.wiring.sources.items():
            values = CONVS_PER_NODE * self.channels[node[0]]
            # a conv block stores two maps, its conv's output and its own; a concatenation is one more, and a pooled map
            # two and its indices, 64 bits a value
            here = [source for source in sources if source[0] <= node[0] or self._is_far(node, source)]
            copied = sum(self._source_channels(node, source) for source in here) if len(here) > 1 else 0
            far = sum(self.channels[0] for source in here if source[0] > node[0])
            pooled = sum(self.channels[source[0]] for source in here if source[0] < node[0])
            brought_up = self.channels[node[0]] if self.style.transposed else 0
            total += (values + far + copied / 2 + 1.5 * pooled + brought_up) * voxels[node[0]]
        heads = self.head_stages if self.deep_supervision else self.head_stages[:1]
        return int(total + sum(self.num_classes * voxels[row] for row in heads))


class FarConvs(nn.Module):
    """f of UNet#'s eq. 1: interpolation, conv to the first stage's width, norm, nonlinearity.

    One conv a source, whatever the target; one norm for all of them. Together they have the published parameters.
    """

    def __init__(self, encoder: Any, sources: Sequence[Node], nonlin_first: bool) -> None:
        """Build a conv a source.

        Args:
            encoder: gives channels, kernels, norm and nonlinearity.
            sources: nodes with far edges.
            nonlin_first: conv - nonlin - norm instead of conv - norm - nonlin.
        """
        super().__init__()
        resize_conv = matching_resize_conv(encoder.conv_op)
        width = encoder.output_channels[0]
        self.convs = nn.ModuleDict(
            {
                _key(node): resize_conv(
                    encoder.output_channels[node[0]], width, encoder.kernel_sizes[node[0]], bias=encoder.conv_bias
                )
                for node in sources
            }
        )
        norm = encoder.norm_op(width, **(encoder.norm_op_kwargs or {})) if encoder.norm_op else nn.Identity()
        nonlin = encoder.nonlin(**(encoder.nonlin_kwargs or {})) if encoder.nonlin else nn.Identity()
        if isinstance(norm, nn.Identity) or nonlin_first:
            nonlin.inplace = False  # autograd lets nothing be written into what a custom operator returns
        self.norm_and_nonlin = NormThenNonlin(*((nonlin, norm) if nonlin_first else (join(norm, nonlin), nonlin)))

    def forward(self, source: str, x: Tensor, size: Sequence[int]) -> Tensor:
        """Bring the map ``(B, C, *grid)`` of a source to a target's grid: ``(B, width, *size)``."""
        return self.norm_and_nonlin(self.convs[source](x, size))


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


def _crop(x: Tensor, size: Sequence[int]) -> Tensor:
    """The last row of an odd grid has no partner that a transposed convolution could have doubled."""
    for axis, n in enumerate(size, start=2):
        x = x.narrow(axis, 0, n)
    return x


def _key(node: Node) -> str:
    return f"{node[0]}_{node[1]}"
