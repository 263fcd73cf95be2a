"""The figures in `nnunetv2_unet3plus.benchmarking.costs.hours`: what GPUs reach in nnU-Net's trainings.

    python -m benchmarks.hours_calibration      # from the repository's root; nothing is trained, nothing computed

Two tables of nnU-Net's documentation (github.com/MIC-DKFZ/nnUNet): hours of a training by planner, on an A100 PCIe
40 GB (resenc_presets.md), and seconds of an epoch by GPU, with nnU-Net v1 and PyTorch 1.7 (expected_epoch_times.md).
The plans are nnU-Net v2's for spacings and shapes as in those data sets (approximate medians); v1 planned alike.
"""

from collections.abc import Iterable

import numpy as np
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets import residual_encoder_unet_planners as residual
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.memory_calibration import PRESET_DATASETS, Plan, described, plans
from benchmarks.planned_memory import CHANNELS, CLASSES, DATASETS
from nnunetv2_unet3plus.benchmarking.costs.hours import expected_hours
from nnunetv2_unet3plus.planning.memory import network_on_meta

PUBLISHED_HOURS = {
    ExperimentPlanner: 9,
    residual.nnUNetPlannerResEncM: 12,
    residual.nnUNetPlannerResEncL: 35,
    residual.nnUNetPlannerResEncXL: 66,
}
EPOCHS, ITERATIONS, VALIDATION_ITERATIONS = 1000, 250, 50

EPOCH_DATASETS = {
    "Heart": ((1.37, 1.25, 1.25), (115, 320, 232)),
    "Liver": DATASETS["LiTS"],
    "Prostate": ((3.6, 0.62, 0.62), (20, 320, 319)),
}
GPUS = ("A100", "V100", "RTX 2080 Ti")  # 40 GB DGX, 32 GB PCIe, 11 GB
EPOCH_SECONDS = {
    ("Heart", 2): (40.06, 76.19, 98.49),
    ("Heart", 3): (51.17, 99.29, 148.36),
    ("Liver", 2): (39.71, 69.65, 92.54),
    ("Liver", 3): (44.48, 87.19, 106.76),
    ("Prostate", 2): (42.21, 80.46, 102.81),
    ("Prostate", 3): (47.19, 85.4, 132.82),
}


def gflop_of_batch(plan: Plan) -> float:
    """Of the forward pass."""
    network = network_on_meta(plan.architecture, CHANNELS, CLASSES)
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, CHANNELS, *plan.patch, device="meta"))
    return plan.batch * counter.get_total_flops() / 1e9


def hours(gflop: float, teraflops: float) -> float:
    """Of nnU-Net's default training."""
    return expected_hours(gflop, 1, EPOCHS, ITERATIONS, VALIDATION_ITERATIONS, teraflops)


def geometric_mean(values: Iterable[float]) -> float:
    """The rate whose estimates are too long and too short by the same factors."""
    return float(np.exp(np.mean(np.log(list(values)))))


def presets() -> float:
    """Print what the A100 reaches by planner, and how well one rate fits all; that rate."""
    with described(PRESET_DATASETS):
        gflop = {p: np.mean([gflop_of_batch(plan) for plan in plans(p, PRESET_DATASETS)]) for p in PUBLISHED_HOURS}
    reached = {p: hours(gflop[p], 1) / published for p, published in PUBLISHED_HOURS.items()}
    rate = geometric_mean(reached.values())
    print(f"{'planner':24}{'GFLOP a batch':>14}{'published, h':>14}{'TFLOP/s':>9}{'estimate, h':>13}{'error':>8}")
    for planner, published in PUBLISHED_HOURS.items():
        estimate = hours(gflop[planner], rate)
        print(
            f"{planner.__name__:24}{gflop[planner]:14.0f}{published:14}{reached[planner]:9.1f}{estimate:13.1f}"
            f"{estimate / published - 1:8.0%}"
        )
    print(f"A100, 3D: {rate:.1f} TFLOP/s")
    return rate


def epochs(rate: float) -> None:
    """Print what the GPUs reached with nnU-Net v1, and what follows for those beside the A100, and for 2D."""
    reached = {}
    print(f"\n{'epochs of nnU-Net v1':22}{'patch':>14}{'batch':>6}{'GFLOP':>8}" + "".join(f"{g:>13}" for g in GPUS))
    with described(EPOCH_DATASETS):
        for dims in (2, 3):
            for plan in plans(ExperimentPlanner, EPOCH_DATASETS, dims):
                gflop = gflop_of_batch(plan)
                seconds = EPOCH_SECONDS[plan.dataset, dims]
                rates = np.array([3600 * hours(gflop, 1) / EPOCHS / s for s in seconds])
                reached[plan.dataset, dims] = rates
                patch = " x ".join(map(str, plan.patch))
                print(
                    f"{plan.dataset + f' {dims}d, TFLOP/s':22}{patch:>14}{plan.batch:6}{gflop:8.0f}"
                    + "".join(f"{r:13.1f}" for r in rates)
                )
    for index, gpu in enumerate(GPUS[1:], start=1):
        shares = [rates[index] / rates[0] for rates in reached.values()]
        share = geometric_mean(shares)
        print(f"{gpu}: {share:.2f} of an A100 ({min(shares):.2f} to {max(shares):.2f}): {share * rate:.1f} TFLOP/s")
    in_plane = [reached[name, 2][i] / reached[name, 3][i] for name in EPOCH_DATASETS for i in range(len(GPUS))]
    print(f"2D: {geometric_mean(in_plane):.2f} of 3D ({min(in_plane):.2f} to {max(in_plane):.2f})")


if __name__ == "__main__":
    epochs(presets())
