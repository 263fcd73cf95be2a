"""Networks of ours against nnU-Net's own, PlainConvUNet and ResidualEncoderUNet, on the same stock plan.

    python -m benchmarks.against_nnunet               # from the repository's root; 2d, two threads, 512 x 512, batch 2
    python -m benchmarks.against_nnunet --networks unet3plus --cat-channels 8 16 32
    python -m benchmarks.against_nnunet --plan 3d_fullres --batch-size 1 --size 96 --networks unet3plus

The plan 2d is the one nnU-Net makes for LiTS, 8 stages of 32 to 512 features; 3d_fullres is its usual one, 6 stages of
32 to 320. The residual encoder has 1, 3, 4, 6, 6, ... blocks, as nnU-Net's ResEnc plans.
A training step is forward with all heads (deep supervision), the sum of their mean squared logits as loss, and
backward; inference is forward with the head of full resolution alone, in evaluation mode and without gradients. All
networks run in turn, and every ratio is the median over the rounds of network / nnU-Net's network: below 1 is cheaper.

The defaults take some minutes, `--plan 3d_fullres` or UNet++ and UNet# far longer on a CPU.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

import torch
from torch import nn

from benchmarks.frame import Parser, Report, positive, run
from benchmarks.measure import interleaved_seconds, median_ratio
from benchmarks.plans import BATCH_SIZE, NNUNETS, OURS, SIZES, WITH_CAT_CHANNELS, ours, stock_plan
from benchmarks.subject import Subject, bytes_needed, check_memory, check_size

DEFAULT = ["unet3plus", "unet3plus_lite"]  # the nested ones take many times as long and up to 14 GB

Builders = dict[str, Callable[[], nn.Module]]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code."""
    parser = Parser(__doc__)
    parser.add_argument("--plan", choices=SIZES, default="2d", help="default: 2d")
    parser.add_argument(
        "--networks", nargs="+", choices=OURS, default=DEFAULT, metavar="NAME", help=f"{', '.join(OURS)}"
    )
    parser.add_argument(
        "--cat-channels",
        nargs="+",
        type=positive,
        default=[None],
        metavar="N",
        help="widths of UNet 3+'s branches, each a row (default: half the first stage's, 16)",
    )
    parser.add_argument("--size", type=positive, help="voxels along each axis (default: 512 in 2d, 128 in 3d_fullres)")
    parser.add_argument("--batch-size", type=positive, default=BATCH_SIZE, help=f"default: {BATCH_SIZE}")
    return run(parser, measure, argv)


def measure(args: argparse.Namespace, report: Report) -> None:
    """Add the rows of every network."""
    plan = stock_plan(args.plan)
    size = args.size or SIZES[args.plan]
    check_size(size, plan["strides"], multiple=True)
    shape = (args.batch_size, 1, *[size] * len(plan["strides"][0]))
    builders: Builders = {name: partial(build, plan) for name, build in NNUNETS.items()}
    for name in args.networks:
        for width in args.cat_channels if name in WITH_CAT_CHANNELS else [None]:
            label, options = (name, {}) if width is None else (f"{name} cat_channels={width}", {"cat_channels": width})
            builders[label] = partial(ours, name, plan, **options)
    for build in builders.values():
        option = f"--size {size} --batch-size {args.batch_size}"
        check_memory(bytes_needed(build, shape, args.device), args.device, option)
    compare(builders, torch.randn(*shape, device=args.device), args, report)


def compare(builders: Builders, x: torch.Tensor, args: argparse.Namespace, report: Report) -> None:
    """Add the rows of every quantity."""
    subjects = {name: Subject(build(), x) for name, build in builders.items()}
    for subject in subjects.values():
        for gating in getattr(subject.network, "gatings", []):
            gating.thresholds.zero_()  # untrained, it would decide at random whether the decoder runs
    images = f"{args.plan}, {' x '.join(map(str, x.shape))}"

    def add(what: str, values: dict[str, list[float]]) -> None:
        for name, of_network in values.items():
            ratios = {f"/ {other}": median_ratio((of_network, values[other])) for other in NNUNETS}
            report.add(network=name, what=what, **ratios, value=median(of_network), images=images)

    for what, step in (
        ("training step (s)", Subject.training_step),
        ("inference (s)", Subject.inference_without_side_heads),
    ):
        times = interleaved_seconds([partial(step, subject) for subject in subjects.values()], args.runs)
        add(what, dict(zip(subjects, times, strict=True)))
    counts = {"saved activations (MiB)": Subject.saved_mib, "parameters": Subject.parameters}
    if args.device == "cuda":
        counts["peak memory (MiB)"] = Subject.peak_mib
    for what, count in counts.items():
        add(what, {name: [count(subject)] for name, subject in subjects.items()})


if __name__ == "__main__":
    sys.exit(main())
