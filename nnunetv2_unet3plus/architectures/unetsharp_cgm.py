"""UNet# with the classification-guided module: a gate on each of its branches (Qian et al., 2022)."""

from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_unet3plus.architectures.unetsharp import UNetSharp
from nnunetv2_unet3plus.building_blocks.classification_gate import PooledGate
from nnunetv2_unet3plus.building_blocks.gating import Gating, Mode
from nnunetv2_unet3plus.building_blocks.wiring import Node
from nnunetv2_unet3plus.errors import ConfigurationError


class UNetSharpCGM(UNetSharp):
    """UNet# whose branches each say which classes a patch holds.

    In training and with deep supervision nothing is gated, and the gates' logits are the last output. At inference
    (evaluation mode without deep supervision) a full-resolution branch is guided by its own gate, and the segmentation
    by that of the deepest map, see `Gating`: with hard gating a class is absent where either says so, with soft gating
    both logarithms are added. A patch whose deepest map holds nothing never reaches the decoder.
    """

    def __init__(self, *args: Any, gating: Mode = "hard", **kwargs: Any) -> None:
        """Build the network; arguments not named here are those of `UNetSharp`.

        Args:
            *args: see `UNetSharp`.
            gating: "hard" or "soft", see `Gating`.
            **kwargs: see `UNetSharp`.

        Raises:
            ValueError: without a foreground class, for an unknown gating, a level to prune to, and as `UNetSharp`.
        """
        if kwargs.get("prune_level") is not None:
            raise ConfigurationError(
                "prune_level would cut away the deepest map, whose gate decides first: leave it out."
            )
        super().__init__(*args, **kwargs)
        decoder = self.decoder
        classes = decoder.num_classes - (not decoder.regions)
        deepest = len(decoder.channels) - 1
        self.gates = nn.ModuleDict()
        for row, column in decoder.branches:
            channels = decoder.channels[row]
            hidden = channels if row >= deepest - 1 else None  # two layers for the two deepest branches
            self.gates[f"{row}_{column}"] = PooledGate(channels, classes, hidden)
        self.deepest = (deepest, 0)
        self.guides = [self.deepest] + [branch for branch in decoder.branches if branch[0] == 0]
        self.gatings = nn.ModuleList(Gating(classes, decoder.regions, gating) for _ in self.guides)

    def segment(self, x: Tensor) -> Tensor | list[Tensor]:
        """Segment.

        Args:
            x: images of shape `(B, input_channels, *size)`, any size.

        Returns:
            Logits `(B, num_classes, *size)`, gated in evaluation mode; with deep supervision a list, ungated logits of
            every branch, full resolution first, and last those of their gates, `(B, branches, classes, 2)`.
        """
        decoder, skips = self.decoder, self.encoder(x)
        if decoder.deep_supervision:
            maps = decoder.node_maps(skips)
            segmentations = [decoder.segment(branch, maps) for branch in decoder.branches]
            return [*segmentations, self._ask(decoder.branches, maps)]
        if self.training:
            return decoder(skips)
        return self.gatings[0](
            self._gate(self.deepest, skips[-1]),
            x.shape[2:],
            lambda patches: self._guided([skip[patches] for skip in skips]),
        )

    def _guided(self, skips: list[Tensor]) -> Tensor:
        """The segmentation by branches that have each asked their own gate."""
        maps = self.decoder.node_maps(skips)
        return self.decoder.result(
            [
                self._gating(branch).guide(self._gate(branch, maps[branch]), self.decoder.segment(branch, maps))
                for branch in self.decoder.result_branches()
            ]
        )

    def _gating(self, branch: Node) -> Any:
        return self.gatings[self.guides.index(branch)]

    def presence_logits(self, x: Tensor) -> Tensor:
        """The answers `(B, gates, classes, 2)` of the gates that are asked at inference, that of the deepest first."""
        return self.sparingly(lambda x: self._ask(self.guides, self.decoder.node_maps(self.encoder(x))), x)

    def _ask(self, branches: list[Node], maps: dict[Node, Tensor]) -> Tensor:
        return torch.stack([self._gate(branch, maps[branch]) for branch in branches], dim=1)

    def _gate(self, branch: Node, x: Tensor) -> Tensor:
        return self.gates[f"{branch[0]}_{branch[1]}"](x)
