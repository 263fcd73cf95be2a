"""How far the gradients of a training step are from those of PyTorch's own operators in double precision.

    python -m benchmarks.accuracy.rounding        # from the repository's root

UNet 3+ on the first five stages of stock plans, noise for images, the hybrid loss on all heads. Printed is the length
of the difference of the whole gradient over the length of the gradient: of PyTorch's operators in single precision, of
ours in single and in double, and of ours between keeping maps and computing them again, in single.
"""

import sys

import torch
from torch import Tensor

from benchmarks.plans import CLASSES, stock_plan
from nnunetv2_unet3plus.architectures.unet3plus import UNet3Plus
from nnunetv2_unet3plus.losses import DeepSupervisionLoss, HybridLoss, halving_weights

STAGES = 5
SIZES = {"2d": (128, 128), "3d_fullres": (32, 32, 32)}
COLUMNS = ("PyTorch's, single", "ours, single", "ours, double", "kept - recomputed")


def main() -> int:
    """Measure and print; the exit code."""
    print(f"{'':14}{'seed':>6}" + "".join(f"{column:>20}" for column in COLUMNS))
    for plan, size in SIZES.items():
        for seed in range(3):
            torch.manual_seed(seed)
            network = UNet3Plus(1, CLASSES, **stock_plan(plan, STAGES))
            network.apply(network.initialize)
            images, labels = torch.randn(2, 1, *size), torch.randint(0, CLASSES, (2, 1, *size))
            theirs, ours, kept = {"own_operators": False}, {}, {"recompute": False}
            exact = gradient(network, images.double(), labels, theirs)
            single = [gradient(network, images, labels, form) for form in (theirs, ours, kept)]
            double = gradient(network, images.double(), labels, ours)
            differences = (single[0] - exact, single[1] - exact, double - exact, single[2] - single[1])
            apart = [float(difference.norm() / exact.norm()) for difference in differences]
            print(f"{plan:14}{seed:6}" + "".join(f"{value:20.1e}" for value in apart), flush=True)
    return 0


def gradient(network: UNet3Plus, images: Tensor, labels: Tensor, form: dict[str, bool]) -> Tensor:
    """Of all parameters, one after the other, in double precision; `form` sets attributes of the network."""
    network.to(images.dtype)
    for name, value in ({"own_operators": True, "recompute": True} | form).items():
        setattr(network, name, value)
    loss = DeepSupervisionLoss(HybridLoss(), halving_weights(STAGES), full_scale=True)
    gradients = torch.autograd.grad(loss(network(images), labels), list(network.parameters()))
    network.float()
    return torch.cat([each.flatten().double() for each in gradients])


if __name__ == "__main__":
    sys.exit(main())
