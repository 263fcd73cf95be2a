"""Losses on logits for nnU-Net's targets: 2D and 3D, labels and regions, ignore label, deep supervision."""

from .base import SegmentationLoss
from .compound import CompoundLoss, HybridLoss, UNetPlusPlusLoss, UNetSharpLoss
from .deep_supervision import DeepSupervisionLoss, equal_weights, halving_weights
from .dice import LaplaceDiceLoss
from .focal import FocalLoss
from .iou import IoULoss
from .lovasz import LovaszLoss
from .ms_ssim import MSSSIMLoss
from .presence import PresenceGuidedLoss
from .slice_wise import SliceWiseLoss
from .target import SegmentationTarget

__all__ = [
    "CompoundLoss",
    "DeepSupervisionLoss",
    "FocalLoss",
    "HybridLoss",
    "IoULoss",
    "LaplaceDiceLoss",
    "LovaszLoss",
    "MSSSIMLoss",
    "PresenceGuidedLoss",
    "SegmentationLoss",
    "SegmentationTarget",
    "SliceWiseLoss",
    "UNetPlusPlusLoss",
    "UNetSharpLoss",
    "equal_weights",
    "halving_weights",
]
