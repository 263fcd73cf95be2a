"""The base of our trainers: a variant says what it wants in a few class attributes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn
from torch._dynamo import OptimizedModule

from nnunetv2_unet3plus.architectures.slice_stack import SliceWise
from nnunetv2_unet3plus.errors import ConfigurationError
from nnunetv2_unet3plus.losses import DeepSupervisionLoss, SegmentationLoss, SliceWiseLoss, halving_weights
from nnunetv2_unet3plus.planning.memory import check_patch
from nnunetv2_unet3plus.trainers.stacked_slices import in_plane, is_stacked, slices_of
from nnunetv2_unet3plus.trainers.time_left import TimeLeftMixin
from nnunetv2_unet3plus.trainers.training_cost import TrainingCostMixin, is_residual


class DeclarativeTrainer(TrainingCostMixin, TimeLeftMixin, nnUNetTrainer):
    """nnU-Net's trainer with another network, another loss, or another kind of deep supervision.

    Attributes:
        network_class: takes the plan's architecture arguments; None for the plan's own network.
        network_options: arguments of `network_class` beyond those of the plan.
        loss_class: None for nnU-Net's own loss.
        deep_supervision: supervise all heads, not the full-resolution one alone.
        full_scale_supervision: compare every head with the full-resolution target (UNet 3+, section 2.2) instead of
            each with a target of its own size.
        head_weights: number of heads to their weights.
        regions_in_plans: `network_class` takes `regions`: write into the plans whether the labels are regions.
    """

    network_class: ClassVar[type[nn.Module] | None] = None
    network_options: ClassVar[dict[str, Any]] = {}
    loss_class: ClassVar[type[SegmentationLoss] | None] = None
    deep_supervision: ClassVar[bool] = True
    full_scale_supervision: ClassVar[bool] = False
    head_weights: ClassVar["staticmethod[[int], list[float]]"] = staticmethod(halving_weights)
    regions_in_plans: ClassVar[bool] = False

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's own default
    ) -> None:
        if self.regions_in_plans:
            regions = PlansManager(plans).get_label_manager(dataset_json).has_regions
            plans = with_architecture_option(plans, configuration, "regions", regions)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.enable_deep_supervision = self.deep_supervision

    def initialize(self) -> None:
        """As nnU-Net; what cannot be built is told in one line."""
        with _one_line_for_errors():
            super().initialize()

    def run_training(self) -> None:
        """As nnU-Net; what cannot be trained is told in one line."""
        with _one_line_for_errors():
            super().run_training()

    @classmethod
    def build_network_architecture(  # a static method in nnU-Net, which calls both alike
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build and initialise the network; nnU-Net calls this for training and for inference.

        Raises:
            ValueError: if the plan's patch is too small for its stages.
        """
        configuration, slices = in_plane(configuration_manager), slices_of(configuration_manager)
        check_patch(configuration.patch_size, cls.strides(configuration), is_residual(configuration))
        network = cls._network(configuration, slices * num_input_channels, num_output_channels, enable_deep_supervision)
        return SliceWise(network, slices) if is_stacked(configuration_manager) else network

    @classmethod
    def strides(cls, configuration_manager: ConfigurationManager) -> list[list[int]]:
        """Stride along each axis for every stage of the network, the first included.

        Args:
            configuration_manager: of stacked slices the one in the plane, see `in_plane`.
        """
        return configuration_manager.pool_op_kernel_sizes

    @classmethod
    def _network(
        cls, configuration: ConfigurationManager, input_channels: int, output_channels: int, deep_supervision: bool
    ) -> nn.Module:
        """The network on a configuration; of stacked slices on the one in the plane, with all slices' channels."""
        name = configuration.network_arch_class_name
        if cls.network_class is not None:
            name = f"{cls.network_class.__module__}.{cls.network_class.__qualname__}"
        return get_network_from_plans(
            name,
            configuration.network_arch_init_kwargs | cls.network_options,
            configuration.network_arch_init_kwargs_req_import,
            input_channels,
            output_channels,
            allow_init=True,
            deep_supervision=deep_supervision,
        )

    def _head_stages(self) -> list[int]:
        """The encoder stage whose grid each head has, in the order the network returns them."""
        decoder = self.bare_network().decoder
        return getattr(decoder, "head_stages", list(range(len(decoder.seg_layers))))  # nnU-Net's own: one a stage

    def bare_network(self) -> Any:
        """The network itself, inside DDP and torch.compile."""
        network = self.network.module if self.is_ddp else self.network
        return network._orig_mod if isinstance(network, OptimizedModule) else network

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        """Sizes at which nnU-Net's loader prepares targets; one is enough where all heads share it."""
        if not self.enable_deep_supervision:
            return None
        stages = [0] if self.full_scale_supervision else sorted(set(self._head_stages()))  # heads of a size share
        return self._sizes_of_stages()[stages].tolist()

    def _sizes_of_stages(self) -> np.ndarray:
        """Of the patch, the share of every axis that a map has voxels, `(stages, axes)`."""
        strides = np.vstack(self.strides(in_plane(self.configuration_manager)))
        if is_stacked(self.configuration_manager):
            strides = np.insert(strides, 0, 1, axis=1)
        return 1 / np.cumprod(strides, axis=0)

    def _build_loss(self) -> nn.Module:
        loss = self._loss_of_all_outputs()
        return SliceWiseLoss(loss) if is_stacked(self.configuration_manager) else loss

    def _loss_of_all_outputs(self) -> nn.Module:
        """Takes what the network returns and nnU-Net's targets; where slices are stacked, those of single slices."""
        loss = self._loss_of_one_head()
        if not self.enable_deep_supervision:
            return loss
        self._require_a_target_for_every_head()
        weights = self.head_weights(len(self._head_stages()))
        return DeepSupervisionLoss(loss, weights, full_scale=self.full_scale_supervision)

    def _require_a_target_for_every_head(self) -> None:
        """A trainer derived from ours may prepare other targets; better told now than in the first step.

        Raises:
            ValueError: naming the head.
        """
        prepared = np.array(self._get_deep_supervision_scales())
        sizes = self._sizes_of_stages()
        for head, stage in enumerate(self._head_stages()):
            size = sizes[0 if self.full_scale_supervision else stage]
            if not np.isclose(prepared, size).all(axis=1).any():
                raise ConfigurationError(
                    f"Head {head} of {type(self).__name__} is to be compared at {size.tolist()} of the patch, but "
                    f"targets are prepared at {prepared.tolist()}: add its size in _get_deep_supervision_scales, or "
                    "set full_scale_supervision."
                )

    def _loss_of_one_head(self) -> nn.Module:
        if self.loss_class is not None:
            return self.loss_class(regions=self.label_manager.has_regions, ignore_label=self.label_manager.ignore_label)
        enabled, self.enable_deep_supervision = self.enable_deep_supervision, False
        try:  # nnU-Net's own loss without its wrapper, which would drop the heads it does not expect
            return super()._build_loss()
        finally:
            self.enable_deep_supervision = enabled


@contextmanager
def _one_line_for_errors() -> Iterator[None]:
    """nnU-Net's commands would print a traceback; ends with exit code 2, as our own commands do."""
    try:
        yield
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def with_architecture_option(plans: dict[str, Any], configuration: str, name: str, value: Any) -> dict[str, Any]:
    """Plans in which one configuration's architecture has an option more.

    The plans of a model folder are what the network is built from at inference.
    """
    architecture = deepcopy(PlansManager(plans).get_configuration(configuration).configuration["architecture"])
    architecture["arch_kwargs"][name] = value
    plans = deepcopy(plans)
    plans["configurations"][configuration]["architecture"] = architecture
    return plans
