"""Sums of losses, as the papers train with."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .base import Prediction, SegmentationLoss
from .dice import LaplaceDiceLoss
from .focal import FocalLoss
from .iou import IoULoss
from .lovasz import LovaszLoss
from .ms_ssim import MSSSIMLoss
from .target import SegmentationTarget


class CompoundLoss(SegmentationLoss):
    """Weighted sum of losses that read the target and the probabilities once between them.

    Args:
        terms: The losses. Their own `regions` and `ignore_label` do not matter: the sum prepares the target.
        weights: One factor a term.
        regions: See `SegmentationLoss`.
        ignore_label: See `SegmentationLoss`.

    Raises:
        ValueError: If there is not one weight a term.
    """

    def __init__(
        self,
        terms: Sequence[SegmentationLoss],
        weights: Sequence[float],
        *,
        regions: bool = False,
        ignore_label: int | None = None,
    ) -> None:
        super().__init__(regions=regions, ignore_label=ignore_label)
        if len(terms) != len(weights):
            raise ValueError(f"{len(terms)} loss terms but {len(weights)} weights: give each term one")
        self.terms = nn.ModuleList(terms)
        self.weights = tuple(weights)

    def compute(self, prediction: Prediction, target: SegmentationTarget) -> Tensor:
        """See `SegmentationLoss`."""
        values = [cast(SegmentationLoss, term).compute(prediction, target) for term in self.terms]
        return torch.stack([weight * value for weight, value in zip(self.weights, values, strict=True)]).sum(0)


class HybridLoss(CompoundLoss):
    """Focal + MS-SSIM + IoU: pixel, patch and map level (UNet 3+, eq. 6).

    Takes the place of nnU-Net's own loss: `loss(net_output, target)`.

    Args:
        regions: See `SegmentationLoss`.
        ignore_label: See `SegmentationLoss`.
    """

    def __init__(self, *, regions: bool = False, ignore_label: int | None = None) -> None:
        terms = (FocalLoss(), MSSSIMLoss(), IoULoss())
        super().__init__(terms, (1.0, 1.0, 1.0), regions=regions, ignore_label=ignore_label)


class UNetPlusPlusLoss(CompoundLoss):
    """Cross-entropy (for regions binary) + Dice, the hybrid segmentation loss of UNet++ (Zhou et al., TMI 2020).

    Args:
        regions: See `SegmentationLoss`.
        ignore_label: See `SegmentationLoss`.
    """

    def __init__(self, *, regions: bool = False, ignore_label: int | None = None) -> None:
        cross_entropy = FocalLoss(gamma=0)
        super().__init__((cross_entropy, LaplaceDiceLoss()), (1.0, 1.0), regions=regions, ignore_label=ignore_label)


class UNetSharpLoss(CompoundLoss):
    """0.5 focal (gamma 2, alpha 0.25) + Laplace Dice + 0.5 Lovasz (UNet#, eq. 2).

    Args:
        regions: See `SegmentationLoss`.
        ignore_label: See `SegmentationLoss`.
    """

    def __init__(self, *, regions: bool = False, ignore_label: int | None = None) -> None:
        terms = (FocalLoss(alpha=0.25), LaplaceDiceLoss(), LovaszLoss())
        super().__init__(terms, (0.5, 1.0, 0.5), regions=regions, ignore_label=ignore_label)
