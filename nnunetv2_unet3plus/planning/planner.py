"""nnU-Net's planners, looking for the patch, stages and batch of our networks within a number of GB.

nnU-Net's own search runs, step for step; what it asks, whether two patches fit, is answered in GB of the whole training
(see `planning.memory`), and the batch is the largest that stays within them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    ResEncUNetPlanner,
)
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunetv2_unet3plus.errors import UserError
from nnunetv2_unet3plus.planning.memory import (
    DEFAULT_GB,
    GB,
    PLANNED_WITH,
    TrainingCost,
    network_on_meta,
    training_cost,
)
from nnunetv2_unet3plus.planning.networks import PlannableNetwork
from nnunetv2_unet3plus.planning.preprocessed import STOCK_PLANS, separate_data_preprocessed_otherwise
from nnunetv2_unet3plus.planning.slices import (
    SLICES_IN_PATCH,
    SLICES_IN_STACK,
    stacked_architecture,
    stacked_configuration,
)

CONFIGURATIONS = ("2d", "2.5d", "3d_fullres", "3d_lowres", "3d_cascade_fullres")


class NetworkPlanner(ExperimentPlanner):
    """Plans for a network of ours, 2.5D included."""

    def __init__(
        self,
        dataset_name_or_id: str | int,
        gpu_memory_target_in_gb: float = DEFAULT_GB,
        preprocessor_name: str = "DefaultPreprocessor",
        plans_name: str = "nnUNetUNet3PlusPlans",
        overwrite_target_spacing: Sequence[float] | None = None,
        suppress_transpose: bool = False,
        *,
        network: PlannableNetwork,
        configurations: Sequence[str] = CONFIGURATIONS,
        require_all: bool = False,
        in_plane: Sequence[int] | None = None,
        planned_with: dict[str, Any] | None = None,
    ) -> None:
        """Read the dataset's fingerprint.

        Args:
            dataset_name_or_id: as nnU-Net's planners.
            gpu_memory_target_in_gb: of the whole training, as nvidia-smi shows it.
            preprocessor_name: as nnU-Net's planners.
            plans_name: as nnU-Net's planners.
            overwrite_target_spacing: as nnU-Net's planners.
            suppress_transpose: as nnU-Net's planners.
            network: to plan for.
            configurations: to write.
            require_all: refuse a dataset that has no use for one of them, instead of leaving it out.
            in_plane: patch size of 2d and 2.5d instead of the largest that fits.
            planned_with: options to note in the plans.
        """
        super().__init__(
            dataset_name_or_id,
            gpu_memory_target_in_gb,
            preprocessor_name,
            plans_name,
            overwrite_target_spacing,
            suppress_transpose,
        )
        self.UNet_class = network.network_class
        # nnU-Net's search compares an estimate of two patches with GB / 8 times this: here both are bytes of a training
        self.UNet_reference_val_2d = self.UNet_reference_val_3d = self.UNet_reference_val_corresp_GB * GB
        self.UNet_reference_val_corresp_bs_2d = self.UNet_reference_val_corresp_bs_3d = 2
        self.network = network
        self.wanted = tuple(configurations)
        self.require_all = require_all
        self.in_plane = None if in_plane is None else tuple(in_plane)
        self.planned_with = planned_with or {}
        self._depth: int | None = None  # slices of a 2.5d patch while one is being sought
        self._stacked: dict[str, Any] | None = None
        self._costs: dict[tuple, TrainingCost] = {}  # by stages and patch
        self._shares: dict[tuple, float] = {}  # backward's, by stages: it is the same for every patch

    def generate_data_identifier(self, configuration_name: str) -> str:
        """As nnU-Net's residual planners: 2d and 3d_fullres are preprocessed as nnU-Net's own, and share its data."""
        plans = STOCK_PLANS if configuration_name in ("2d", "3d_fullres") else self.plans_identifier
        return f"{plans}_{configuration_name}"

    def static_estimate_VRAM_usage(  # noqa: N802 - nnU-Net's name; static there
        self,
        patch_size: Sequence[int],
        input_channels: int,
        output_channels: int,
        arch_class_name: str,
        arch_kwargs: dict[str, Any],
        arch_kwargs_req_import: Sequence[str],
    ) -> float:
        """Bytes of a training with the smallest batch; nnU-Net's search asks for it.

        Raises:
            UserError: where the search has come down to a patch too small to be pooled.
        """
        architecture = {
            "network_class_name": arch_class_name,
            "arch_kwargs": arch_kwargs | self.network.options,
            "_kw_requires_import": arch_kwargs_req_import,
        }
        if arch_kwargs["n_stages"] < 2:
            raise UserError(
                f"--vram {self.UNet_vram_target_GB:g}: too small for any {'2.5d' if self._depth else '2d or 3d'} patch "
                f"of {self.network.network_class.__name__} with a batch of {self.UNet_min_batch_size}; give more, or "
                "leave configurations out with --configurations"
            )
        return GB * self._cost_in_search(architecture, patch_size).gigabytes(self.UNet_min_batch_size)

    def _cost_in_search(self, architecture: dict[str, Any], patch_size: Sequence[int]) -> TrainingCost:
        """While 2.5d is being planned, that of all slices of the patch."""
        if self._depth:
            architecture, patch_size = stacked_architecture(architecture), (self._depth, *patch_size)
        return self.cost(architecture, patch_size)

    def cost(self, architecture: dict[str, Any], patch_size: Sequence[int]) -> TrainingCost:
        """Of training a network on this dataset; the search asks for the same ones again and again.

        Raises:
            UserError: for a patch of which the network leaves a single voxel.
        """
        stages = tuple(tuple(stride) for stride in architecture["arch_kwargs"]["strides"])
        key = (stages, tuple(int(n) for n in patch_size))
        if key not in self._costs:
            network = network_on_meta(architecture, self.channels, self.classes)
            try:
                self._costs[key] = training_cost(network, self.channels, patch_size, self._shares.get(stages))
            except ValueError as error:  # one voxel left, for a network whose stages are not the plan's
                patch = " x ".join(map(str, key[1]))
                raise UserError(
                    f"a patch of {patch} is too small for {self.network.network_class.__name__} ({error}); give more "
                    "--vram, or a larger --patch-size"
                ) from error
            self._shares[stages] = self._costs[key].backward_share
        return self._costs[key]

    @property
    def channels(self) -> int:
        """Of the images."""
        return len(self.dataset_json.get("channel_names", self.dataset_json.get("modality")))

    @property
    def classes(self) -> int:
        """Channels of the network's logits."""
        labels, order = self.dataset_json["labels"], self.dataset_json.get("regions_class_order")
        return LabelManager(labels, order).num_segmentation_heads

    def get_plans_for_configuration(
        self,
        spacing: Sequence[float],
        median_shape: Sequence[float],
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict[str, float],
    ) -> dict[str, Any]:
        """As nnU-Net, with the largest batch that fits, or the patch size that was asked for."""
        arguments = (spacing, median_shape, data_identifier, approximate_n_voxels_dataset)
        if len(spacing) == 3:
            if not any(name.startswith("3d") for name in self.wanted):
                # as large as the scan, so that nnU-Net looks for no low resolution either; left out of the plans
                return {"patch_size": median_shape, "spacing": spacing}
            return self._planned(*arguments, _cache)
        plan = self._planned(*arguments, _cache)
        self._require_in_plane(plan, "2d")
        if "2.5d" in self.wanted and self.slices_in_scans() > 1:
            self._stacked = self._plan_stacked_slices(*arguments)
        return plan

    def _planned(
        self,
        spacing: Sequence[float],
        median_shape: Sequence[float],
        data_identifier: str,
        voxels_in_dataset: float,
        cache: dict[str, float],
    ) -> dict[str, Any]:
        largest = self.in_plane if self.in_plane and len(spacing) == 2 else median_shape
        plan = super().get_plans_for_configuration(spacing, largest, data_identifier, voxels_in_dataset, cache)
        plan["median_image_size_in_voxels"] = median_shape
        plan["architecture"]["arch_kwargs"] |= self.network.options
        cost = self._cost_in_search(plan["architecture"], plan["patch_size"])
        fitting = cost.largest_batch(self.UNet_vram_target_GB)
        voxels = np.prod(plan["patch_size"], dtype=float) * (self._depth or 1)
        seen_at_once = round(voxels_in_dataset * self.max_dataset_covered / voxels)  # nnU-Net's precaution
        plan["batch_size"] = max(min(fitting, seen_at_once), self.UNet_min_batch_size)
        return plan

    def _require_in_plane(self, plan: dict[str, Any], configuration: str) -> None:
        """The patch size asked for is kept or refused, never changed."""
        planned = tuple(int(n) for n in plan["patch_size"])
        if self.in_plane and planned != self.in_plane:
            asked, closest = (" ".join(map(str, size)) for size in (self.in_plane, planned))
            raise UserError(
                f"--patch-size {asked}: takes more than --vram {self.UNet_vram_target_GB:g} in {configuration} with a "
                f"batch of {self.UNet_min_batch_size}; {closest} would fit"
                if all(p <= a for p, a in zip(planned, self.in_plane, strict=True))
                else f"--patch-size {asked}: cannot be halved from stage to stage at this dataset's spacing; "
                f"{closest} can"
            )

    def _plan_stacked_slices(
        self, spacing: Sequence[float], median_shape: Sequence[float], data_identifier: str, voxels_in_dataset: float
    ) -> dict[str, Any]:
        """The 2.5d configuration: nnU-Net's search in the plane, with all slices of two patches to be stored.

        A patch size that was asked for is kept, with fewer slices if need be.
        """
        deepest = min(SLICES_IN_PATCH, self.slices_in_scans())
        if (
            self.in_plane
        ):  # nnU-Net turns patches in the plane alone where they are more than three times as wide as deep
            deepest = max(min(deepest, (max(self.in_plane) - 1) // 3), 1)
        shallowest = min(SLICES_IN_STACK, deepest) if self.in_plane else deepest
        try:
            for depth in range(deepest, shallowest - 1, -1):
                self._depth = depth
                plan = self._planned(spacing, median_shape, data_identifier, voxels_in_dataset, {})
                if self.in_plane is None or self.in_plane == tuple(plan["patch_size"]):
                    break
        finally:
            self._depth = None
        self._require_in_plane(plan, "2.5d")
        return stacked_configuration(plan, depth)

    def slices_in_scans(self) -> int:
        """The median along the axis that 2D configurations cut across."""
        axis = self.determine_transpose()[0][0]
        return round(float(np.median(np.array(self.dataset_fingerprint["shapes_after_crop"])[:, axis])))

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Write what was asked for, and with which options it was planned.

        Raises:
            UserError: where all configurations are required, for those the dataset has no use for.
        """
        configurations = plans["configurations"]
        if self._stacked is not None:
            configurations["2.5d"] = self._stacked
        plans["configurations"] = {name: configurations[name] for name in self.wanted if name in configurations}
        if missing := [name for name in self.wanted if self.require_all and name not in plans["configurations"]]:
            reason = (
                "its scans are single slices"
                if self.slices_in_scans() == 1
                else "a patch of 3d_fullres covers a quarter of a scan, nnU-Net then plans no lower resolution"
            )
            raise UserError(f"--configurations {' '.join(missing)}: not for {self.dataset_name}, {reason}")
        if "3d_cascade_fullres" not in plans["configurations"]:
            plans["configurations"].get("3d_lowres", {}).pop("next_stage", None)
        plans[PLANNED_WITH] = {"vram": self.UNet_vram_target_GB} | self.planned_with
        separate_data_preprocessed_otherwise(plans)
        super().save_plans(plans)


class ResidualNetworkPlanner(NetworkPlanner, ResEncUNetPlanner):
    """The same with nnU-Net's residual encoder, and as its presets without a limit on the share of a dataset seen."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As `NetworkPlanner`."""
        super().__init__(*args, **kwargs)
        self.max_dataset_covered = 1
