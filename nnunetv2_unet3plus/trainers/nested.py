"""UNet++ (Zhou et al., TMI 2020) and UNet# (Qian et al., 2022): the networks with their losses, whole and pruned."""

from typing import Any, ClassVar

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunetv2_unet3plus.architectures.unetplusplus import UNetPlusPlus
from nnunetv2_unet3plus.architectures.unetsharp import UNetSharp
from nnunetv2_unet3plus.architectures.unetsharp_cgm import UNetSharpCGM
from nnunetv2_unet3plus.errors import ConfigurationError
from nnunetv2_unet3plus.losses import UNetPlusPlusLoss, UNetSharpLoss, equal_weights
from nnunetv2_unet3plus.trainers.classification_guided import ClassificationGuidedTrainer
from nnunetv2_unet3plus.trainers.declarative import DeclarativeTrainer


class NestedTrainer(DeclarativeTrainer):
    """What trainers of nested networks share: the branches count alike; plans may ask for fewer, or for their mean."""

    head_weights = staticmethod(equal_weights)
    regions_in_plans = True

    @classmethod
    def strides(cls, configuration_manager: ConfigurationManager) -> list[list[int]]:
        """Of the stages that are built."""
        kept = cls._options(configuration_manager).get("prune_level")
        return super().strides(configuration_manager)[: kept + 1 if isinstance(kept, int) else None]

    @classmethod
    def _network(
        cls, configuration: ConfigurationManager, input_channels: int, output_channels: int, deep_supervision: bool
    ) -> nn.Module:
        if not cls.deep_supervision and cls._options(configuration).get("inference_mode") == "accurate":
            raise ConfigurationError(
                f'inference_mode "accurate" averages branches that {cls.__name__} has not trained: set it to "fast" '
                "in the plans, or train with deep supervision."
            )
        return super()._network(configuration, input_channels, output_channels, deep_supervision)

    @classmethod
    def _options(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        return configuration.network_arch_init_kwargs | cls.network_options


class nnUNetTrainerUNetPlusPlus(NestedTrainer):
    """Nested skips, a head on every node of the first row, cross-entropy and Dice."""

    network_class = UNetPlusPlus
    loss_class = UNetPlusPlusLoss


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


class nnUNetTrainerUNetSharp(NestedTrainer):
    """Nested and full-scale skips, heads on all branches, focal, Dice and Lovasz loss."""

    network_class = UNetSharp
    loss_class = UNetSharpLoss


class nnUNetTrainerUNetSharpNoDS(nnUNetTrainerUNetSharp):
    """Only the last node of the first row is supervised."""

    deep_supervision = False


class nnUNetTrainerUNetSharpCGM(ClassificationGuidedTrainer, nnUNetTrainerUNetSharp):
    """With a classification gate on every branch; skips the decoder where a patch holds nothing."""

    network_class = UNetSharpCGM


class nnUNetTrainerUNetSharpL1(nnUNetTrainerUNetSharp):
    """The pruned network trained alone: two stages. Its branches are those of the first row."""

    network_options: ClassVar[dict[str, Any]] = {"prune_level": 1}


class nnUNetTrainerUNetSharpL2(nnUNetTrainerUNetSharp):
    """The same with three stages."""

    network_options: ClassVar[dict[str, Any]] = {"prune_level": 2}


class nnUNetTrainerUNetSharpL3(nnUNetTrainerUNetSharp):
    """The same with four stages."""

    network_options: ClassVar[dict[str, Any]] = {"prune_level": 3}
