"""Configurations of stacked slices ("2.5d"), and the 2D configuration that is inside each of them."""

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from nnunetv2_unet3plus.architectures.slice_stack import DEFAULT_SLICES, SliceStack, in_plane_arguments, require_odd
from nnunetv2_unet3plus.errors import ConfigurationError

CLASS_NAME = f"{SliceStack.__module__}.{SliceStack.__qualname__}"


def is_stacked(configuration: ConfigurationManager) -> bool:
    """Whether the plans name `SliceStack`: patches of slices for a 2D network."""
    return configuration.network_arch_class_name == CLASS_NAME


def slices_of(configuration: ConfigurationManager) -> int:
    """How many slices the network sees at once, 1 if they are not stacked.

    Raises:
        ValueError: for an even number.
    """
    slices = configuration.network_arch_init_kwargs.get("slices", DEFAULT_SLICES) if is_stacked(configuration) else 1
    require_odd(slices)
    return slices


def in_plane(configuration: ConfigurationManager) -> ConfigurationManager:
    """The configuration of one slice of the patch and the 2D network inside; itself if slices are not stacked.

    Raises:
        ValueError: for a patch, strides or kernels without an entry for the slices, or no network.
    """
    if not is_stacked(configuration):
        return configuration
    settings = configuration.configuration
    arguments = dict(settings["architecture"]["arch_kwargs"])
    arguments.pop("slices", None)
    patch, name = settings["patch_size"], arguments.pop("network_class_name", None)
    if len(patch) != 3:
        raise ConfigurationError(f"patch_size of stacked slices is three numbers in the plans, slices first: {patch}.")
    if name is None:
        raise ConfigurationError("SliceStack needs network_class_name, the 2D network, in the plans' arch_kwargs.")
    architecture = {"network_class_name": name, "arch_kwargs": in_plane_arguments(arguments)}
    return ConfigurationManager(
        settings | {"patch_size": patch[1:], "architecture": settings["architecture"] | architecture}
    )
