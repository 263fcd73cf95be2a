"""How much memory training a network on a plan takes.

`compute_conv_feature_map_size` counts, per patch, what a conv block returns once. For each value counted two are kept
for backward: the conv's own output, which the norm needs, and the block's, which the next conv and the nonlinearity
need. So a count is 2 x 4 bytes in single precision, and 2 x 2 in nnU-Net's mixed precision, where only the 64-bit
indices of max pooling stay as long as they are. tests/planning and `python -m benchmarks.planned_memory` hold this
against the bytes that autograd keeps.

With B bytes kept by the whole batch in mixed precision, and P parameters, a training takes

    OVERHEAD_GB + STATE_BYTES x P + backward's share x B

- STATE_BYTES: weight, gradient and momentum in single precision, and the weight's copy in half.
- Backward's share: the gradients of maps on their way back, by a step on the meta device, see `dry_run`; 1.1 to 1.6.
- OVERHEAD_GB: CUDA context, cuDNN's workspace, loss, and what the allocator cannot use. It is what is left of the
  memory that nnU-Net's authors saw in nvidia-smi when they trained their own networks (3d_fullres, one A100; nnU-Net's
  documentation/resenc_presets.md). B and P are the mean over nnU-Net's plans, by its planners, for spacings and shapes
  as in the six data sets of that table (`python -m benchmarks.memory_calibration`):

    preset     P, millions   B, GB   share x B, GB   published, GB   left, GB
    default        31         4.15        5.28            7.70         1.99
    ResEncM       102         4.84        5.88            9.10         1.80
    ResEncL       109        15.79       19.18           22.70         2.00
    ResEncXL      115        27.37       33.33           36.60         1.66

So 8 GB are 8 GB as nvidia-smi shows them, and nnU-Net's own default plans take 7.6 of them.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunetv2_unet3plus.building_blocks.recompute import as_compiled
from nnunetv2_unet3plus.errors import ConfigurationError
from nnunetv2_unet3plus.planning.dry_run import backward_share

DEFAULT_GB = 8.0  # as nnU-Net's default planner
VALUES_PER_COUNT = 2
HALF_BYTES = 2
STATE_BYTES = 3 * 4 + 2
OVERHEAD_GB = 1.9
GB = 1e9
# nnU-Net trains in mixed precision on CUDA, which its planner counts on, and in single precision elsewhere.
SINGLE_PRECISION_FACTOR = 2

PLANNED_WITH = "planned_with"
"""The key of our plans under which the planner's options stand: network, vram (GB), residual_encoder, patch_size."""


@dataclass(frozen=True)
class MemoryNeed:
    """What training a network on a plan takes, in GB on a GPU.

    Attributes:
        network: the network that is to be trained.
        plan_network: the network the plan was made for.
        target: what the planner aimed at, as far as the plans tell.
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

    def vram_for(self, available: float, device_type: str = "cuda") -> float:
        """The --vram to plan with so that the network stays within `available` GB of such a device."""
        return available * self.network / self.on(device_type)

    def target_for(self, available: float, device_type: str = "cuda") -> float:
        """The -gpu_memory_target of nnU-Net's planners to plan with so that the network stays within `available` GB."""
        return available * self.plan_network / self.on(device_type)


def saved_bytes(stored_values: int, patches: int = 1, bytes_per_value: int = HALF_BYTES) -> int:
    """Bytes a network keeps between forward and backward.

    Args:
        stored_values: `compute_conv_feature_map_size` of a patch.
        patches: in the batch.
        bytes_per_value: 2 in mixed precision, 4 in single precision.
    """
    return VALUES_PER_COUNT * bytes_per_value * stored_values * patches


@dataclass(frozen=True)
class TrainingCost:
    """What decides how much memory a network's training takes on a GPU in mixed precision.

    Attributes:
        stored_values: for a patch, as `compute_conv_feature_map_size` counts them.
        parameters: of the network.
        backward_share: the peak of a step over what is kept for backward, see `dry_run`.
    """

    stored_values: int
    parameters: int
    backward_share: float

    def gigabytes(self, batch_size: int) -> float:
        """GB, of 1e9 bytes, as nvidia-smi would show them."""
        maps = self.backward_share * saved_bytes(self.stored_values, batch_size)
        return OVERHEAD_GB + (STATE_BYTES * self.parameters + maps) / GB

    def largest_batch(self, gigabytes: float) -> int:
        """Patches whose training stays within `gigabytes`; 0 if not even one does."""
        a_patch = self.gigabytes(1) - self.gigabytes(0)
        return max(0, int((gigabytes - self.gigabytes(0)) / a_patch))


def training_cost(
    network: nn.Module, channels: int, patch_size: Sequence[int], share: float | None = None
) -> TrainingCost:
    """Cost of a network.

    Args:
        network: on the meta device, of no use for anything else afterwards.
        channels: of its input.
        patch_size: spatial size of its input.
        share: backward's share, where it is known: a network of the same stages has it for every patch.
    """
    counting: Any = network
    values = int(counting.compute_conv_feature_map_size(patch_size))
    parameters = sum(p.numel() for p in network.parameters())
    share = backward_share(network, channels, patch_size) if share is None else share
    return TrainingCost(values, parameters, share)


def network_on_meta(architecture: dict[str, Any], channels: int, classes: int) -> nn.Module:
    """A plan's network with all its heads, without memory for its weights.

    Args:
        architecture: as in a plans file.
        channels: of the images.
        classes: channels of the logits.
    """
    with torch.device("meta"):
        network = get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            channels,
            classes,
            allow_init=False,
            deep_supervision=True,
        )
    return as_compiled(network)


def planner_target(plans_manager: PlansManager) -> float:
    """The GB the plans were made for; the planner's default where they do not tell, nnU-Net's if it is unknown."""
    if PLANNED_WITH in plans_manager.plans:
        return float(plans_manager.plans[PLANNED_WITH]["vram"])
    planner = plans_manager.experiment_planner_class
    if planner is None:
        return DEFAULT_GB
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
