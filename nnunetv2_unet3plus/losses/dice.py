"""Dice loss with Laplace smoothing (UNet#, eq. 2)."""

from torch import Tensor

from .base import Prediction, SegmentationLoss
from .target import SegmentationTarget


class LaplaceDiceLoss(SegmentationLoss):
    """1 - (2 |P and G| + 1) / (|P| + |G| + 1), sums of probabilities for the sets, mean over samples and classes.

    The added 1 is a voxel: predicting nothing where nothing is counts as perfect, and tiny objects weigh less.

    Args:
        regions: See `SegmentationLoss`.
        ignore_label: See `SegmentationLoss`.
    """

    def compute(self, prediction: Prediction, target: SegmentationTarget) -> Tensor:
        """See `SegmentationLoss`."""
        predicted, true = prediction.foreground.flatten(target.channels + 1), target.foreground.flatten(2)
        dice = (2 * (predicted * true).sum(-1) + 1) / (predicted.sum(-1) + true.sum(-1) + 1)
        return 1 - dice.mean((-2, -1))
