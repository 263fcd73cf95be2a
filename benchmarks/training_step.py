"""The papers' networks, and ours on a plan: the textbook form against ours, same weights, same input.

    python -m benchmarks.training_step            # from the repository's root: those in 2D, on two threads
    python -m benchmarks.training_step --networks unetsharp_paper --size 256 --runs 5 --json rows.json

The textbook form is the oracle of the tests (tests/textbook.py). A training step is forward with all heads, the sum of
their mean squared logits as loss, and backward; inference is forward with all heads, in evaluation mode and without
gradients. Both forms run in turn. The textbook of UNet 3+ takes minutes, the V-Nets, in 3D, longer.

A textbook form runs in PyTorch's default memory format, as published code does; ours chooses its own. The networks that
take a plan have nnU-Net's stock 2d one, cut to five stages. GFLOP are those of a forward pass by PyTorch's counter,
before any Winograd form.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.frame import Parser, Report, positive, run
from benchmarks.measure import median_ratio, paired_seconds
from benchmarks.plans import ours as ours_on_plan
from benchmarks.plans import stock_plan
from benchmarks.subject import Subject, bytes_needed, check_memory, check_size
from nnunetv2_unet3plus.architectures import papers
from tests.textbook import (
    TextbookFullScaleUNet,
    TextbookNestedUNet,
    TextbookPlainUNet,
    TextbookUNet3Plus,
    TextbookUNet3PlusLite,
)

CLASSES = 1
STAGES = 5


def on_plan(name: str, channels: int, num_classes: int) -> nn.Module:
    """A network of ours on nnU-Net's stock 2d plan; `channels` is the plan's one."""
    return ours_on_plan(name, stock_plan("2d", STAGES), num_classes)


@dataclass(frozen=True)
class Paper:
    """A network of a paper, or on a plan, and its textbook form.

    Attributes:
        build: of architectures/papers.py.
        textbook: makes the textbook form of such a network.
        size: of its images along each axis.
        channels: of its images.
        dims: their axes.
    """

    build: Callable[[int, int], nn.Module]
    textbook: Callable[[nn.Module], nn.Module]
    size: int = 256
    channels: int = 3
    dims: int = 2


PAPERS = {
    "unet3plus_paper": Paper(papers.unet3plus_paper, TextbookUNet3Plus, size=320),
    "unetsharp_paper_unet": Paper(papers.unetsharp_paper_unet, TextbookPlainUNet),
    "unetsharp_paper_unetplusplus": Paper(papers.unetsharp_paper_unetplusplus, TextbookNestedUNet),
    "unetsharp_paper_unet3plus": Paper(papers.unetsharp_paper_unet3plus, TextbookFullScaleUNet),
    "unetsharp_paper": Paper(papers.unetsharp_paper, TextbookNestedUNet),
}
VNETS = {
    "unetsharp_paper_vnet": (papers.unetsharp_paper_vnet, TextbookPlainUNet),
    "unetsharp_paper_vnetplusplus": (papers.unetsharp_paper_vnetplusplus, TextbookNestedUNet),
    "unetsharp_paper_vnet3plus": (papers.unetsharp_paper_vnet3plus, TextbookFullScaleUNet),
    "unetsharp_paper_vnetsharp": (papers.unetsharp_paper_vnetsharp, TextbookNestedUNet),
}
PLANNED = {
    "unet3plus": TextbookUNet3Plus,
    "unet3plus_lite": TextbookUNet3PlusLite,
    "unetplusplus": TextbookNestedUNet,
    "unetsharp": TextbookNestedUNet,
    "unet": TextbookPlainUNet,
    "unet3plus_raw": TextbookFullScaleUNet,
}
PLANAR = list(PAPERS)
PAPERS |= {name: Paper(*forms, size=64, channels=1, dims=3) for name, forms in VNETS.items()}

# a name of its own, for `roofline` has networks of the same names on the whole plan
WITH_TEXTBOOK = PAPERS | {name: Paper(partial(on_plan, name), form, channels=1) for name, form in PLANNED.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=WITH_TEXTBOOK,
        default=PLANAR,
        metavar="NAME",
        help=f"{', '.join(WITH_TEXTBOOK)} (default: the papers' in 2D)",
    )
    parser.add_argument(
        "--size", type=positive, help="voxels along each axis (default: UNet 3+'s 320, else 256; in 3D 64)"
    )
    parser.add_argument("--batch-size", type=positive, default=1, help="images (default: 1)")
    return run(parser, measure, argv)


def measure(args: argparse.Namespace, report: Report) -> None:
    """Add the rows of every network."""
    for name in args.networks:
        shape = shape_of(WITH_TEXTBOOK[name], args)
        check_size(shape[-1], papers.paper_plan(papers.NARROW)["strides"])
        needed = bytes_needed(partial(textbook_of, WITH_TEXTBOOK[name]), shape, args.device)
        check_memory(needed, args.device, f"--size {shape[-1]}")
    for name in args.networks:
        compare(name, args, report)


def shape_of(paper: Paper, args: argparse.Namespace) -> tuple[int, ...]:
    """Of the images."""
    size = args.size or paper.size
    return args.batch_size, paper.channels, *[size] * paper.dims


def textbook_of(paper: Paper) -> nn.Module:
    """The textbook form, weights at random."""
    return paper.textbook(paper.build(paper.channels, CLASSES))


def compare(name: str, args: argparse.Namespace, report: Report) -> None:
    """Add the rows of one network."""
    paper = WITH_TEXTBOOK[name]
    network = paper.build(paper.channels, CLASSES)
    textbook = paper.textbook(network)
    textbook.load_state_dict(network.state_dict(), strict=True)
    x = torch.randn(*shape_of(paper, args), device=args.device)
    theirs, ours = Subject(textbook, x), Subject(network, x)

    images = " x ".join(map(str, x.shape))

    def add(what: str, ratio: float, of_textbook: float, of_ours: float) -> None:
        report.add(network=name, what=what, ratio=ratio, textbook=of_textbook, ours=of_ours, images=images)

    for what, step in (("training step", Subject.training_step), ("inference", Subject.inference)):
        times = paired_seconds(partial(step, theirs), partial(step, ours), args.runs)
        add(f"{what} (s), textbook / ours", median_ratio(times), *map(median, times))
    memory = {"saved activations": Subject.saved_mib}
    if args.device == "cuda":
        memory["peak memory"] = Subject.peak_mib
    for what, mib in memory.items():
        of_textbook, of_ours = mib(theirs), mib(ours)
        add(f"{what} (MiB), ours / textbook", of_ours / of_textbook, of_textbook, of_ours)
    forms = (partial(textbook_of, paper), partial(paper.build, paper.channels, CLASSES))
    works = [gflop(build, x.shape) for build in forms]
    add("forward GFLOP, textbook / ours", works[0] / works[1], *works)


def gflop(build: Callable[[], nn.Module], shape: Sequence[int]) -> float:
    """Of a forward pass, counted without computing."""
    with torch.device("meta"):
        network, x = build(), torch.empty(*shape)
    with FlopCounterMode(display=False) as counter:
        network(x)
    return counter.get_total_flops() / 1e9


if __name__ == "__main__":
    sys.exit(main())
