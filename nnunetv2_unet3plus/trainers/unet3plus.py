"""UNet 3+ (Huang et al., ICASSP 2020): the network, its losses, and the rows of the paper's ablation."""

from typing import ClassVar

from nnunetv2_unet3plus.architectures.unet3plus import UNet3Plus
from nnunetv2_unet3plus.architectures.unet3plus_cgm import UNet3PlusCGM
from nnunetv2_unet3plus.architectures.unet3plus_lite import UNet3PlusLite, UNet3PlusLiteCGM
from nnunetv2_unet3plus.losses import FocalLoss, HybridLoss, SegmentationLoss
from nnunetv2_unet3plus.trainers.classification_guided import ClassificationGuidedTrainer
from nnunetv2_unet3plus.trainers.declarative import DeclarativeTrainer


class nnUNetTrainerUNet3Plus(DeclarativeTrainer):
    """The plan's encoder, full-scale decoder, full-scale deep supervision, hybrid loss."""

    network_class = UNet3Plus
    loss_class: ClassVar[type[SegmentationLoss] | None] = HybridLoss
    full_scale_supervision = True


class nnUNetTrainerUNet3PlusCGM(ClassificationGuidedTrainer, nnUNetTrainerUNet3Plus):
    """With the classification gate, the paper's best row; skips the decoder where a patch holds nothing."""

    network_class = UNet3PlusCGM


class nnUNetTrainerUNet3PlusLite(nnUNetTrainerUNet3Plus):
    """The cheaper sibling: full-scale skips below the price of nnU-Net's own network."""

    network_class = UNet3PlusLite


class nnUNetTrainerUNet3PlusLiteCGM(ClassificationGuidedTrainer, nnUNetTrainerUNet3Plus):
    """The cheaper sibling with the classification gate."""

    network_class = UNet3PlusLiteCGM


class nnUNetTrainerUNet3PlusFocal(nnUNetTrainerUNet3Plus):
    """The paper's row "UNet 3+": focal loss, full-scale deep supervision."""

    loss_class = FocalLoss


class nnUNetTrainerUNet3PlusNoDS(nnUNetTrainerUNet3PlusFocal):
    """The paper's row "UNet 3+ without deep supervision": focal loss on the full-resolution head alone."""

    deep_supervision = False


class nnUNetTrainerUNet3PlusDiceCE(DeclarativeTrainer):
    """nnU-Net's own loss, every head at its own size: what the architecture alone changes."""

    network_class = UNet3Plus


class nnUNetTrainerHybridLoss(DeclarativeTrainer):
    """nnU-Net's own network with UNet 3+'s hybrid loss: what the loss alone changes."""

    loss_class = HybridLoss
