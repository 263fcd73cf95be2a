"""The table in `nnunetv2_unet3plus.planning.memory`: what a training takes beside what the model of memory counts.

    python -m benchmarks.memory_calibration      # from the repository's root; on the CPU nothing is computed

For nnU-Net's own planners and data sets as in nnU-Net's documentation/resenc_presets.md (spacings and shapes are
approximate medians): parameters, GB kept for backward in mixed precision, the same times backward's share, the GB that
nnU-Net's authors saw in nvidia-smi, and what is left of them. The mean of what is left is `OVERHEAD_GB`.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets import residual_encoder_unet_planners as residual

from benchmarks.planned_memory import CHANNELS, CLASSES, DATASETS, Grid, write_dataset
from nnunetv2_unet3plus.planning.memory import (
    GB,
    STATE_BYTES,
    network_on_meta,
    saved_bytes,
    training_cost,
)

PRESET_DATASETS = DATASETS | {
    "BTCV": ((3, 0.76, 0.76), (128, 512, 512)),
    "KiTS": ((0.78, 0.78, 0.78), (527, 512, 512)),
    "AMOS": ((2, 0.68, 0.68), (240, 582, 582)),
}
PUBLISHED = {
    ExperimentPlanner: 7.7,
    residual.nnUNetPlannerResEncM: 9.1,
    residual.nnUNetPlannerResEncL: 22.7,
    residual.nnUNetPlannerResEncXL: 36.6,
}


def stored_values(patch: Any, channels: int, classes: int, name: str, kwargs: Any, to_import: Any) -> int:
    """nnU-Net's own estimate of its own network, without memory for its weights."""
    architecture = {"network_class_name": name, "arch_kwargs": kwargs, "_kw_requires_import": to_import}
    network: Any = network_on_meta(architecture, channels, classes)
    return network.compute_conv_feature_map_size(patch)


@dataclass(frozen=True)
class Plan:
    """What nnU-Net plans for a data set.

    Attributes:
        dataset: its name.
        architecture: as in a plans file.
        patch: voxels along each axis.
        batch: patches.
    """

    dataset: str
    architecture: dict[str, Any]
    patch: list[int]
    batch: int


@contextmanager
def described(datasets: dict[str, Grid]) -> Iterator[None]:
    """nnU-Net's folders, for as long as this is entered, with data sets of which there is a fingerprint alone."""
    with tempfile.TemporaryDirectory() as root:
        for folder in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{folder}"] = str(Path(root) / folder)
        for number, name in enumerate(datasets, start=1):
            write_dataset(Path(root), number, name, datasets[name])
        yield


def plans(planner_class: type[ExperimentPlanner], datasets: dict[str, Grid], dims: int = 3) -> Iterator[Plan]:
    """The 2d or 3d_fullres plan of each of the `described` data sets."""
    for number, (name, (_, shape)) in enumerate(datasets.items(), start=1):
        planner: Any = planner_class(f"Dataset{number:03d}_{name}")
        planner.static_estimate_VRAM_usage = stored_values
        transpose, _ = planner.determine_transpose()
        spacing = planner.determine_fullres_target_spacing()[transpose][-dims:]
        size = np.array(shape, float)[transpose][-dims:]
        plan = planner.get_plans_for_configuration(spacing, size, "data", 1e12, {})
        yield Plan(name, plan["architecture"], [int(n) for n in plan["patch_size"]], plan["batch_size"])


def main() -> None:
    """Plan and print."""
    print(f"{'planner':24}{'P, millions':>12}{'B, GB':>8}{'share x B':>11}{'published':>11}{'left':>7}")
    with described(PRESET_DATASETS):
        for planner_class, published in PUBLISHED.items():
            found = [
                (training_cost(network_on_meta(plan.architecture, CHANNELS, CLASSES), CHANNELS, plan.patch), plan.batch)
                for plan in plans(planner_class, PRESET_DATASETS)
            ]
            parameters = np.mean([cost.parameters for cost, _ in found])
            kept = [saved_bytes(cost.stored_values, batch) / GB for cost, batch in found]
            peak = np.mean([cost.backward_share * b for (cost, _), b in zip(found, kept, strict=True)])
            left = published - STATE_BYTES * parameters / GB - peak
            print(
                f"{planner_class.__name__:24}{parameters / 1e6:12.1f}{np.mean(kept):8.2f}{peak:11.2f}{published:11.1f}"
                f"{left:7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
