"""Focal loss (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017)."""

import torch
from torch import Tensor
from torch.nn import functional

from .base import Prediction, SegmentationLoss
from .target import SegmentationTarget


class FocalLoss(SegmentationLoss):
    """Cross-entropy that fades on voxels already right: -alpha_t (1 - p_t)^gamma log p_t (Lin et al., eq. 5).

    p_t is the probability of the true class; for regions, each channel is a binary problem of its own. Mean over the
    voxels that count (and over regions).

    Args:
        gamma: Focusing exponent, 0 (plain cross-entropy) or at least 1.
        alpha: Weight of foreground voxels, background gets 1 - alpha. None weighs all alike (UNet 3+).
        regions: See `SegmentationLoss`.
        ignore_label: See `SegmentationLoss`.

    Raises:
        ValueError: If gamma or alpha is out of range.
    """

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        alpha: float | None = None,
        regions: bool = False,
        ignore_label: int | None = None,
    ) -> None:
        super().__init__(regions=regions, ignore_label=ignore_label)
        if gamma != 0 and gamma < 1:
            raise ValueError(
                f"gamma must be 0 or at least 1, got {gamma}: in between the gradient is infinite at p_t = 1"
            )
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
        self.gamma = gamma
        self.alpha = alpha

    def compute(self, prediction: Prediction, target: SegmentationTarget) -> Tensor:
        """See `SegmentationLoss`."""
        log_p = _log_p_true(prediction.logits, target)
        # expm1 keeps 1 - p_t exact where p_t is near 1, that is almost everywhere.
        focal = -((-torch.expm1(log_p)) ** self.gamma) * log_p
        if self.alpha is not None:
            is_foreground = target.one_hot if target.regions else 1 - target.one_hot[:, :1]
            focal = focal * (1 - self.alpha + (2 * self.alpha - 1) * is_foreground)
        batch = target.channels - 1
        if target.valid is None:
            return focal.flatten(batch).mean(-1)
        count = target.valid.sum().clamp(min=1) * focal.shape[target.channels]
        return (focal * target.valid).flatten(batch).sum(-1) / count


def _log_p_true(logits: Tensor, target: SegmentationTarget) -> Tensor:
    """Log-probability of the truth, (..., B, 1, *spatial) for labels and (..., B, R, *spatial) for regions."""
    if target.regions:
        return functional.logsigmoid(logits * (2 * target.one_hot - 1))
    axis = target.channels
    return (functional.log_softmax(logits, axis) * target.one_hot).sum(axis, keepdim=True)
