"""What a classification gate's answer does to segmentation logits, at inference.

The paper multiplies the segmentation's probabilities by 0 or 1. nnU-Net averages logits over tiles and mirrorings, so
the gate works on logits: multiplying those, as the public code does, would turn "absent" into a probability of 0.5.

With foreground logit ``z``, reference logit ``r`` (the background's for exclusive labels; 0, a probability of 0.5, for
regions), threshold ``t`` of the class and ``p = P(present)``, a class is absent where ``p < t``, and

- hard: an absent class gets ``min(z, r - MARGIN)``, any other keeps ``z``. A patch in which every class is absent gets
  the logits of nothing but background, 0 for the background and ``-MARGIN`` for every class, whatever the decoder would
  have said; this is why the decoder need not be asked (early exit).
- soft: every class gets ``z + max(log p, -MARGIN)``; thresholds play no part and the decoder always runs.

Where tiles overlap, nnU-Net adds up logits: an absent tile votes against the class with ``MARGIN`` times its weight.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from weakref import finalize

import torch
from torch import Tensor, nn

from nnunetv2_unet3plus.building_blocks.classification_gate import presence_probability
from nnunetv2_unet3plus.errors import ConfigurationError

# exp(-10) is a probability under 5e-5. Finite and small, because nnU-Net adds up logits of overlapping tiles in half
# precision, weighted by up to 10.
MARGIN = 10.0

DEFAULT_THRESHOLD = 0.5  # the paper's argmax

Mode = Literal["hard", "soft"]

Patches = Tensor | slice  # of a batch: which of them, `(B,)` bool, or all
ALL = slice(None)


@dataclass
class SkippedPatches:
    """Patches a gate has seen at inference, tiles and their mirror images, and those it kept from the decoder."""

    seen: int = 0
    skipped: int = 0

    def report(self) -> None:
        """Print the share, if there was anything to skip."""
        if self.seen:
            print(f"Classification gate: decoder skipped for {self.skipped} of {self.seen} patches.")


class Gating(nn.Module):
    """Applies a gate's answer; its thresholds are a buffer, so they travel in every checkpoint.

    Attributes:
        thresholds: `(classes,)`, a class is absent where `P(present)` is below.
        count: for how many patches the decoder was not run; printed when the network is done with.
    """

    thresholds: Tensor

    def __init__(self, classes: int, regions: bool, mode: Mode = "hard") -> None:
        """Set all thresholds to 0.5.

        Args:
            classes: gated classes: all foreground labels, or all regions.
            regions: channels are independent regions (sigmoid), not exclusive labels with background first (softmax).
            mode: "hard" or "soft".

        Raises:
            ValueError: for another mode.
        """
        super().__init__()
        if mode not in ("hard", "soft"):
            raise ConfigurationError(f"gating must be 'hard' or 'soft', not {mode!r}.")
        self.register_buffer("thresholds", torch.full((classes,), DEFAULT_THRESHOLD))
        self.regions = regions
        self.mode = mode
        self.count = SkippedPatches()
        finalize(self, self.count.report)  # after nnUNetv2_predict at the latest

    def forward(self, gate_logits: Tensor, size: torch.Size, decode: Callable[[Patches], Tensor]) -> Tensor:
        """Segment what the gate lets through.

        Args:
            gate_logits: `(B, classes, 2)`.
            size: spatial size of the segmentation.
            decode: computes the logits `(b, C, *size)` of the patches it is given, by index, of `B`; those that hold no
                class are left out, and if none does it is not called.

        Returns:
            Gated logits `(B, C, *size)`.
        """
        if self.mode == "soft" or torch.compiler.is_exporting():  # an exported graph holds no decision
            return self.guide(gate_logits, decode(ALL))
        return self._skip_or_decode(gate_logits, size, decode)

    # torch.compile makes graphs of what comes before and of what this calls; the decision, which looks at values, stays
    # in Python. Traced, it would be compiled anew for every number of patches that have been counted.
    @torch.compiler.disable(recursive=False)
    def _skip_or_decode(self, gate_logits: Tensor, size: torch.Size, decode: Callable[[Patches], Tensor]) -> Tensor:
        """Decode the patches that hold a class, the others are background."""
        somewhere = self._present(gate_logits).any(1)
        patches, to_decode = len(gate_logits), int(somewhere.sum())
        self.count.seen += patches
        self.count.skipped += patches - to_decode
        if to_decode == patches:
            return self.guide(gate_logits, decode(ALL))
        nothing = self.background(gate_logits, size)
        if to_decode == 0:
            return nothing
        gated = self.guide(gate_logits[somewhere], decode(somewhere))
        return nothing.to(gated.dtype).index_put((somewhere,), gated)

    def guide(self, gate_logits: Tensor, logits: Tensor) -> Tensor:
        """Apply the gate's answer `(B, classes, 2)` to logits `(B, C, *size)` that have been decoded."""
        if self.mode == "soft":
            return self.soft(logits, presence_probability(gate_logits))
        return self.hard(logits, self._present(gate_logits))

    def _present(self, gate_logits: Tensor) -> Tensor:
        return presence_probability(gate_logits) >= self.thresholds

    def hard(self, logits: Tensor, present: Tensor) -> Tensor:
        """Lower the absent classes `~present`, `(B, classes)`, to the margin below the reference."""
        foreground, reference = self._split(logits)
        lowered = torch.minimum(foreground, reference - MARGIN)
        gated = self._join(logits, torch.where(_per_voxel(present, logits), foreground, lowered))
        somewhere = _per_voxel(present.any(1, keepdim=True), logits)
        return torch.where(somewhere, gated, self.background(logits, logits.shape[2:]))

    def soft(self, logits: Tensor, probability: Tensor) -> Tensor:
        """Add `log P(present)`, at least `-MARGIN`."""
        penalty = probability.log().clamp(min=-MARGIN).to(logits.dtype)
        return self._join(logits, self._split(logits)[0] + _per_voxel(penalty, logits))

    def background(self, like: Tensor, size: torch.Size) -> Tensor:
        """Logits `(B, C, *size)` of nothing but background, of the batch size, type and device of `like`."""
        channels = len(self.thresholds) + (not self.regions)
        logits = like.new_full((len(like), channels, *size), -MARGIN)
        if not self.regions:
            logits[:, 0] = 0
        return logits

    def _split(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The gated channels and the logit they are compared with."""
        return (logits, logits.new_zeros(())) if self.regions else (logits[:, 1:], logits[:, :1])

    def _join(self, logits: Tensor, foreground: Tensor) -> Tensor:
        return foreground if self.regions else torch.cat([logits[:, :1], foreground], dim=1)


def _per_voxel(per_class: Tensor, logits: Tensor) -> Tensor:
    return per_class.view(*per_class.shape, *[1] * (logits.ndim - 2))
