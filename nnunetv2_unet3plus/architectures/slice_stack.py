"""2.5D: a 2D network that sees each slice with its neighbours, as the UNet 3+ paper's.

The patches are those of a 3D configuration, so that nnU-Net's loader, augmentation and sliding window need not know.
"""

import pydoc
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from nnunetv2_unet3plus.building_blocks.slice_stack import batch_to_slices, stack_slices
from nnunetv2_unet3plus.errors import ConfigurationError

DEFAULT_SLICES = 3  # a slice and its two neighbours, as in the paper


class SliceWise(nn.Module):
    """A 2D network between 3D patches and their logits; what others look for in a network is that network's.

    Attributes:
        network: takes `slices` times the channels of the patches.
        slices: in a stack.
    """

    network: Any

    def __init__(self, network: nn.Module, slices: int = DEFAULT_SLICES) -> None:
        """Wrap a network.

        Args:
            network: 2D, for `slices` times the channels of the patches.
            slices: how many it sees at once, an odd number.

        Raises:
            ValueError: for an even number of slices.
        """
        super().__init__()
        require_odd(slices)
        self.network = network
        self.slices = slices

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Segment slice by slice.

        Args:
            x: patches `(B, C, D, H, W)`.

        Returns:
            What the network returns for the stack of every slice, see `stack_slices`: an output `(B * D, K, *size)` as
            `(B, K, D, *size)`. Of a classification gate that is an answer a slice, `(B, gates, D, classes, 2)`.

        Raises:
            ValueError: for images that are not patches of slices.
        """
        if x.ndim != 5:
            raise ConfigurationError(
                f"A network of stacked slices takes patches (B, C, D, H, W), not {tuple(x.shape)}: give patch_size "
                "three numbers in the plans, slices first."
            )
        outputs, depth = self.network(stack_slices(x, self.slices)), x.shape[2]
        if isinstance(outputs, Tensor):
            return batch_to_slices(outputs, depth)
        return [batch_to_slices(output, depth) for output in outputs]

    def presence_logits(self, x: Tensor) -> Tensor:
        """The gates' answers `(B * D, gates, classes, 2)` alone, one row a slice, for patches `(B, C, D, H, W)`."""
        return self.network.presence_logits(stack_slices(x, self.slices))

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """Values stored for backward per sample: those of the 2D network for every slice.

        Args:
            input_size: spatial size of the patch, `(D, H, W)`.
        """
        depth, *size = input_size
        return int(depth) * int(self.network.compute_conv_feature_map_size(size))

    @property
    def encoder(self) -> Any:
        """Of the 2D network."""
        return self.network.encoder

    @property
    def decoder(self) -> Any:
        """Of the 2D network; nnU-Net switches its `deep_supervision`."""
        return self.network.decoder

    @property
    def gatings(self) -> Any:
        """Of the 2D network, if it has a classification gate."""
        return self.network.gatings

    @property
    def initialize(self) -> Any:
        """The 2D network's, if it has one."""
        return self.network.initialize

    @property
    def key_to_encoder(self) -> str:
        """Where pretrained weights are loaded into, as what follows."""
        return f"network.{self.network.key_to_encoder}"

    @property
    def key_to_stem(self) -> str:
        """See `key_to_encoder`."""
        return f"network.{self.network.key_to_stem}"

    @property
    def keys_to_in_proj(self) -> tuple[str, ...]:
        """See `key_to_encoder`."""
        return tuple(f"network.{key}" for key in self.network.keys_to_in_proj)


class SliceStack(SliceWise):
    """The same from a plans file: a 2D configuration's architecture, its strides and kernels with a leading 1."""

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        network_class_name: str,
        slices: int = DEFAULT_SLICES,
        **plan: Any,
    ) -> None:
        """Build the 2D network.

        Args:
            input_channels: channels of the patches.
            num_classes: channels of the logits.
            deep_supervision: return the logits of all heads.
            network_class_name: of the 2D network, importable.
            slices: how many it sees at once, an odd number.
            **plan: its other arguments; `strides` and `kernel_sizes` with three numbers a stage, the first of them 1.

        Raises:
            ValueError: for an even number of slices, a class that is not there, strides or kernels along the slices,
                and as the 2D network.
        """
        require_odd(slices)
        network_class: Any = pydoc.locate(network_class_name)
        if network_class is None:
            raise ConfigurationError(
                f"network_class_name {network_class_name!r} of the plans' arch_kwargs cannot be imported: give the "
                "full name of the 2D network's class."
            )
        in_plane = in_plane_arguments(plan)
        super().__init__(
            network_class(
                input_channels=slices * input_channels,
                num_classes=num_classes,
                deep_supervision=deep_supervision,
                **in_plane,
            ),
            slices,
        )


def in_plane_arguments(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan's architecture arguments as the 2D network takes them, `strides` and `kernel_sizes` without the slices.

    Raises:
        ValueError: for an entry that has not three numbers, the first of them 1.
    """
    in_plane = dict(plan)
    for name in ("strides", "kernel_sizes"):
        if name in plan:
            per_stage = plan[name] if isinstance(plan[name], list | tuple) else [plan[name]]
            in_plane[name] = [_in_plane(name, entry) for entry in per_stage]
    return in_plane


def _in_plane(name: str, entry: Any) -> list[int]:
    if not isinstance(entry, list | tuple) or len(entry) != 3 or entry[0] != 1:
        raise ConfigurationError(
            f"{name} of stacked slices has three numbers a stage, 1 for the slices first, not {entry}: "
            "correct it in the plans."
        )
    return list(entry[1:])


def require_odd(slices: int) -> None:
    """Refuse a stack without a middle.

    Raises:
        ValueError: unless `slices` is an odd number.
    """
    if type(slices) is not int or slices < 1 or slices % 2 == 0:
        raise ConfigurationError(f"slices must be an odd number, a slice and as many on each side, not {slices!r}.")
