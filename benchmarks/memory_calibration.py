"""The table in `nnunetv2_unet3plus.planning.memory`: what a training takes beside what the model of memory counts.

    python -m benchmarks.memory_calibration      # from the repository's root; on the CPU nothing is computed

For nnU-Net's own planners and data sets as in nnU-Net's documentation/resenc_presets.md (spacings and shapes are
approximate medians): parameters, GB kept for backward in mixed precision, the same times backward's share, the GB that
nnU-Net's authors saw in nvidia-smi, and what is left of them. The mean of what is left is `OVERHEAD_GB`.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets import residual_encoder_unet_planners as residual

from benchmarks.planned_memory import CHANNELS, CLASSES, DATASETS, write_dataset
from nnunetv2_unet3plus.planning.memory import (
    GB,
    STATE_BYTES,
    TrainingCost,
    network_on_meta,
    saved_bytes,
    training_cost,
)

MORE_DATASETS = {
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


def costs(planner_class: type[ExperimentPlanner], root: Path) -> Iterator[tuple[TrainingCost, int]]:
    """What nnU-Net's 3d_fullres plan of each data set costs, and its batch size."""
    for number, (name, (_, shape)) in enumerate((DATASETS | MORE_DATASETS).items(), start=1):
        planner: Any = planner_class(f"Dataset{number:03d}_{name}")
        planner.static_estimate_VRAM_usage = stored_values
        transpose, _ = planner.determine_transpose()
        spacing = planner.determine_fullres_target_spacing()[transpose]
        plan = planner.get_plans_for_configuration(spacing, np.array(shape, float)[transpose], "data", 1e12, {})
        patch = [int(n) for n in plan["patch_size"]]
        yield (
            training_cost(network_on_meta(plan["architecture"], CHANNELS, CLASSES), CHANNELS, patch),
            plan["batch_size"],
        )


def main() -> None:
    """Plan and print."""
    print(f"{'planner':24}{'P, millions':>12}{'B, GB':>8}{'share x B':>11}{'published':>11}{'left':>7}")
    with tempfile.TemporaryDirectory() as root:
        for folder in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{folder}"] = str(Path(root) / folder)
        for number, name in enumerate(DATASETS | MORE_DATASETS, start=1):
            write_dataset(Path(root), number, name, (DATASETS | MORE_DATASETS)[name])
        for planner_class, published in PUBLISHED.items():
            found = list(costs(planner_class, Path(root)))
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
