"""The frame every segmentation loss of this package fits in."""

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor, nn

from .target import SegmentationTarget


class Prediction:
    """Logits of one head or several, with the probabilities computed at most once.

    Args:
        logits: Network output before any nonlinearity, (B, C, *spatial) or (heads, B, C, *spatial).
        target: What it is compared with: says whether classes exclude each other and which voxels count.
    """

    def __init__(self, logits: Tensor, target: SegmentationTarget) -> None:
        self.logits = logits.to(target.one_hot.dtype)
        self._target = target

    @cached_property
    def foreground(self) -> Tensor:
        """Probabilities on the channels of `target.foreground`, 0 in ignored voxels.

        With one foreground label this is the single sigmoid channel of the papers (of the logit difference).
        """
        target = self._target
        if target.regions:
            probabilities = self.logits.sigmoid()
        else:
            probabilities = without_background(self.logits.softmax(target.channels), target)
        return probabilities if target.valid is None else probabilities * target.valid


def without_background(maps: Tensor, target: SegmentationTarget) -> Tensor:
    """All channels but the first."""
    return maps.narrow(target.channels, 1, maps.shape[target.channels] - 1)


class SegmentationLoss(nn.Module, ABC):
    """A loss on logits for nnU-Net's targets, computed in float32 whatever autocast says.

    Args:
        regions: Targets hold one channel a region (sigmoid) instead of a label map (softmax).
        ignore_label: For labels, the label that does not count. For regions any value but None says that the target's
            last channel is the ignore mask.
    """

    def __init__(self, *, regions: bool = False, ignore_label: int | None = None) -> None:
        super().__init__()
        self.regions = regions
        self.ignore_label = ignore_label

    def prepare(self, target: Tensor, logits: Tensor) -> SegmentationTarget:
        """Read nnU-Net's target once, for any number of losses and heads of the same shape.

        Args:
            target: (B, 1, *spatial) labels or (B, R, *spatial) regions, see `SegmentationTarget`.
            logits: An output it will be compared with, for the number of channels and the type.

        Raises:
            ValueError: If target and logits do not fit each other.
        """
        if self.regions:
            return SegmentationTarget.from_regions(target, logits, has_ignore=self.ignore_label is not None)
        return SegmentationTarget.from_labels(target, logits, self.ignore_label)

    def forward(self, logits: Tensor, target: Tensor | SegmentationTarget) -> Tensor:
        """The loss of one head, a scalar, or of several with the same target, (heads,).

        Args:
            logits: Network output before any nonlinearity, (B, C, *spatial), or, with a prepared target,
                (heads, B, C, *spatial).
            target: nnU-Net's target, or what `prepare` made of it.

        Raises:
            ValueError: If target and logits do not fit each other.
        """
        with torch.autocast(logits.device.type, enabled=False):
            if isinstance(target, Tensor):
                target = self.prepare(target, logits)
            return self.compute(Prediction(logits, target), target)

    @abstractmethod
    def compute(self, prediction: Prediction, target: SegmentationTarget) -> Tensor:
        """The loss itself, of the shape that the logits have in front of (B, C, *spatial); runs outside autocast."""
