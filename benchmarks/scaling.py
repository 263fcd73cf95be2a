"""How the time of a training step grows: with the patch, the number of stages, the classes, the batch.

    python -m benchmarks.scaling                  # from the repository's root: UNet 3+, all four, two threads
    python -m benchmarks.scaling --sweep size --network unetplusplus --values 64 128 256
    python -m benchmarks.scaling --sweep stages --size 512

The encoder is that of nnU-Net's 2d plan, with deep supervision. One thing changes at a time: the size of the patch (128
to 1024 pixels along each axis, 5 stages, batch 1), the stages (4 to 8, of a patch of 512), the classes (2 to 32) and
the batch (1 to 8; these two with 5 stages and a patch of 256). All values of a sweep run in turn.

The time of a pixel is seconds / (batch x pixels); it stands relative to that of the sweep's first value, as does the
time of the step. Slopes are of the logarithms, by least squares: time grows like value to the power of slope. In the
sweep of sizes the value is the number of pixels, so 1 is linear. Saved activations are counted, not measured.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import log
from statistics import linear_regression, median

import torch
from torch import nn

from benchmarks.frame import Parser, Report, positive, run
from benchmarks.measure import interleaved_seconds, median_ratio
from benchmarks.plans import OURS, ours, stock_plan
from benchmarks.subject import Subject, bytes_needed, check_memory, check_size
from nnunetv2_unet3plus.errors import UserError


@dataclass(frozen=True)
class Setting:
    """What is trained on what."""

    size: int = 256
    stages: int = 5
    classes: int = 3
    batch_size: int = 1

    @property
    def pixels(self) -> int:
        """Of a patch."""
        return self.size**2

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the images."""
        return self.batch_size, 1, self.size, self.size


# what changes, its values, the size of the patch
SWEEPS = {
    "size": ("size", (128, 256, 512, 1024), 256),
    "stages": ("stages", (4, 5, 6, 7, 8), 512),
    "classes": ("classes", (2, 4, 8, 16, 32), 256),
    "batch": ("batch_size", (1, 2, 4, 8), 256),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code."""
    parser = Parser(__doc__)
    parser.add_argument("--network", choices=OURS, default="unet3plus", metavar="NAME", help=f"{', '.join(OURS)}")
    parser.add_argument("--sweep", nargs="+", choices=SWEEPS, default=list(SWEEPS), help="default: all of them")
    parser.add_argument("--values", nargs="+", type=positive, metavar="N", help="of the sweep, where it is one alone")
    parser.add_argument("--size", type=positive, help="of the patch, where it is not what changes")
    return run(parser, measure, argv)


def measure(args: argparse.Namespace, report: Report) -> None:
    """Add the rows of every sweep."""
    if args.values and len(args.sweep) > 1:
        raise UserError(f"--values: of which of {', '.join(args.sweep)}? name one with --sweep")
    if args.values and len(set(args.values)) < 2:
        raise UserError("--values: growth is between values; give two different ones")
    sweeps = {sweep: settings(sweep, args.values, args.size) for sweep in args.sweep}
    for sweep, of_sweep in sweeps.items():
        for setting in of_sweep:
            check_size(setting.size, stock_plan("2d", setting.stages)["strides"])
            option = f"--sweep {sweep} --values {getattr(setting, SWEEPS[sweep][0])} (--size {setting.size})"
            check_memory(bytes_needed(builder(args.network, setting), setting.shape, args.device), args.device, option)
    for sweep, of_sweep in sweeps.items():
        add_sweep(sweep, of_sweep, args, report)


def settings(sweep: str, values: Sequence[int] | None, size: int | None) -> list[Setting]:
    """The settings of a sweep, by default those of `SWEEPS`."""
    changes, usual_values, usual_size = SWEEPS[sweep]
    base = Setting(size=size or usual_size)
    return [replace(base, **{changes: value}) for value in values or usual_values]


def builder(network: str, setting: Setting) -> Callable[[], nn.Module]:
    """Builds the network."""
    return partial(ours, network, stock_plan("2d", setting.stages), num_classes=setting.classes)


def add_sweep(sweep: str, of_sweep: Sequence[Setting], args: argparse.Namespace, report: Report) -> None:
    """Measure all settings of a sweep in turn; a row for each, then the slopes."""
    subjects = [
        Subject(builder(args.network, setting)(), torch.randn(*setting.shape, device=args.device))
        for setting in of_sweep
    ]
    times = interleaved_seconds([subject.training_step for subject in subjects], args.runs)
    saved = [subject.saved_mib() for subject in subjects]
    values = [getattr(setting, SWEEPS[sweep][0]) for setting in of_sweep]
    first = of_sweep[0]
    for setting, value, seconds, mib in zip(of_sweep, values, times, saved, strict=True):
        growth = median_ratio((seconds, times[0]))
        pixels = setting.batch_size * setting.pixels / (first.batch_size * first.pixels)
        report.add(
            sweep=f"{sweep} {value}",
            time_of_a_pixel=growth / pixels,
            time=growth,
            saved=mib / saved[0],
            step_s=median(seconds),
            saved_MiB=mib,
            network=args.network,
        )
    if len(of_sweep) > 1:
        along = [setting.pixels for setting in of_sweep] if sweep == "size" else values
        report.add(
            sweep=f"{sweep}, log-log slope",
            slope_of_time=slope(along, [median(seconds) for seconds in times]),
            slope_of_saved=slope(along, saved),
            network=args.network,
        )


def slope(values: Sequence[float], costs: Sequence[float]) -> float:
    """Of the costs' logarithms over the values', by least squares."""
    return linear_regression([log(value) for value in values], [log(cost) for cost in costs]).slope


if __name__ == "__main__":
    sys.exit(main())
