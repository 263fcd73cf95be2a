"""Multi-scale structural similarity loss (UNet 3+, eq. 4; Wang et al., Asilomar 2003)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .base import Prediction, SegmentationLoss
from .ssim import WINDOW, Reference, make_reference, ssim
from .target import SegmentationTarget

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, section 3.2
SMALL = 1e-2


class MSSSIMLoss(SegmentationLoss):
    """1 - product over scales of SSIM^weight, on the probability maps of the foreground (UNet 3+, eq. 4).

    Luminance and contrast enter at every scale, as the paper's product says (Wang et al. take luminance at the coarsest
    alone). One value per sample and class, then their mean. Ignored voxels are 0 in both maps.

    The longest axis decides the number of scales: as many of the five as leave it at least 11 voxels, with their
    weights rescaled to sum to 1. Shorter axes get shorter windows, down to one voxel.
    """

    def compute(self, prediction: Prediction, target: SegmentationTarget) -> Tensor:
        """See `SegmentationLoss`."""
        pyramid = target.remember(MSSSIMLoss, lambda: make_pyramid(target.foreground))
        image = prediction.foreground
        similarities = [ssim(image, pyramid[0])[0]]
        for reference in pyramid[1:]:
            heads, size = image.shape[: target.channels - 1], reference.image.shape
            image = halve(image.reshape(-1, *image.shape[target.channels :])).view(*heads, *size)
            similarities.append(ssim(image, reference)[0])
        return 1 - weighted_product(similarities).mean((-2, -1))


def make_pyramid(foreground: Tensor) -> list[Reference]:
    """The true maps and their statistics, from full size to coarsest.

    Args:
        foreground: Binary maps, (B, C, *spatial).
    """
    with torch.no_grad():
        pyramid = [make_reference(foreground, binary=True)]
        for _ in range(1, number_of_scales(foreground.shape[2:])):
            pyramid.append(make_reference(halve(pyramid[-1].image), binary=False))
    return pyramid


def number_of_scales(spatial: Sequence[int]) -> int:
    """How many of the five scales leave the longest axis as long as the window."""
    longest, scales = max(spatial), 1
    while scales < len(SCALE_WEIGHTS) and (longest := -(-longest // 2)) >= WINDOW:
        scales += 1
    return scales


def halve(maps: Tensor) -> Tensor:
    """Average pooling by 2 on every axis longer than one voxel.

    The last row of an odd axis becomes a row of its own, unmixed with padding: (B, C, *spatial) -> ceil(spatial / 2).
    """
    pool = functional.avg_pool2d if maps.ndim == 4 else functional.avg_pool3d
    kernel = [min(2, length) for length in maps.shape[2:]]
    return pool(maps, kernel, ceil_mode=True, count_include_pad=False)


def weighted_product(similarities: Sequence[Tensor]) -> Tensor:
    """Product of positive stand-ins of the similarities to the power of their scale's weight, (B, C)."""
    weights = SCALE_WEIGHTS[: len(similarities)]
    total = sum(weights)
    logs = [weight / total * torch.log(positive(x)) for weight, x in zip(weights, similarities, strict=True)]
    return torch.stack(logs).sum(0).exp()


def positive(similarity: Tensor) -> Tensor:
    """The similarity where it is at least `SMALL`, below that SMALL^2 / (2 SMALL - x).

    Mean SSIM can be negative, where a fractional power is undefined and clipping would end the gradient. The rational
    piece is positive and increasing everywhere and meets the identity with equal value and slope.
    """
    tail = SMALL**2 / (2 * SMALL - similarity.clamp(max=SMALL))
    return torch.where(similarity < SMALL, tail, similarity)
