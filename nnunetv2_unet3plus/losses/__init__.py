"""Losses on logits for nnU-Net's targets: 2D and 3D, labels and regions, ignore label, deep supervision."""

from .base import SegmentationLoss
from .compound import CompoundLoss, HybridLoss
from .deep_supervision import DeepSupervisionLoss, equal_weights, halving_weights
from .focal import FocalLoss
from .iou import IoULoss
from .ms_ssim import MSSSIMLoss
from .presence import PresenceGuidedLoss
from .target import SegmentationTarget

__all__ = [
    "CompoundLoss",
    "DeepSupervisionLoss",
    "FocalLoss",
    "HybridLoss",
    "IoULoss",
    "MSSSIMLoss",
    "PresenceGuidedLoss",
    "SegmentationLoss",
    "SegmentationTarget",
    "equal_weights",
    "halving_weights",
]
