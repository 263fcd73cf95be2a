"""The loss of a classification gate: does the patch hold the class?"""

from collections.abc import Sequence
from math import nan

import torch
from torch import Tensor, nn
from torch.nn import functional


class PresenceTarget:
    """Which classes the annotated part of a patch holds.

    Attributes:
        present: `(B, classes)` bool.
        counts: `(B,)` bool, False where the whole patch is ignored: it says nothing about any class.
    """

    def __init__(self, target: Tensor, classes: int, regions: bool, ignore_label: int | None) -> None:
        """Read nnU-Net's segmentation target.

        Args:
            target: label map `(B, 1, *spatial)`, or region channels `(B, R, *spatial)` with the ignore mask last where
                there is an ignore label.
            classes: foreground labels or regions.
            regions: channels are regions.
            ignore_label: voxels of this label count neither for nor against a class.
        """
        voxels = target.flatten(2)
        ignored = None
        if ignore_label is not None:
            ignored = voxels[:, -1].bool() if regions else voxels[:, 0] == ignore_label
        if regions:
            found = voxels[:, :classes].bool()
            self.present = (found if ignored is None else found & ~ignored[:, None]).any(2)
        else:
            self.present = torch.stack([(voxels[:, 0] == label).any(1) for label in range(1, classes + 1)], dim=1)
        everything = torch.ones(len(target), dtype=torch.bool, device=target.device)
        self.counts = everything if ignored is None else ~ignored.all(1)


class PresenceRecord:
    """How well the gate has classified since the last reset, kept on the device: no synchronisation in a step."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def add(self, gate_logits: Tensor, target: PresenceTarget) -> None:
        """Count one batch; several gates are one that is right as often as they are on average."""
        counts = target.counts[:, None]
        right = ((gate_logits[..., 1] >= gate_logits[..., 0]) == target.present[:, None]).double().mean(1) * counts
        empty = ~target.present.any(1, keepdim=True) & counts
        held = (target.present & counts).sum(0)
        sums = torch.cat([torch.stack([counts.sum(), empty.sum(), right.sum()]), held])
        self._sums = sums if self._sums is None else self._sums + sums

    def share_of_patches(self) -> list[float]:
        """For every class the share of patches that hold it; empty if nothing counted."""
        if self._sums is None:
            return []
        patches, _, _, *held = self._sums.tolist()
        return [count / patches for count in held] if patches else []

    def take(self) -> tuple[float, float]:
        """Accuracy over patches and classes, and share of patches without any class; starts anew."""
        if self._sums is None:
            return nan, nan
        patches, empty, right, *held = self._sums.tolist()
        self._sums = None
        return (right / (patches * len(held)), empty / patches) if patches else (nan, nan)


class PresenceGuidedLoss(nn.Module):
    """A segmentation loss plus the binary cross-entropy of the gates, weight 1 (UNet 3+, section 2.3).

    A gate's two outputs a class are compared, as probabilities of their own, with (absent, present), and averaged.

    Attributes:
        record: accuracy and share of empty patches.
    """

    def __init__(self, segmentation_loss: nn.Module, regions: bool = False, ignore_label: int | None = None) -> None:
        """Wrap a loss.

        Args:
            segmentation_loss: called with the segmentation's outputs and the target.
            regions: see `SegmentationLoss`.
            ignore_label: see `SegmentationLoss`.
        """
        super().__init__()
        self.segmentation_loss = segmentation_loss
        self.regions = regions
        self.ignore_label = ignore_label
        self.record = PresenceRecord()

    def forward(self, outputs: Sequence[Tensor], targets: Sequence[Tensor] | Tensor) -> Tensor:
        """The summed loss, a scalar.

        Args:
            outputs: the segmentation's logits of every head, and last the gates', `(B, gates, classes, 2)`.
            targets: nnU-Net's targets, finest first.
        """
        *segmentations, gate_logits = outputs
        finest = targets if isinstance(targets, Tensor) else targets[0]
        target = PresenceTarget(finest, gate_logits.shape[2], self.regions, self.ignore_label)
        with torch.no_grad():
            self.record.add(gate_logits, target)
        return self.segmentation_loss(segmentations, targets) + presence_loss(gate_logits, target)


def presence_loss(gate_logits: Tensor, target: PresenceTarget) -> Tensor:
    """Binary cross-entropy in float32, the mean over gates, classes and the patches that count; 0 if none does.

    Args:
        gate_logits: `(B, gates, classes, 2)`.
        target: what the patches hold.
    """
    one_hot = torch.stack([~target.present, target.present], dim=2).float()[:, None].expand_as(gate_logits)
    per_voice = functional.binary_cross_entropy_with_logits(gate_logits.float(), one_hot, reduction="none")
    per_patch = per_voice.mean((1, 2, 3))
    return (per_patch * target.counts).sum() / target.counts.sum().clamp(min=1)
