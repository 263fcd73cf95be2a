"""A configuration `2.5d` beside the `2d` of a plans file, as our planner writes it."""

from nnunetv2_unet3plus.planning.slices import stacked_configuration

SLICE_STACK = "nnunetv2_unet3plus.architectures.slice_stack.SliceStack"


def add_stacked_slices(plans, depth=8, arguments=None, **changes):
    """Patches of `depth` slices as large as those of `2d`, for its network; `arguments` change those of SliceStack."""
    stacked = stacked_configuration(plans["configurations"]["2d"] | {"batch_size": 2}, depth)
    stacked["architecture"]["arch_kwargs"] |= arguments or {}
    plans["configurations"]["2.5d"] = stacked | changes
    return plans
