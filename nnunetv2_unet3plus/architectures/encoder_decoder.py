"""What all our networks share: an encoder, and nnU-Net's ways to build, initialise and measure a network."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from dynamic_network_architectures.architectures.abstract_arch import AbstractDynamicNetworkArchitectures
from dynamic_network_architectures.building_blocks.helper import convert_conv_op_to_dim
from dynamic_network_architectures.initialization.weight_init import InitWeights_He, init_last_bn_before_add_to_0
from torch import Tensor, nn

from nnunetv2_unet3plus.building_blocks.memory_format import channels_last
from nnunetv2_unet3plus.building_blocks.norm_nonlin import has_slow_norm, join_blocks
from nnunetv2_unet3plus.building_blocks.plan_encoder import encoder_feature_map_size, plan_encoder
from nnunetv2_unet3plus.building_blocks.recompute import own_operators
from nnunetv2_unet3plus.errors import ConfigurationError

T = TypeVar("T")

_PER_STAGE = (
    "features_per_stage",
    "kernel_sizes",
    "strides",
    "n_conv_per_stage",
    "n_blocks_per_stage",
    "n_conv_per_stage_decoder",
    "bottleneck_channels",
)


class EncoderDecoderNetwork(AbstractDynamicNetworkArchitectures):
    """nnU-Net's plain or residual encoder; a subclass adds ``self.decoder``, which turns the skips into logits.

    The arguments are those nnU-Net writes into a plans file, for ``PlainConvUNet`` (``n_conv_per_stage``) as for
    ``ResidualEncoderUNet`` (``n_blocks_per_stage``); a subclass can stand in for either as ``network_class_name``.
    nnU-Net's own trainer trains those with at most one head a stage, finest first; nested ones need our trainers.
    Another encoder is a mixin that overrides `topology` and `build_encoder`.
    """

    encoder: Any
    decoder: Any
    key_to_encoder = "encoder.stages"

    def __init__(
        self,
        input_channels: int,
        nonlin_first: bool = False,
        kept_level: int | None = None,
        *,
        recompute: bool = True,
        **plan: Any,
    ) -> None:
        """Build the encoder.

        Args:
            input_channels: channels of the images.
            nonlin_first: conv - nonlin - norm instead of conv - norm - nonlin.
            kept_level: build this many stages beyond the first alone; None for all. Where a network can do without
                the others its constructor has it as ``prune_level``.
            recompute: compute normalised, activated, concatenated and interpolated maps again for the backward pass
                instead of keeping them: the same gradients, bit for bit, from about half the memory.
            **plan: what a plans file says about the encoder, see `plan_encoder`.

        Raises:
            ValueError: for a level that the network does not have, and as `plan_encoder`.
        """
        super().__init__()
        if "prune_level" in plan:
            raise ConfigurationError(
                f"{type(self).__name__} has no levels, as UNet++ and UNet# have: take prune_level out of the plans."
            )
        plan = first_stages(self.topology(plan), kept_level)
        self.encoder = self.build_encoder(input_channels, nonlin_first=nonlin_first, **plan)
        self.recompute = recompute
        self.own_operators = True
        join_blocks(self.encoder)
        self.key_to_stem = "encoder.stem" if hasattr(self.encoder, "stem") else "encoder.stages.0"
        self.keys_to_in_proj = _names_of_first_conv(self.encoder)

    @classmethod
    def topology(cls, plan: dict[str, Any]) -> dict[str, Any]:
        """The plan's arguments as this network takes them."""
        return plan

    @staticmethod
    def build_encoder(input_channels: int, **plan: Any) -> nn.Module:
        """The encoder, which knows its ``output_channels``, ``strides``, ``kernel_sizes``, norm and nonlinearity."""
        return plan_encoder(input_channels, **plan)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Segment.

        Args:
            x: images of shape ``(B, input_channels, *size)``, any size.

        Returns:
            Logits ``(B, num_classes, *size)``; with deep supervision a list of every head's logits, these first.
        """
        return self.sparingly(self.segment, x)

    def sparingly(self, compute: Callable[[Tensor], T], x: Tensor) -> T:
        """``compute(x)``, keeping little for the backward pass, on the CPU in the format that is fastest there."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or not self.own_operators:
            return compute(x)
        if x.device.type == "cpu" and not has_slow_norm(self):
            x = channels_last(x)
        with own_operators(self.recompute):
            return compute(x)

    def segment(self, x: Tensor) -> Tensor | list[Tensor]:
        """As `forward`, which decides about memory format and what is kept."""
        return self.decoder(self.encoder(x))

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """Values stored for backward per sample, in the unit nnU-Net's planner budgets with.

        Args:
            input_size: spatial size of the input, without batch and channels.

        Raises:
            ValueError: if ``input_size`` does not have one entry a spatial axis.
        """
        dims = convert_conv_op_to_dim(self.encoder.conv_op)
        if len(input_size) != dims:
            raise ValueError(f"input_size is the spatial size alone: {dims} numbers, not {tuple(input_size)}.")
        return encoder_feature_map_size(self.encoder, input_size) + self.decoder.compute_conv_feature_map_size(
            input_size
        )

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """He initialisation; residual blocks start as the identity. To be called through ``network.apply``."""
        InitWeights_He(1e-2)(module)
        init_last_bn_before_add_to_0(module)


def first_stages(plan: dict[str, Any], prune_level: int | None) -> dict[str, Any]:
    """A plan's architecture arguments without the stages below ``prune_level``; all of them for None.

    Raises:
        ValueError: for a level that the plan does not have.
    """
    if prune_level is None:
        return plan
    deepest = plan["n_stages"] - 1
    if type(prune_level) is not int or not 1 <= prune_level <= deepest:
        raise ConfigurationError(
            f"prune_level must be 1 to {deepest} in a network of {deepest + 1} stages, not {prune_level!r}."
        )
    kept = {name: plan[name][: prune_level + 1] for name in _PER_STAGE if isinstance(plan.get(name), list | tuple)}
    return plan | kept | {"n_stages": prune_level + 1}


def _names_of_first_conv(encoder: nn.Module) -> tuple[str, ...]:
    """Of the conv that takes the images; nnU-Net's blocks list each conv under two names."""
    weights = {name: w for name, w in encoder.state_dict(keep_vars=True).items() if w.ndim > 2}
    first = next(iter(weights.values()))
    return tuple(f"encoder.{name.removesuffix('.weight')}" for name, w in weights.items() if w is first)
