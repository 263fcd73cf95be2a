"""The networks that can be planned for, by the names `unet3plus plan --network` knows them by."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from nnunetv2_unet3plus.architectures import timm_encoded, vnet
from nnunetv2_unet3plus.architectures.unet3plus import UNet3Plus
from nnunetv2_unet3plus.architectures.unet3plus_cgm import UNet3PlusCGM
from nnunetv2_unet3plus.architectures.unet3plus_lite import UNet3PlusLite, UNet3PlusLiteCGM
from nnunetv2_unet3plus.architectures.unetplusplus import UNetPlusPlus
from nnunetv2_unet3plus.architectures.unetsharp import UNetSharp
from nnunetv2_unet3plus.architectures.unetsharp_cgm import UNetSharpCGM
from nnunetv2_unet3plus.errors import UserError


@dataclass(frozen=True)
class PlannableNetwork:
    """A network with what a plan says about it.

    Attributes:
        network_class: takes a plan's architecture arguments.
        stock_trainer: nnU-Net's own trainer trains it too: it has at most one head a stage, finest first.
        planar: 2D alone.
        own_encoder: not the plan's, which may then be plain or residual.
        options: architecture arguments beside those nnU-Net's planner writes; the same as its trainer's.
    """

    network_class: type[nn.Module]
    stock_trainer: bool = False
    planar: bool = False
    own_encoder: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def trainer(self) -> str:
        """Ours, with the paper's loss."""
        return f"nnUNetTrainer{self.network_class.__name__}"

    def plans_name(self, residual_encoder: str | None) -> str:
        """The name of its plans, with the size of the residual encoder."""
        return f"nnUNet{self.network_class.__name__}{f'ResEnc{residual_encoder}' if residual_encoder else ''}Plans"


_UNET3PLUS_WIDTH = {"cat_channels": 64}

NETWORKS = {
    "unet3plus": PlannableNetwork(UNet3Plus, stock_trainer=True),
    "unet3plus_cgm": PlannableNetwork(UNet3PlusCGM),
    "unet3plus_lite": PlannableNetwork(UNet3PlusLite, stock_trainer=True),
    "unet3plus_lite_cgm": PlannableNetwork(UNet3PlusLiteCGM),
    "unetplusplus": PlannableNetwork(UNetPlusPlus),
    "unetsharp": PlannableNetwork(UNetSharp),
    "unetsharp_cgm": PlannableNetwork(UNetSharpCGM),
    "vnet": PlannableNetwork(vnet.VNet, stock_trainer=True, own_encoder=True),
    "vnetplusplus": PlannableNetwork(vnet.VNetPlusPlus, own_encoder=True),
    "vnet3plus": PlannableNetwork(vnet.VNet3Plus, stock_trainer=True, own_encoder=True),
    "vnetsharp": PlannableNetwork(vnet.VNetSharp, own_encoder=True),
    "unet3plus_vgg16": PlannableNetwork(
        timm_encoded.UNet3PlusVGG16, planar=True, own_encoder=True, options=_UNET3PLUS_WIDTH
    ),
    "unet3plus_resnet101": PlannableNetwork(
        timm_encoded.UNet3PlusResNet101, planar=True, own_encoder=True, options=_UNET3PLUS_WIDTH
    ),
    "unetplusplus_vgg16": PlannableNetwork(timm_encoded.UNetPlusPlusVGG16, planar=True, own_encoder=True),
    "unetplusplus_resnet101": PlannableNetwork(timm_encoded.UNetPlusPlusResNet101, planar=True, own_encoder=True),
    "unetsharp_vgg16": PlannableNetwork(timm_encoded.UNetSharpVGG16, planar=True, own_encoder=True),
    "unetsharp_resnet101": PlannableNetwork(timm_encoded.UNetSharpResNet101, planar=True, own_encoder=True),
}


def plannable_network(name: str) -> PlannableNetwork:
    """A network by its name.

    Raises:
        UserError: listing the names, for any other.
    """
    if name not in NETWORKS:
        raise UserError(f"--network {name}: unknown; choose one of {', '.join(NETWORKS)}")
    return NETWORKS[name]


def name_of(network_class: type[nn.Module] | None) -> str | None:
    """The name of a class, None for one that cannot be planned for."""
    return next((name for name, network in NETWORKS.items() if network.network_class is network_class), None)
