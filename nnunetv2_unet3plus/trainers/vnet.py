"""The V-Net family of the UNet# paper: V-Net's encoder, each decoder with its own paper's loss."""

from nnunetv2_unet3plus.architectures.vnet import VNet, VNet3Plus, VNetPlusPlus, VNetSharp
from nnunetv2_unet3plus.losses import HybridLoss, UNetPlusPlusLoss, UNetSharpLoss
from nnunetv2_unet3plus.trainers.declarative import DeclarativeTrainer
from nnunetv2_unet3plus.trainers.nested import NestedTrainer


class nnUNetTrainerVNet(DeclarativeTrainer):
    """A plain decoder with a single head, nnU-Net's loss."""

    network_class = VNet
    deep_supervision = False


class nnUNetTrainerVNetPlusPlus(NestedTrainer):
    """Nested skips, cross-entropy and Dice."""

    network_class = VNetPlusPlus
    loss_class = UNetPlusPlusLoss


class nnUNetTrainerVNet3Plus(DeclarativeTrainer):
    """Full-scale skips and supervision, hybrid loss."""

    network_class = VNet3Plus
    loss_class = HybridLoss
    full_scale_supervision = True


class nnUNetTrainerVNetSharp(NestedTrainer):
    """Nested and full-scale skips, focal, Dice and Lovasz loss."""

    network_class = VNetSharp
    loss_class = UNetSharpLoss
