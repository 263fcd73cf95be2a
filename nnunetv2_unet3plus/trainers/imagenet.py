"""UNet 3+, UNet++ and UNet# on the UNet 3+ paper's encoders, VGG-16 and ResNet-101."""

import os
from pathlib import Path
from typing import Any, ClassVar

from nnunetv2_unet3plus.architectures.timm_encoded import (
    UNet3PlusResNet101,
    UNet3PlusVGG16,
    UNetPlusPlusResNet101,
    UNetPlusPlusVGG16,
    UNetSharpResNet101,
    UNetSharpVGG16,
)
from nnunetv2_unet3plus.trainers.fixed_stages import FixedStagesTrainer
from nnunetv2_unet3plus.trainers.nested import nnUNetTrainerUNetPlusPlus, nnUNetTrainerUNetSharp
from nnunetv2_unet3plus.trainers.unet3plus import nnUNetTrainerUNet3Plus

WEIGHTS_VARIABLE = "unet3plus_imagenet_weights"


class ImageNetEncoderTrainer(FixedStagesTrainer):
    """Networks on an encoder of timm.

    Attributes:
        imagenet: start from ImageNet's weights. They are downloaded, or read from the file that the variable
            `unet3plus_imagenet_weights` names; once, when training starts.
    """

    imagenet: ClassVar[bool] = False

    @classmethod
    def _stages(cls) -> int:
        network_class: Any = cls.network_class
        return network_class.stages

    def on_train_start(self) -> None:
        """Load ImageNet's weights where they are asked for, then start as nnU-Net does."""
        if not self.was_initialized:
            self.initialize()
        if self.imagenet and self.current_epoch == 0:  # a resumed training has its own
            file = os.environ.get(WEIGHTS_VARIABLE)
            self.bare_network().encoder.load_imagenet_weights(Path(file) if file else None)
            self.print_to_log_file(f"Encoder starts from ImageNet's weights, {file or 'downloaded by timm'}")
        super().on_train_start()


class nnUNetTrainerUNet3PlusVGG16(nnUNetTrainerUNet3Plus, ImageNetEncoderTrainer):
    """UNet 3+ on VGG-16, 64 channels a branch. 2D."""

    network_class = UNet3PlusVGG16
    network_options: ClassVar[dict[str, Any]] = {"cat_channels": 64}


class nnUNetTrainerUNet3PlusVGG16ImageNet(nnUNetTrainerUNet3PlusVGG16):
    """The same from ImageNet's weights."""

    imagenet = True


class nnUNetTrainerUNet3PlusResNet101(nnUNetTrainerUNet3Plus, ImageNetEncoderTrainer):
    """UNet 3+ on ResNet-101, 64 channels a branch. 2D."""

    network_class = UNet3PlusResNet101
    network_options: ClassVar[dict[str, Any]] = {"cat_channels": 64}


class nnUNetTrainerUNet3PlusResNet101ImageNet(nnUNetTrainerUNet3PlusResNet101):
    """The same from ImageNet's weights."""

    imagenet = True


class nnUNetTrainerUNetPlusPlusVGG16(nnUNetTrainerUNetPlusPlus, ImageNetEncoderTrainer):
    """UNet++ on VGG-16. 2D."""

    network_class = UNetPlusPlusVGG16


class nnUNetTrainerUNetPlusPlusVGG16ImageNet(nnUNetTrainerUNetPlusPlusVGG16):
    """The same from ImageNet's weights."""

    imagenet = True


class nnUNetTrainerUNetPlusPlusResNet101(nnUNetTrainerUNetPlusPlus, ImageNetEncoderTrainer):
    """UNet++ on ResNet-101. 2D."""

    network_class = UNetPlusPlusResNet101


class nnUNetTrainerUNetPlusPlusResNet101ImageNet(nnUNetTrainerUNetPlusPlusResNet101):
    """The same from ImageNet's weights."""

    imagenet = True


class nnUNetTrainerUNetSharpVGG16(nnUNetTrainerUNetSharp, ImageNetEncoderTrainer):
    """UNet# on VGG-16. 2D."""

    network_class = UNetSharpVGG16


class nnUNetTrainerUNetSharpVGG16ImageNet(nnUNetTrainerUNetSharpVGG16):
    """The same from ImageNet's weights."""

    imagenet = True


class nnUNetTrainerUNetSharpResNet101(nnUNetTrainerUNetSharp, ImageNetEncoderTrainer):
    """UNet# on ResNet-101. 2D."""

    network_class = UNetSharpResNet101


class nnUNetTrainerUNetSharpResNet101ImageNet(nnUNetTrainerUNetSharpResNet101):
    """The same from ImageNet's weights."""

    imagenet = True
