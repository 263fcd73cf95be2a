"""The training step against the time its irreducible FLOPs would take at this machine's measured rate.

    python -m benchmarks.roofline                 # from the repository's root: UNet 3+, the paper's and on a 2d plan
    python -m benchmarks.roofline --networks unetsharp_paper --size 128 --runs 5

What is counted. Two FLOPs for every multiplication of every convolution, forward and backward (twice forward: by the
input and by the weights, but for the images, which need no gradient), as PyTorch's FlopCounterMode counts them on the
meta device, where nothing is computed. A convolution over an interpolated map counts on the coarse grid where our
operator mixes its channels there, which is the coarsest grid that gives exactly the same values. A convolution that
runs in a Winograd form counts as the direct convolution it stands for, so a step can be faster than its roofline. The
small matrices by which `resize_conv` interpolates and shifts count in the first ratio, backward as much as forward; the
second leaves them out and is of the convolutions alone. Norms, nonlinearities, pooling, bias and loss count nothing.

The rate. In every round, after the steps and on the same threads: the best of a matrix product (2048 x 2048) and of a
3 x 3 convolution, forward and backward, with 128 channels at 128 x 128 pixels, contiguous and channels-last. Single
precision on the CPU; on CUDA float16, as the step's convolutions are there.

A ratio is the median over the rounds of seconds / (FLOPs / rate of this round): 1 is a step that does nothing but
multiply, as fast as can be.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.frame import Parser, Report, positive, run
from benchmarks.measure import interleaved_seconds
from benchmarks.plans import SIZES, ours, stock_plan
from benchmarks.subject import Subject, as_list, bytes_needed, check_memory, check_size, precision
from benchmarks.training_step import CLASSES, PAPERS, shape_of
from nnunetv2_unet3plus.architectures.papers import NARROW, paper_plan

ON_PLAN = ("unet3plus", "unet3plus_lite", "unetplusplus", "unetsharp")
MATRIX_SIDE = 2048
CHANNELS, PIXELS = 128, 128  # of the convolution that the rate is measured by


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code."""
    names = (*PAPERS, *ON_PLAN)
    parser = Parser(__doc__)
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=names,
        default=["unet3plus_paper", "unet3plus"],
        metavar="NAME",
        help=f"{', '.join(names)}; the last {len(ON_PLAN)} on the stock 2d plan (default: unet3plus_paper unet3plus)",
    )
    parser.add_argument("--size", type=positive, help="pixels along each axis (default: the paper's; 512 on the plan)")
    parser.add_argument("--batch-size", type=positive, default=1, help="images (default: 1)")
    return run(parser, measure, argv)


def measure(args: argparse.Namespace, report: Report) -> None:
    """Add a row for every network."""
    candidates = [candidate(name, args) for name in args.networks]
    for build, shape in candidates:
        check_memory(bytes_needed(build, shape, args.device), args.device, f"--size {shape[-1]}")
    for name, (build, shape) in zip(args.networks, candidates, strict=True):
        add_row(name, build, shape, args, report)


def candidate(name: str, args: argparse.Namespace) -> tuple[Callable[[], nn.Module], tuple[int, ...]]:
    """How to build a network, and the shape of its images."""
    if name in PAPERS:
        paper, strides = PAPERS[name], paper_plan(NARROW)["strides"]
        shape = shape_of(paper, args)
        build: Callable[[], nn.Module] = partial(paper.build, paper.channels, CLASSES)
    else:
        plan, size = stock_plan("2d"), args.size or SIZES["2d"]
        strides, shape = plan["strides"], (args.batch_size, 1, size, size)
        build = partial(ours, name, plan)
    check_size(shape[-1], strides)
    return build, shape


def irreducible_flops(build: Callable[[], nn.Module], shape: Sequence[int]) -> tuple[int, int]:
    """FLOPs of the convolutions of a training step, and those of the matrices that interpolate and shift.

    Args:
        build: makes the network.
        shape: of its input.
    """
    with torch.device("meta"):
        network, x = build().train(), torch.empty(*shape)
    with FlopCounterMode(display=False) as counter:
        outputs = as_list(network(x))
        torch.autograd.backward(outputs, [torch.empty_like(output) for output in outputs])
    counts = {str(operator): count for operator, count in counter.get_flop_counts()["Global"].items()}
    convolutions = sum(count for operator, count in counts.items() if operator.startswith("aten.convolution"))
    forward = sum(count for operator, count in counts.items() if operator.endswith(".interpolate_taps"))
    return convolutions, 2 * forward  # the transposed matrices of backward need as many


def matrix_product(device: torch.device) -> Callable[[], object]:
    """A function to time."""
    a, b = torch.randn(2, MATRIX_SIDE, MATRIX_SIDE, device=device)
    return partial(_in_precision, torch.mm, a, b)


def convolution(memory_format: torch.memory_format, device: torch.device) -> Callable[[], object]:
    """A function to time."""
    x = torch.randn(1, CHANNELS, PIXELS, PIXELS, device=device).to(memory_format=memory_format).requires_grad_()
    weight = torch.randn(CHANNELS, CHANNELS, 3, 3, device=device).to(memory_format=memory_format).requires_grad_()

    def forward_and_backward() -> None:
        out = _in_precision(functional.conv2d, x, weight, padding=1)
        torch.autograd.grad(out, (x, weight), torch.ones_like(out))

    return forward_and_backward


def _in_precision(function: Callable[..., Tensor], x: Tensor, *args: Tensor, **kwargs: int) -> Tensor:
    with precision(x.device):
        return function(x, *args, **kwargs)


FLOPS_OF_CONVOLUTION = 3 * 2 * CHANNELS**2 * 9 * PIXELS**2
# each makes a function to time, which needs so many FLOPs
PROBES: dict[str, tuple[Callable[[torch.device], Callable[[], object]], int]] = {
    "matrix product": (matrix_product, 2 * MATRIX_SIDE**3),
    "convolution": (partial(convolution, torch.contiguous_format), FLOPS_OF_CONVOLUTION),
    "convolution, channels-last": (partial(convolution, torch.channels_last), FLOPS_OF_CONVOLUTION),
}


def add_row(
    name: str,
    build: Callable[[], nn.Module],
    shape: tuple[int, ...],
    args: argparse.Namespace,
    report: Report,
) -> None:
    """Measure a network and the machine in turn."""
    convolutions, matrices = irreducible_flops(build, shape)
    subject = Subject(build(), torch.randn(*shape, device=args.device))
    steps, *of_probes = interleaved_seconds(
        [subject.training_step, *(prepare(subject.x.device) for prepare, _ in PROBES.values())], args.runs
    )
    flops = [count for _, count in PROBES.values()]
    rates = [max(n / s for n, s in zip(flops, seconds, strict=True)) for seconds in zip(*of_probes, strict=True)]
    report.add(
        network=name,
        ratio=median(s * rate / (convolutions + matrices) for s, rate in zip(steps, rates, strict=True)),
        convolutions_alone=median(s * rate / convolutions for s, rate in zip(steps, rates, strict=True)),
        step_s=median(steps),
        convolution_GFLOP=convolutions / 1e9,
        matrix_GFLOP=matrices / 1e9,
        GFLOP_per_s=median(rates) / 1e9,
        **{
            f"{probe}_GFLOP_per_s".replace(", ", "_").replace(" ", "_"): count / median(seconds) / 1e9
            for probe, count, seconds in zip(PROBES, flops, of_probes, strict=True)
        },
        images=" x ".join(map(str, shape)),
    )


if __name__ == "__main__":
    sys.exit(main())
