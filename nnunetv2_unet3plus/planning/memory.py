"""How much memory a network needs on a plan, in the unit nnU-Net's planner budgets with.

nnU-Net does not count bytes. Its planner knows how many values its own networks store for backward
(`compute_conv_feature_map_size`) in a training that takes 8 GB, and scales from there.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_unet3plus.errors import ConfigurationError

# Values stored by a whole batch in a training that takes REFERENCE_GB, from nnU-Net 2.8's planners
# (UNet_reference_val_* x UNet_reference_val_corresp_bs_*), by residual encoder or not and spatial dimensions.
REFERENCE_GB = 8
REFERENCE_VALUES = {
    (False, 2): 85_000_000 * 12,
    (False, 3): 560_000_000 * 2,
    (True, 2): 135_000_000 * 12,
    (True, 3): 680_000_000 * 2,
}
# nnU-Net trains in mixed precision on CUDA, which its planner counts on, and in single precision elsewhere.
SINGLE_PRECISION_FACTOR = 2


@dataclass(frozen=True)
class MemoryNeed:
    """What training a network on a plan takes, in GB on a GPU.

    Attributes:
        network: the network that is to be trained.
        plan_network: the network the plan was made for.
        target: what the planner aims at unless told otherwise.
    """

    network: float
    plan_network: float
    target: float

    @property
    def budget(self) -> float:
        """What the plan was allowed to use; a plan made with another -gpu_memory_target shows in its network."""
        return max(self.target, self.plan_network)

    def on(self, device_type: str) -> float:
        """The network's need on a kind of device, in GB."""
        return self.network * (1 if device_type == "cuda" else SINGLE_PRECISION_FACTOR)

    def target_for(self, available: float, device_type: str = "cuda") -> float:
        """The -gpu_memory_target to plan with so that the network stays within `available` GB."""
        return available * self.plan_network / self.on(device_type)


def training_gigabytes(stored_values: int, batch_size: int, dims: int, residual: bool) -> float:
    """Convert a network's count of stored values to GB of GPU memory.

    Args:
        stored_values: `compute_conv_feature_map_size` of the patch.
        batch_size: patches in a batch.
        dims: spatial dimensions, 2 or 3.
        residual: whether the encoder is residual; nnU-Net calibrates those apart.

    Returns:
        GB, of 1e9 bytes.
    """
    return REFERENCE_GB * stored_values * batch_size / REFERENCE_VALUES[residual, dims]


def planner_target(plans_manager: PlansManager) -> float:
    """The GB the plan's planner aims at by default; 8, as nnU-Net's default planner, if it cannot be found."""
    planner = plans_manager.experiment_planner_class
    if planner is None:
        return REFERENCE_GB
    return inspect.signature(planner.__init__).parameters["gpu_memory_target_in_gb"].default


def check_patch(patch_size: Sequence[int], strides: Sequence[Sequence[int]], residual: bool = False) -> None:
    """Refuse a patch that leaves a single voxel to the deepest stage, where normalisation has nothing to compare.

    Args:
        patch_size: voxels along each axis.
        strides: stride along each axis for every stage.
        residual: the shortcuts of a residual encoder pool, and in 3D a pool needs as many voxels as its window has.

    Raises:
        ValueError: naming the patch, the stages and what to change.
    """
    deepest = list(patch_size)
    for stage, stride in enumerate(strides):
        if residual and len(patch_size) == 3 and any(n < s for n, s in zip(deepest, stride, strict=True)):
            raise ConfigurationError(
                f"A patch of {' x '.join(map(str, patch_size))} voxels is too small for the residual encoder's stage "
                f"{stage}: {' x '.join(map(str, deepest))} voxels reach it, which its shortcut cannot pool by "
                f"{' x '.join(map(str, stride))}. Enlarge patch_size or lower the stride in the plans file."
            )
        deepest = [-(-n // s) for n, s in zip(deepest, stride, strict=True)]
    if all(n == 1 for n in deepest):
        raise ConfigurationError(
            f"A patch of {' x '.join(map(str, patch_size))} voxels is too small for {len(strides)} stages: one voxel "
            "is left in the deepest map. Enlarge patch_size or take away stages (n_stages and the lists beside it) "
            "in the plans file."
        )
