"""Every loss against its counterpart elsewhere, forward and backward, and the hybrid loss's share of a training step.

    python -m benchmarks.losses                       # from the repository's root; two threads of the CPU
    python -m benchmarks.losses --parts 2d share --runs 9 --json rows.json
    python -m benchmarks.losses --parts 3d --side-3d 64

Counterparts are those of pytorch-msssim, MONAI, segmentation-models-pytorch and nnU-Net itself, with the options that
make them the same function where there are any; `difference` is then that of the two values. Both read a label map and
logits of two channels, and run in turn. pytorch-msssim's `ms_ssim` takes luminance at the coarsest scale alone and
refuses sides up to 160; its `ssim` at every scale, with pooling in between, is the same function as ours.

The share: `unet3plus_paper` in one step with the hybrid loss on its five heads, all resized to full size, and the loss
alone on these heads, forward and backward.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod
from statistics import median
from typing import NamedTuple

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.frame import Parser, Report, positive, run
from benchmarks.measure import median_ratio, paired_seconds
from benchmarks.subject import available_bytes, check_size, precision
from nnunetv2_unet3plus.architectures.papers import WIDE, paper_plan, unet3plus_paper
from nnunetv2_unet3plus.errors import UserError
from nnunetv2_unet3plus.losses import (
    DeepSupervisionLoss,
    FocalLoss,
    HybridLoss,
    IoULoss,
    LaplaceDiceLoss,
    LovaszLoss,
    MSSSIMLoss,
    UNetPlusPlusLoss,
    UNetSharpLoss,
    equal_weights,
)
from nnunetv2_unet3plus.losses.ms_ssim import SCALE_WEIGHTS, number_of_scales

try:
    import pytorch_msssim
    from monai.losses import DiceCELoss, DiceLoss
    from monai.losses import FocalLoss as MonaiFocalLoss
    from monai.metrics.regression import compute_ms_ssim
    from segmentation_models_pytorch.losses import LovaszLoss as LoopedLovaszLoss
except ImportError as error:
    MISSING: str | None = str(error.name)
else:
    MISSING = None

PARTS = ("2d", "3d", "share")
CLASSES = 2
MONAI_VOXELS = 64**3
LOGIT_BYTES = 4 * 64  # the dearest counterpart holds some 40 maps of the logits' size at once
PIXEL_BYTES = 20_000  # unet3plus_paper keeps 11 kB a pixel between forward and backward
Loss = Callable[[Tensor, Tensor], Tensor]


class Match(NamedTuple):
    """A loss of ours and one to hold against it.

    Attributes:
        name: Of ours.
        against: Of the other.
        ours: Called with logits and label map.
        theirs: Likewise.
        offset: What the other's value is below ours where both are the same function, else None.
    """

    name: str
    against: str
    ours: Loss
    theirs: Loss
    offset: float | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code."""
    parser = Parser(__doc__, runs=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--size", type=positive, default=320, help="pixels along each axis in 2D (default: 320)")
    parser.add_argument("--side-3d", type=positive, default=128, help="voxels along each axis in 3D (default: 128)")
    parser.add_argument("--batch-size", type=positive, default=1, help="default: 1")
    return run(parser, measure, argv)


def measure(args: argparse.Namespace, report: Report) -> None:
    """Add the rows of all parts."""
    if MISSING:
        raise UserError(
            f"{MISSING} is not installed: pip install 'nnunetv2-unet3plus[dev]' brings what is compared with"
        )
    for part in args.parts:
        if part == "share":
            measure_share(args, report)
        else:
            spatial = (args.size,) * 2 if part == "2d" else (args.side_3d,) * 3
            option = f"--size {args.size}" if part == "2d" else f"--side-3d {args.side_3d}"
            check_memory(LOGIT_BYTES * args.batch_size * CLASSES * prod(spatial), args.device, option)
            logits, labels = example(args.batch_size, spatial, args.device)
            for match in matches(spatial):
                compare(match, logits, labels, args.runs, report)


def check_memory(needed: int, device: str, option: str) -> None:
    """Refuse what does not fit the memory.

    Raises:
        UserError: naming the option and both sizes.
    """
    free = available_bytes(device)
    if needed > free:
        raise UserError(f"{option}: about {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free on {device}")


def example(batch: int, spatial: tuple[int, ...], device: str) -> tuple[Tensor, Tensor]:
    """Logits that are right but noisy, with a gradient, and labels, a block of organ, `(B, 1, *spatial)`."""
    labels = torch.zeros(batch, 1, *spatial, device=device)
    labels[(..., *(slice(n // 4, n // 2) for n in spatial))] = 1
    truth = functional.one_hot(labels[:, 0].long(), CLASSES).movedim(-1, 1)
    return (2 * truth - 1 + torch.randn(truth.shape, device=device)).requires_grad_(), labels


def compare(match: Match, logits: Tensor, labels: Tensor, runs: int, report: Report) -> None:
    """Add a row."""
    theirs, ours = (partial(forward_and_backward, loss, logits, labels) for loss in (match.theirs, match.ours))
    difference = "other function" if match.offset is None else abs(theirs() + match.offset - ours())
    times = paired_seconds(theirs, ours, runs)
    report.add(
        loss=match.name,
        against=match.against,
        theirs_by_ours=median_ratio(times),
        theirs_ms=1000 * median(times[0]),
        ours_ms=1000 * median(times[1]),
        difference=difference,
        size=" x ".join(map(str, logits.shape)),
    )


def forward_and_backward(loss: Loss, logits: Tensor, labels: Tensor) -> float:
    """The loss."""
    value = loss(logits, labels)
    torch.autograd.grad(value, logits)
    return value.item()


def matches(spatial: tuple[int, ...]) -> Iterator[Match]:
    """Everything to compare at a size."""
    scales = number_of_scales(spatial)
    total = sum(SCALE_WEIGHTS[:scales])
    weights = [weight / total for weight in SCALE_WEIGHTS[:scales]]
    # an odd side's last row is a row of its own in ours
    even = 0 if all(side % 2 ** (scales - 1) == 0 for side in spatial) else None
    softmax = {"include_background": False, "softmax": True, "to_onehot_y": True}
    jaccard = DiceLoss(**softmax, jaccard=True, smooth_nr=2e-5, smooth_dr=2e-5)
    # MONAI's means over background, too, whose terms are 0 but count
    focal = MonaiFocalLoss(gamma=2, use_softmax=True, to_onehot_y=True)
    nnunet = DC_and_CE_loss({"batch_dice": False, "smooth": 1, "do_bg": False, "ddp": False}, {})

    yield Match("MSSSIMLoss", "pytorch-msssim, ssim at every scale", MSSSIMLoss(), partial(same_ms_ssim, weights), even)
    if min(spatial) > 160:
        msssim = partial(pytorch_msssim.ms_ssim, data_range=1, weights=weights)
        yield Match("MSSSIMLoss", "pytorch-msssim", MSSSIMLoss(), partial(on_maps, msssim))
    # MONAI's window is dense, 11 x 11 x 11 in 3D: minutes on larger volumes
    if min(spatial) // max(1, scales - 1) ** 2 > 10 and prod(spatial) <= MONAI_VOXELS:
        monai = partial(compute_ms_ssim, spatial_dims=len(spatial), weights=weights)
        yield Match("MSSSIMLoss", "MONAI, MultiScaleSSIMMetric", MSSSIMLoss(), partial(on_maps, monai))
    yield Match("FocalLoss", "MONAI", FocalLoss(), lambda x, y: CLASSES * focal(x, y), 0)
    yield Match("IoULoss", "MONAI, DiceLoss(jaccard=True)", IoULoss(), jaccard, 0)
    yield Match(
        "LaplaceDiceLoss", "MONAI, DiceLoss", LaplaceDiceLoss(), DiceLoss(**softmax, smooth_nr=1, smooth_dr=1), 0
    )
    yield Match("LovaszLoss", "segmentation-models-pytorch", LovaszLoss(), looped_lovasz, 0)
    yield Match("UNetPlusPlusLoss", "nnU-Net, DC_and_CE_loss", UNetPlusPlusLoss(), nnunet, 1)
    monai_sum = DiceCELoss(**softmax, smooth_nr=1, smooth_dr=1)
    yield Match("UNetPlusPlusLoss", "MONAI, DiceCELoss", UNetPlusPlusLoss(), monai_sum, 0)
    yield Match("UNetSharpLoss", "nnU-Net, DC_and_CE_loss", UNetSharpLoss(), nnunet)

    def hybrid(logits: Tensor, labels: Tensor) -> Tensor:
        return CLASSES * focal(logits, labels) + same_ms_ssim(weights, logits, labels) + jaccard(logits, labels)

    yield Match("HybridLoss", "the counterparts' sum", HybridLoss(), hybrid, even)
    yield Match("HybridLoss", "nnU-Net, DC_and_CE_loss", HybridLoss(), nnunet)


def on_maps(similarity: Loss, logits: Tensor, labels: Tensor) -> Tensor:
    """1 - similarity of the organ's probabilities and the labels."""
    return 1 - similarity(logits.softmax(1)[:, 1:], labels).mean()


def same_ms_ssim(weights: Sequence[float], logits: Tensor, labels: Tensor) -> Tensor:
    """Our MS-SSIM of pytorch-msssim's SSIM."""
    maps = logits.softmax(1)[:, 1:], labels
    pool = functional.avg_pool2d if logits.ndim == 4 else functional.avg_pool3d
    product = torch.ones((), device=logits.device)
    for scale, weight in enumerate(weights):
        if scale:
            maps = pool(maps[0], 2), pool(maps[1], 2)
        product = product * pytorch_msssim.ssim(*maps, data_range=1, size_average=False) ** weight
    return 1 - product.mean()


def looped_lovasz(logits: Tensor, labels: Tensor) -> Tensor:
    """The hinge on the organ's lead over the background."""
    return LoopedLovaszLoss("binary", per_image=True)(logits[:, 1] - logits[:, 0], labels[:, 0])


def measure_share(args: argparse.Namespace, report: Report) -> None:
    """Add the row of the hybrid loss in a training step."""
    check_size(args.size, [(stride, stride) for stride in paper_plan(WIDE)["strides"]])
    check_memory(PIXEL_BYTES * args.batch_size * args.size**2, args.device, f"--size {args.size}")
    network = unet3plus_paper(3, CLASSES).to(args.device)
    x = torch.randn(args.batch_size, 3, args.size, args.size, device=args.device)
    _, labels = example(args.batch_size, (args.size,) * 2, args.device)
    call: nn.Module = torch.compile(network, dynamic=False) if x.is_cuda else network
    with precision(x.device), torch.no_grad():
        heads = [head.requires_grad_() for head in call(x)]
    loss = DeepSupervisionLoss(HybridLoss(), equal_weights(len(heads)), full_scale=True)

    def step() -> None:
        network.zero_grad(set_to_none=True)
        with precision(x.device):
            value = loss(call(x), labels)
        value.backward()

    def loss_alone() -> None:
        torch.autograd.grad(loss(heads, labels), heads)

    times = paired_seconds(loss_alone, step, args.runs)
    report.add(
        loss="HybridLoss",
        of="unet3plus_paper's training step",
        share=median_ratio(times),
        loss_ms=1000 * median(times[0]),
        step_ms=1000 * median(times[1]),
        heads=len(heads),
        size=" x ".join(map(str, x.shape)),
    )


if __name__ == "__main__":
    sys.exit(main())
