"""IoU loss: soft Jaccard index (UNet 3+, section 2.2; Mattyus et al., "DeepRoadMapper", ICCV 2017)."""

from torch import Tensor

from .base import Prediction, SegmentationLoss
from .target import SegmentationTarget


class IoULoss(SegmentationLoss):
    """1 - |P and G| / |P or G| with sums of products for the sets, mean over samples and foreground classes.

    Args:
        smooth: Added to both sets, in voxels, so that nothing predicted where nothing is counts as a perfect match.
            Small enough to leave a one-voxel object its full weight.
        regions: See `SegmentationLoss`.
        ignore_label: See `SegmentationLoss`.
    """

    def __init__(self, *, smooth: float = 1e-5, regions: bool = False, ignore_label: int | None = None) -> None:
        super().__init__(regions=regions, ignore_label=ignore_label)
        self.smooth = smooth

    def compute(self, prediction: Prediction, target: SegmentationTarget) -> Tensor:
        """See `SegmentationLoss`."""
        predicted, true = prediction.foreground.flatten(target.channels + 1), target.foreground.flatten(2)
        intersection = (predicted * true).sum(-1)
        union = predicted.sum(-1) + true.sum(-1) - intersection
        return 1 - ((intersection + self.smooth) / (union + self.smooth)).mean((-2, -1))
