"""The Lovasz extension of the Jaccard loss (Berman et al., "The Lovasz-Softmax Loss", CVPR 2018)."""

from torch import Tensor, where, zeros_like

from .base import Prediction, SegmentationLoss
from .target import SegmentationTarget


class LovaszLoss(SegmentationLoss):
    """A convex surrogate of 1 - IoU, mean over samples and foreground classes.

    For labels the Lovasz-softmax loss, whose errors are |g - p| (eq. 8 and 9); for regions, and for one foreground
    label, the Lovasz hinge, whose errors are max(0, 1 - logit * sign) (eq. 6 and 7), the logit of one label being its
    lead over the background. Voxels that do not count have no error. A class that a sample does not hold counts, too:
    its worst voxel alone.

    Args:
        regions: See `SegmentationLoss`.
        ignore_label: See `SegmentationLoss`.
    """

    def compute(self, prediction: Prediction, target: SegmentationTarget) -> Tensor:
        """See `SegmentationLoss`."""
        true = target.foreground
        if target.regions or true.shape[1] == 1:
            logits = prediction.logits if target.regions else prediction.logits.diff(dim=target.channels)
            errors = (1 - logits * (2 * true - 1)).relu()
        else:
            errors = (true - prediction.foreground).abs()
        if target.valid is not None:
            errors = errors * target.valid
        errors, order = errors.flatten(target.channels + 1).sort(dim=-1, descending=True)
        true = true.flatten(2).expand_as(order).gather(-1, order)
        return (errors * jaccard_steps(true)).sum(-1).mean((-2, -1))


def jaccard_steps(true: Tensor) -> Tensor:
    """How much the Jaccard loss grows when one voxel more, in this order, is wrong (algorithm 1).

    Args:
        true: whether the voxel belongs to the object, ``(..., voxels)`` of 0 and 1, worst error first.

    Returns:
        Of the same shape; each row sums to 1.
    """
    objects, missed, added = true.sum(-1, keepdim=True), true.cumsum(-1), (1 - true).cumsum(-1)
    union = objects + added
    # in closed form: differences of neighbouring losses would cancel on large maps
    steps = where(true.bool(), 1 / union, (objects - missed) / (union * (union - 1).clamp(min=1)))
    only_first = zeros_like(true)
    only_first[..., 0] = 1  # without object the first wrong voxel costs all
    return where(objects == 0, only_first, steps)
