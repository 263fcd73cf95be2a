"""UNet++ (Zhou et al., TMI 2020) and UNet# (Qian et al., 2022): the networks with their losses, whole and pruned."""

from typing import Any, ClassVar

from nnunetv2_unet3plus.architectures.unetplusplus import UNetPlusPlus
from nnunetv2_unet3plus.architectures.unetsharp import UNetSharp
from nnunetv2_unet3plus.losses import UNetPlusPlusLoss, UNetSharpLoss, equal_weights
from nnunetv2_unet3plus.trainers.declarative import DeclarativeTrainer


class nnUNetTrainerUNetPlusPlus(DeclarativeTrainer):
    """Nested skips, a head on every node of the first row, cross-entropy and Dice."""

    network_class = UNetPlusPlus
    loss_class = UNetPlusPlusLoss
    head_weights = staticmethod(equal_weights)


class nnUNetTrainerUNetPlusPlusNoDS(nnUNetTrainerUNetPlusPlus):
    """Only the last node of the first row is supervised."""

    deep_supervision = False


class nnUNetTrainerUNetPlusPlusL1(nnUNetTrainerUNetPlusPlus):
    """The pruned network trained alone, which the paper calls isolated: two stages."""

    network_options: ClassVar[dict[str, Any]] = {"prune_level": 1}


class nnUNetTrainerUNetPlusPlusL2(nnUNetTrainerUNetPlusPlus):
    """The same with three stages."""

    network_options: ClassVar[dict[str, Any]] = {"prune_level": 2}


class nnUNetTrainerUNetPlusPlusL3(nnUNetTrainerUNetPlusPlus):
    """The same with four stages."""

    network_options: ClassVar[dict[str, Any]] = {"prune_level": 3}


class nnUNetTrainerUNetSharp(DeclarativeTrainer):
    """Nested and full-scale skips, heads on all branches, focal, Dice and Lovasz loss."""

    network_class = UNetSharp
    loss_class = UNetSharpLoss
    head_weights = staticmethod(equal_weights)


class nnUNetTrainerUNetSharpNoDS(nnUNetTrainerUNetSharp):
    """Only the last node of the first row is supervised."""

    deep_supervision = False


class nnUNetTrainerUNetSharpL1(nnUNetTrainerUNetSharp):
    """The pruned network trained alone: two stages."""

    network_options: ClassVar[dict[str, Any]] = {"prune_level": 1}


class nnUNetTrainerUNetSharpL2(nnUNetTrainerUNetSharp):
    """The same with three stages."""

    network_options: ClassVar[dict[str, Any]] = {"prune_level": 2}


class nnUNetTrainerUNetSharpL3(nnUNetTrainerUNetSharp):
    """The same with four stages."""

    network_options: ClassVar[dict[str, Any]] = {"prune_level": 3}
