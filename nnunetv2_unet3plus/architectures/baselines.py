"""Networks the papers compare with, as well-kept libraries have them: the extra `baselines` installs these. 2D.

PSPNet: Zhao et al., CVPR 2017. DeepLabV3 and DeepLabV3+: Chen et al., 2017 and ECCV 2018. Attention U-Net: Oktay et
al., MIDL 2018. The first three on ResNet-101, as in the UNet 3+ paper's table 2.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import pad

from nnunetv2_unet3plus.building_blocks.conv_outputs import count_conv_outputs
from nnunetv2_unet3plus.errors import ConfigurationError

ENCODER = "resnet101"


class LibraryNetwork(nn.Module, ABC):
    """A network of a library between nnU-Net's plan and its logits: any input size, logits at full size.

    Attributes:
        divisor: the library's network wants sizes that are multiples of it; smaller ones are padded with zeros.
        needs_two: patches in training; it has a batch norm behind global pooling.
    """

    divisor: ClassVar[int] = 32
    needs_two: ClassVar[bool] = False

    def __init__(
        self, input_channels: int, num_classes: int, deep_supervision: bool = False, *, conv_op: type, **_plan: Any
    ) -> None:
        """Build the network, weights at random.

        Args:
            input_channels: channels of the images.
            num_classes: channels of the logits.
            deep_supervision: must be off, these networks have one output.
            conv_op: `nn.Conv2d`.
            **_plan: of the plan nothing else matters, these networks have stages of their own.

        Raises:
            ConfigurationError: for a 3D plan, or deep supervision, or if the library is not installed.
        """
        super().__init__()
        name = type(self).__name__
        if conv_op is not nn.Conv2d:
            raise ConfigurationError(f"{name} is a 2D network: train it with the configuration 2d.")
        if deep_supervision:
            raise ConfigurationError(f"{name} has one output: train it without deep supervision.")
        self.input_channels = input_channels
        self.network = self.build(input_channels, num_classes)
        self.decoder = nn.Identity()  # nnU-Net looks here for a switch that these networks do not have

    @staticmethod
    @abstractmethod
    def build(input_channels: int, num_classes: int) -> nn.Module:
        """The library's network."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, num_classes, *size)`` for images ``(B, input_channels, *size)``.

        Raises:
            ValueError: for a single patch in training, where the network normalises over patches alone.
        """
        if self.training and self.needs_two and len(x) < 2:
            raise ConfigurationError(
                f"The batch norm of {type(self).__name__} needs two patches or more on each GPU: raise batch_size in "
                "the plans."
            )
        height, width = x.shape[2:]
        logits = self.network(pad(x, [0, -width % self.divisor, 0, -height % self.divisor]))
        return logits[..., :height, :width]

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """Values stored for backward per sample, in the unit nnU-Net's planner budgets with.

        Args:
            input_size: spatial size of the patch.
        """
        return count_conv_outputs(self, self.input_channels, input_size)


class PSPNet(LibraryNetwork):
    """Of segmentation_models_pytorch."""

    @staticmethod
    def build(input_channels: int, num_classes: int) -> nn.Module:
        """On the whole of ResNet-101, dilated to an eighth of the resolution, as the paper's."""
        smp = _library("segmentation_models_pytorch")
        dilated = {"encoder_depth": 5, "output_stride": 8, "upsampling": 8}
        return smp.PSPNet(ENCODER, encoder_weights=None, in_channels=input_channels, classes=num_classes, **dilated)


class DeepLabV3(LibraryNetwork):
    """Of segmentation_models_pytorch."""

    needs_two = True

    @staticmethod
    def build(input_channels: int, num_classes: int) -> nn.Module:
        """On ResNet-101."""
        smp = _library("segmentation_models_pytorch")
        return smp.DeepLabV3(ENCODER, encoder_weights=None, in_channels=input_channels, classes=num_classes)


class DeepLabV3Plus(LibraryNetwork):
    """Of segmentation_models_pytorch."""

    needs_two = True

    @staticmethod
    def build(input_channels: int, num_classes: int) -> nn.Module:
        """On ResNet-101."""
        smp = _library("segmentation_models_pytorch")
        return smp.DeepLabV3Plus(ENCODER, encoder_weights=None, in_channels=input_channels, classes=num_classes)


class AttentionUNet(LibraryNetwork):
    """Of MONAI."""

    divisor = 16

    @staticmethod
    def build(input_channels: int, num_classes: int) -> nn.Module:
        """Five stages of 64 to 1024 features, as the paper's U-Net."""
        nets = _library("monai.networks.nets", "monai")
        return nets.AttentionUnet(2, input_channels, num_classes, (64, 128, 256, 512, 1024), (2, 2, 2, 2))


def _library(module: str, package: str | None = None) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{package or module} is not installed: pip install 'nnunetv2-unet3plus[baselines]'"
        ) from error
