"""The configuration 2.5d: the network of a 2D plan on slices stacked with their neighbours, see `SliceStack`."""

from typing import Any

from nnunetv2_unet3plus.architectures.slice_stack import DEFAULT_SLICES, SliceStack

SLICES_IN_PATCH = 8
SLICES_IN_STACK = DEFAULT_SLICES


def stacked_architecture(architecture: dict[str, Any]) -> dict[str, Any]:
    """The architecture of a 2.5d configuration for that of a 2d one: strides and kernels with a leading 1.

    nnU-Net's trainer takes the sizes of its targets from the strides, which need an entry for each axis of the patch.
    """
    arch_kwargs = architecture["arch_kwargs"]
    per_axis = {name: [[1, *entry] for entry in arch_kwargs[name]] for name in ("strides", "kernel_sizes")}
    inner = {"network_class_name": architecture["network_class_name"], "slices": SLICES_IN_STACK}
    return {
        "network_class_name": f"{SliceStack.__module__}.{SliceStack.__name__}",
        "arch_kwargs": inner | arch_kwargs | per_axis,
        "_kw_requires_import": architecture["_kw_requires_import"],
    }


def stacked_configuration(plan: dict[str, Any], depth: int) -> dict[str, Any]:
    """What a plans file says about 2.5d; everything else, preprocessed data above all, is that of 2d.

    Args:
        plan: of the 2D network in the plane.
        depth: slices in a patch.
    """
    return {
        "inherits_from": "2d",
        "patch_size": [depth, *plan["patch_size"]],
        "batch_size": plan["batch_size"],
        "architecture": stacked_architecture(plan["architecture"]),
    }
