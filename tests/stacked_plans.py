"""A configuration `2.5d` beside the `2d` of a plans file, as our planner writes it."""

from copy import deepcopy

SLICE_STACK = "nnunetv2_unet3plus.architectures.slice_stack.SliceStack"


def add_stacked_slices(plans, depth=8, arguments=None, **changes):
    """Patches of `depth` slices as large as those of `2d`, for its network; `arguments` change those of SliceStack."""
    flat = plans["configurations"]["2d"]
    architecture = deepcopy(flat["architecture"])
    kwargs = architecture["arch_kwargs"]
    kwargs |= {key: [[1, *entry] for entry in kwargs[key]] for key in ("strides", "kernel_sizes")}
    kwargs |= {"network_class_name": architecture["network_class_name"], "slices": 3} | (arguments or {})
    plans["configurations"]["2.5d"] = {
        "inherits_from": "2d",
        "patch_size": [depth, *flat["patch_size"]],
        "batch_size": 2,
        "architecture": architecture | {"network_class_name": SLICE_STACK},
    } | changes
    return plans
