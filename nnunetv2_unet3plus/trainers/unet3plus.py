"""UNet 3+ (Huang et al., ICASSP 2020): the network, its losses, and the rows of the paper's ablation."""

from typing import ClassVar

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunetv2_unet3plus.architectures.unet3plus import UNet3Plus, unet3plus_paper
from nnunetv2_unet3plus.architectures.unet3plus_cgm import UNet3PlusCGM
from nnunetv2_unet3plus.losses import FocalLoss, HybridLoss, SegmentationLoss, equal_weights
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


class nnUNetTrainerUNet3PlusPaper(nnUNetTrainerUNet3Plus):
    """The paper's network as published: five stages of 64 to 1024 features, whatever the plan's topology. 2D."""

    head_weights = staticmethod(equal_weights)

    @classmethod
    def strides(cls, configuration_manager: ConfigurationManager) -> list[list[int]]:
        """The paper's own: four times half the size."""
        dims = len(configuration_manager.patch_size)
        if dims != 2:
            raise ValueError(
                f"{cls.__name__} is the paper's 2D network: train it with the configuration 2d, "
                "or nnUNetTrainerUNet3Plus with this one."
            )
        return [[1] * dims] + [[2] * dims] * 4

    @classmethod
    def _network(
        cls, configuration: ConfigurationManager, input_channels: int, output_channels: int, deep_supervision: bool
    ) -> nn.Module:
        network = unet3plus_paper(input_channels, output_channels, deep_supervision)
        return network.apply(network.initialize)
