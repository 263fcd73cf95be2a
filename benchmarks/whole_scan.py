"""Prediction of a scan of which most slices are empty, by nnU-Net's own predictor: its network against gated ones.

    python -m benchmarks.whole_scan               # from the repository's root: 20 slices of 512 x 512, 60 % are empty
    python -m benchmarks.whole_scan --slices 100 --empty 0.8 --networks unet3plus_cgm

nnU-Net's 2d plan for LiTS (8 stages of 32 to 512 features), sliding window, Gaussian weighting, mirroring along both
axes, from the preprocessed scan to its logits, in memory: reading, resampling and writing are the same for all.

No network has been trained: what is predicted is noise, and takes as long as anything else. A gate without training
knows nothing, so it is told of every patch whether it holds something, and answers that at once; the time is that of a
gate that is always right. A trained one errs, see docs/classification-gate.md. The gate's own convolution, of one pixel
in the deepest map, is left out by this. Patches of empty slices never reach the decoder (early exit); those of other
slices all do.

Ratios are medians over rounds, in turn, of network / PlainConvUNet: below 1 is faster. As in nnUNetv2_predict, nothing
is compiled on CUDA, and half precision is used there.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from itertools import cycle
from statistics import median
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn

from benchmarks.frame import Parser, Report, positive, run
from benchmarks.measure import interleaved_seconds, median_ratio
from benchmarks.plans import CLASSES, SIZES, ours, plain, stock_plan
from benchmarks.subject import bytes_needed, check_memory, check_size
from nnunetv2_unet3plus.errors import UserError

GATED = ("unet3plus_cgm", "unet3plus_lite_cgm")  # networks that ask one gate, by the name of `gate`
REFERENCE = "PlainConvUNet"
VIEWS = 4  # of a patch: as it is, mirrored along either axis, along both
LABELS = {"background": 0} | {f"class {label}": label for label in range(1, CLASSES)}
DATASET = {"labels": LABELS, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}


class ToldGate(nn.Module):
    """Stands in for a gate: has been told of every patch that will come, in order, whether it holds something."""

    def __init__(self, holds: Iterable[bool]) -> None:
        """Remember, for as many scans as are predicted."""
        super().__init__()
        self._holds = cycle(holds)

    def forward(self, deepest: Tensor) -> Tensor:
        """Logits `(1, classes, 2)` for one patch, absent and present."""
        present = next(self._holds)
        return deepest.new_tensor([-9.0, 9.0] if present else [9.0, -9.0]).expand(1, CLASSES - 1, 2)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code."""
    parser = Parser(__doc__, runs=2)
    parser.add_argument(
        "--networks", nargs="+", choices=GATED, default=list(GATED), metavar="NAME", help=f"default: {' '.join(GATED)}"
    )
    parser.add_argument("--size", type=positive, default=SIZES["2d"], help="of slices and patches (default: 512)")
    parser.add_argument("--slices", type=positive, default=20, help="of the scan (default: 20)")
    parser.add_argument("--empty", type=float, default=0.6, help="share of slices without anything (default: 0.6)")
    return run(parser, measure, argv)


def measure(args: argparse.Namespace, report: Report) -> None:
    """Add a row for every network."""
    if not 0 <= args.empty <= 1:
        raise UserError(f"--empty {args.empty}: a share, from 0 to 1")
    plan = stock_plan("2d") | {"deep_supervision": False}
    check_size(args.size, plan["strides"], multiple=True)
    check_memory(bytes_of_scan(plan, args), args.device, f"--size {args.size} --slices {args.slices}")

    scan = torch.randn(1, args.slices, args.size, args.size)
    holds = holds_something(args.slices, args.empty)
    networks = {REFERENCE: plain(plan)} | {name: gated(name, plan, holds) for name in args.networks}
    predict = {name: prediction(network, plan, scan, args) for name, network in networks.items()}
    times = dict(zip(predict, interleaved_seconds(list(predict.values()), args.runs), strict=True))
    for name, seconds in times.items():
        report.add(
            network=name,
            ratio=median_ratio((seconds, times[REFERENCE])),
            scan_s=median(seconds),
            patches_skipped=share_skipped(networks[name]),
            empty_slices=1 - float(np.mean(holds)),
            images=f"{args.slices} slices of {args.size} x {args.size}",
        )


def holds_something(slices: int, empty: float) -> list[bool]:
    """Of every slice: empty ones at both ends, as above and below an organ."""
    filled = slices - round(empty * slices)
    first = (slices - filled) // 2
    return [first <= index < first + filled for index in range(slices)]


def gated(name: str, plan: dict[str, Any], holds: Sequence[bool]) -> Any:
    """A gated network whose gate has been told. A patch is as large as a slice, and comes in all its views at once."""
    network: Any = ours(name, plan)
    network.gate = ToldGate([slice_holds for slice_holds in holds for _ in range(VIEWS)])
    return network


def share_skipped(network: Any) -> float:
    """Of the patches that a gate has seen."""
    if not hasattr(network, "gatings"):
        return 0.0
    count = network.gatings[0].count
    return count.skipped / count.seen


def prediction(
    network: nn.Module, plan: dict[str, Any], scan: Tensor, args: argparse.Namespace
) -> Callable[[], Tensor]:
    """Predicts the scan, as nnU-Net would from a model folder."""
    with redirect_stdout(StringIO()):  # on the CPU it says that there is no GPU
        predictor = nnUNetPredictor(device=torch.device(args.device), allow_tqdm=False)
    # what a plans file says, as far as prediction asks
    configuration = {"patch_size": [args.size] * 2, "architecture": {}}
    plans = PlansManager({"label_manager": "LabelManager", "configurations": {"2d": configuration}})
    predictor.manual_initialization(
        network,
        plans,
        plans.get_configuration("2d"),
        [network.state_dict()],
        DATASET,
        "nnUNetTrainer",
        inference_allowed_mirroring_axes=(0, 1),
    )
    return partial(predictor.predict_logits_from_preprocessed_data, scan)


def bytes_of_scan(plan: dict[str, Any], args: argparse.Namespace) -> int:
    """Scan in single precision, logits and weights of every voxel in half, and one patch in the largest network."""
    builders = [partial(plain, plan), *(partial(ours, name, plan) for name in args.networks)]
    patch = max(bytes_needed(build, (1, 1, args.size, args.size), args.device, training=False) for build in builders)
    return args.slices * args.size**2 * (4 + 2 * (CLASSES + 1)) + patch


if __name__ == "__main__":
    sys.exit(main())
