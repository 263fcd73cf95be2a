"""How far the gradients of a training step are from those in double precision, with all maps kept and recomputed.

    python -m benchmarks.accuracy.rounding        # from the repository's root

UNet 3+ on the first five stages of stock plans, noise for images, the hybrid loss on all heads. Printed is the
length of the difference of the whole gradient over the length of the gradient. In double precision both forms are the
same function; in single precision each is as far from it as rounding and the sign of what is nearly zero take it.
"""

import sys

import torch
from torch import Tensor

from benchmarks.plans import CLASSES, stock_plan
from nnunetv2_unet3plus.architectures.unet3plus import UNet3Plus
from nnunetv2_unet3plus.losses import DeepSupervisionLoss, HybridLoss, halving_weights

STAGES = 5
SIZES = {"2d": (128, 128), "3d_fullres": (32, 32, 32)}
FORMS = {"kept": False, "recomputed": True}


def main() -> int:
    """Measure and print; the exit code."""
    print(f"{'':14}{'seed':>6}{'kept, single':>16}{'recomputed, single':>20}{'recomputed, double':>20}")
    for plan, size in SIZES.items():
        for seed in range(3):
            torch.manual_seed(seed)
            network = UNet3Plus(1, CLASSES, **stock_plan(plan, STAGES))
            network.apply(network.initialize)
            images, labels = torch.randn(2, 1, *size), torch.randint(0, CLASSES, (2, 1, *size))
            exact = gradient(network, images.double(), labels, recompute=False)
            apart = [
                float((gradient(network, images.to(dtype), labels, recompute) - exact).norm() / exact.norm())
                for dtype, recompute in ((torch.float32, False), (torch.float32, True), (torch.float64, True))
            ]
            print(f"{plan:14}{seed:6}{apart[0]:16.1e}{apart[1]:20.1e}{apart[2]:20.1e}", flush=True)
    return 0


def gradient(network: UNet3Plus, images: Tensor, labels: Tensor, recompute: bool) -> Tensor:
    """Of all parameters, one after the other, in double precision."""
    network.to(images.dtype).recompute = recompute
    loss = DeepSupervisionLoss(HybridLoss(), halving_weights(STAGES), full_scale=True)
    gradients = torch.autograd.grad(loss(network(images), labels), list(network.parameters()))
    network.float()
    return torch.cat([each.flatten().double() for each in gradients])


if __name__ == "__main__":
    sys.exit(main())
