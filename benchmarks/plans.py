"""nnU-Net's stock plans, and the networks that are built on them: ours, and nnU-Net's own."""

from collections.abc import Callable
from typing import Any

from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from nnunetv2_unet3plus.architectures.unet import UNet
from nnunetv2_unet3plus.architectures.unet3plus_raw import UNet3PlusRaw
from nnunetv2_unet3plus.planning.networks import NETWORKS

CLASSES = 3
RESENC_BLOCKS = (1, 3, 4, 6, 6, 6, 6, 6)  # nnU-Net's planner of residual encoders has them

BATCH_SIZE = 2
SIZES = {"2d": 512, "3d_fullres": 128}

OURS: dict[str, type[nn.Module]] = {
    **{name: network.network_class for name, network in NETWORKS.items()},
    "unet": UNet,
    "unet3plus_raw": UNet3PlusRaw,
}
WITH_CAT_CHANNELS = ("unet3plus", "unet3plus_cgm", "unet3plus_lite", "unet3plus_lite_cgm")


def stock_plan(name: str, stages: int | None = None) -> dict[str, Any]:
    """The arguments of `PlainConvUNet` in a plans file of nnU-Net's.

    Args:
        name: "2d" (as for LiTS: 8 stages, 32 to 512 features) or "3d_fullres" (6 stages, 32 to 320).
        stages: another number of them.
    """
    planar = name == "2d"
    stages = stages or (8 if planar else 6)
    dims, most = (2, 512) if planar else (3, 320)
    return {
        "n_stages": stages,
        "features_per_stage": [min(32 * 2**stage, most) for stage in range(stages)],
        "conv_op": nn.Conv2d if planar else nn.Conv3d,
        "kernel_sizes": [[3] * dims] * stages,
        "strides": [[1] * dims] + [[2] * dims] * (stages - 1),
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "conv_bias": True,
        "norm_op": nn.InstanceNorm2d if planar else nn.InstanceNorm3d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
        "deep_supervision": True,
    }


def plain(plan: dict[str, Any]) -> PlainConvUNet:
    """nnU-Net's default network."""
    return PlainConvUNet(1, num_classes=CLASSES, **plan)


def residual(plan: dict[str, Any]) -> ResidualEncoderUNet:
    """nnU-Net's network with residual encoder, on the same stages and features."""
    stages = plan["n_stages"]
    blocks = {"n_blocks_per_stage": RESENC_BLOCKS[:stages], "n_conv_per_stage_decoder": [1] * (stages - 1)}
    without = {key: value for key, value in plan.items() if key != "n_conv_per_stage"}
    return ResidualEncoderUNet(1, num_classes=CLASSES, **without | blocks)


NNUNETS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {"PlainConvUNet": plain, "ResidualEncoderUNet": residual}


def ours(name: str, plan: dict[str, Any], num_classes: int = CLASSES, **options: Any) -> nn.Module:
    """A network of ours.

    Args:
        name: one of `OURS`.
        plan: of the encoder.
        num_classes: channels of the logits.
        **options: of this network alone.
    """
    own = NETWORKS[name].options if name in NETWORKS else {}
    return OURS[name](1, num_classes=num_classes, **plan | own | options)
