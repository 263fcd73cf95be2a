"""3 x 3 convolutions in Winograd's form against PyTorch's own, both in channels-last format on the CPU.

    python -m benchmarks.convolutions             # from the repository's root, on two threads
    python -m benchmarks.convolutions --shapes 96x96x256 --runs 9

A shape is channels in x channels out x pixels along each axis. Measured are forward, the gradient of the input and that
of the weight, each in turn, and their sum; above 1 Winograd's form is the faster one. `taken` is what our networks
decide.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.frame import Parser, Report, run
from benchmarks.measure import median_ratio, paired_seconds
from nnunetv2_unet3plus.building_blocks import winograd
from nnunetv2_unet3plus.errors import UserError

SHAPES = (
    "64x64x128", "96x96x256", "128x64x128", "128x32x256", "128x128x512", "128x128x64", "256x128x64", "256x256x32",
    "256x256x16", "320x320x320", "320x320x40", "320x320x20", "512x256x32",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code."""
    parser = Parser(__doc__, runs=9)
    parser.add_argument("--shapes", type=shape, nargs="+", default=[shape(text) for text in SHAPES], metavar="CxOxN")
    return run(parser, measure, argv)


def shape(text: str) -> tuple[int, int, int]:
    """``"96x64x256"`` as numbers.

    Raises:
        ArgumentTypeError: for anything else.
    """
    try:
        channels, out_channels, pixels = (int(part) for part in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no shape such as 96x64x256") from None
    if min(channels, out_channels, pixels) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be of positive numbers")
    return channels, out_channels, pixels


def measure(args: argparse.Namespace, report: Report) -> None:
    """Add a row for every shape."""
    if args.device != "cpu":
        raise UserError("--device: on CUDA both are cuDNN's business, there is nothing to compare")
    for channels, out_channels, pixels in args.shapes:
        pairs = forms(channels, out_channels, pixels)
        times = [paired_seconds(*pair, args.runs) for pair in pairs.values()]
        both = [list(map(sum, zip(*sides, strict=True))) for sides in zip(*times, strict=True)]
        x, weight = _tensors(channels, out_channels, pixels)[:2]
        report.add(
            shape=f"{channels}x{out_channels}x{pixels}",
            ratio=median_ratio((both[0], both[1])),
            **{name: median_ratio(pair) for name, pair in zip(pairs, times, strict=True)},
            taken=str(winograd.winograd_pays(x, weight)),
        )


def _tensors(channels: int, out_channels: int, pixels: int) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(1, channels, pixels, pixels).contiguous(memory_format=torch.channels_last)
    gradient = torch.randn(1, out_channels, pixels, pixels).contiguous(memory_format=torch.channels_last)
    return x, torch.randn(out_channels, channels, 3, 3), gradient


def forms(channels: int, out_channels: int, pixels: int) -> dict[str, tuple[Callable, Callable]]:
    """PyTorch's form and Winograd's of everything that a training step needs."""
    x, weight, gradient = _tensors(channels, out_channels, pixels)

    def backward(which: list[bool]) -> object:
        ones = [1, 1]
        return torch.ops.aten.convolution_backward(
            gradient, x, weight, None, ones, ones, ones, False, [0, 0], 1, [*which, False]
        )

    return {
        "forward": (
            partial(functional.conv2d, x, weight, padding=1), partial(winograd.winograd_conv2d, x, weight, None)
        ),
        "of_input": (partial(backward, [True, False]), partial(winograd._input_gradient, gradient, weight)),
        "of_weight": (partial(backward, [False, True]), partial(winograd._weight_gradient, x, gradient)),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
