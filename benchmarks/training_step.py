"""One training step of a paper's network: the textbook form against ours, same weights, same input.

    python -m benchmarks.training_step            # from the repository's root: UNet 3+; two threads, 320 x 320
    python -m benchmarks.training_step --network unetsharp_paper --size 256 --runs 5

The textbook form is the oracle of the tests (tests/textbook.py). A step is forward with all heads, the sum of their
squared logits as loss, and backward. Prints the two ratios the README quotes.
"""

import argparse
from statistics import median

import torch
from torch import nn

from benchmarks.measure import median_ratio, paired_seconds
from nnunetv2_unet3plus.architectures import papers
from nnunetv2_unet3plus.planning.saved_tensors import saved_bytes
from tests.textbook import TextbookNestedUNet, TextbookUNet3Plus

TEXTBOOK = {
    "unet3plus_paper": TextbookUNet3Plus,
    "unetsharp_paper_unetplusplus": TextbookNestedUNet,
    "unetsharp_paper": TextbookNestedUNet,
}


def training_step(network: nn.Module, x: torch.Tensor) -> None:
    """Forward and backward."""
    network.zero_grad(set_to_none=True)
    sum(logits.square().mean() for logits in network(x)).backward()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=TEXTBOOK, default="unet3plus_paper", help="of architectures/papers.py")
    parser.add_argument("--size", type=int, default=320, help="pixels along each axis (default: 320)")
    parser.add_argument("--runs", type=int, default=3, help="pairs of steps measured (default: 3)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    ours = getattr(papers, args.network)(3, 1)
    textbook = TEXTBOOK[args.network](ours)
    textbook.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(1, 3, args.size, args.size)

    saved = saved_bytes(ours, x), saved_bytes(textbook, x)
    times = paired_seconds(lambda: training_step(textbook, x), lambda: training_step(ours, x), args.runs)

    print(f"{args.network}, 3 x {args.size} x {args.size}, batch 1, {args.threads} threads, {args.runs} pairs")
    print(f"{'':24}{'textbook':>12}{'ours':>12}")
    print(f"{'seconds a step, median':24}{median(times[0]):12.2f}{median(times[1]):12.2f}")
    print(f"{'saved for backward, MiB':24}{saved[1] / 2**20:12.0f}{saved[0] / 2**20:12.0f}")
    print(f"time, textbook / ours: {median_ratio(times):.2f}")
    print(f"saved activations, ours / textbook: {saved[0] / saved[1]:.3f}")


if __name__ == "__main__":
    main()
