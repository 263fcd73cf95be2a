"""Networks exactly as published, whatever the plan: 2D, five stages, each half the size of the last."""

from typing import Any, ClassVar

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunetv2_unet3plus.architectures.papers import unet3plus_paper, unetsharp_paper_unet, unetsharp_paper_wide_unet
from nnunetv2_unet3plus.losses import equal_weights
from nnunetv2_unet3plus.trainers.fixed_stages import FixedStagesTrainer
from nnunetv2_unet3plus.trainers.unet3plus import nnUNetTrainerUNet3Plus


class PaperTrainer(FixedStagesTrainer):
    """The network itself as published.

    Attributes:
        preset: makes it from input channels, classes and deep supervision.
    """

    preset: ClassVar["staticmethod[..., nn.Module]"]
    head_weights = staticmethod(equal_weights)

    @classmethod
    def _network(
        cls, configuration: ConfigurationManager, input_channels: int, output_channels: int, deep_supervision: bool
    ) -> nn.Module:
        network: Any = cls.preset(input_channels, output_channels, deep_supervision)
        return network.apply(network.initialize)


class nnUNetTrainerUNet3PlusPaper(PaperTrainer, nnUNetTrainerUNet3Plus):
    """UNet 3+ as published: five stages of 64 to 1024 features, hybrid loss. 2D."""

    preset = staticmethod(unet3plus_paper)


class nnUNetTrainerUNetPaper(PaperTrainer):
    """The UNet# paper's U-Net: five stages of 32 to 512 features, one head, nnU-Net's loss. 2D."""

    preset = staticmethod(unetsharp_paper_unet)
    deep_supervision = False


class nnUNetTrainerWideUNetPaper(nnUNetTrainerUNetPaper):
    """The same with 35 to 560 features."""

    preset = staticmethod(unetsharp_paper_wide_unet)
