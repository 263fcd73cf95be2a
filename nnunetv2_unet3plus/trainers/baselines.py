"""The systems the papers compare with, trained as nnU-Net trains its own: one output, nnU-Net's loss. 2D."""

from nnunetv2_unet3plus.architectures.baselines import AttentionUNet, DeepLabV3, DeepLabV3Plus, PSPNet
from nnunetv2_unet3plus.trainers.declarative import DeclarativeTrainer


class LibraryTrainer(DeclarativeTrainer):
    """A network with one output."""

    deep_supervision = False


class nnUNetTrainerPSPNet(LibraryTrainer):
    """PSPNet on ResNet-101, of segmentation_models_pytorch."""

    network_class = PSPNet


class nnUNetTrainerDeepLabV3(LibraryTrainer):
    """DeepLabV3 on ResNet-101, of segmentation_models_pytorch."""

    network_class = DeepLabV3


class nnUNetTrainerDeepLabV3Plus(LibraryTrainer):
    """DeepLabV3+ on ResNet-101, of segmentation_models_pytorch."""

    network_class = DeepLabV3Plus


class nnUNetTrainerAttentionUNet(LibraryTrainer):
    """Attention U-Net, of MONAI."""

    network_class = AttentionUNet
