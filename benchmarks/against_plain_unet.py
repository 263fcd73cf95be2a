"""One training step of UNet3Plus against nnU-Net's PlainConvUNet on the same stock 2d plan, by width of the branches.

    python -m benchmarks.against_plain_unet               # from the repository's root; two threads, 512 x 512
    python -m benchmarks.against_plain_unet --size 256 --widths 16

The plan is the one nnU-Net makes for LiTS: 8 stages of 32 to 512 features, deep supervision. A step is forward, the
sum of all heads' squared logits as loss, and backward, for one patch. `cat_channels` is what decides the price.
"""

import argparse

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from benchmarks.measure import median_ratio, paired_seconds
from benchmarks.training_step import training_step
from nnunetv2_unet3plus.architectures.unet3plus import UNet3Plus
from nnunetv2_unet3plus.planning.saved_tensors import saved_bytes

STAGES = 8
PLAN = {
    "n_stages": STAGES,
    "features_per_stage": [32, 64, 128, 256, 512, 512, 512, 512],
    "conv_op": nn.Conv2d,
    "kernel_sizes": [[3, 3]] * STAGES,
    "strides": [[1, 1]] + [[2, 2]] * (STAGES - 1),
    "n_conv_per_stage": [2] * STAGES,
    "n_conv_per_stage_decoder": [2] * (STAGES - 1),
    "conv_bias": True,
    "norm_op": nn.InstanceNorm2d,
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin": nn.LeakyReLU,
    "nonlin_kwargs": {"inplace": True},
    "deep_supervision": True,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="pixels along each axis (default: 512)")
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16, 32], help="cat_channels (default: 8 16 32)")
    parser.add_argument("--runs", type=int, default=3, help="pairs of steps measured (default: 3)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    x = torch.randn(1, 1, args.size, args.size)
    plain = PlainConvUNet(1, num_classes=3, **PLAN)
    saved_by_plain = saved_bytes(plain, x)

    print(
        f"1 x {args.size} x {args.size}, batch 1, {args.threads} threads, {args.runs} pairs; UNet3Plus / PlainConvUNet"
    )
    print(f"{'cat_channels':>12}{'time':>8}{'saved activations':>20}{'parameters':>14}")
    for width in args.widths:
        ours = UNet3Plus(1, num_classes=3, cat_channels=width, **PLAN)
        times = paired_seconds(lambda net=ours: training_step(net, x), lambda: training_step(plain, x), args.runs)
        parameters = [sum(p.numel() for p in network.parameters()) for network in (ours, plain)]
        print(
            f"{width:12}{median_ratio(times):8.2f}{saved_bytes(ours, x) / saved_by_plain:20.2f}"
            f"{parameters[0] / parameters[1]:14.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
