"""Structural similarity at one scale (Wang et al., "Image Quality Assessment", IEEE TIP 2004), for images in [0, 1].

The Gaussian window is separable, and along one axis it is a banded matrix. Filtering is therefore one matrix product an
axis, which CPUs and GPUs do faster than a depthwise convolution and which keeps nothing for the backward pass.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

WINDOW = 11
SIGMA = 1.5
C1 = 0.01**2
C2 = 0.03**2


class Reference(NamedTuple):
    """The true image at one scale and all that SSIM needs of it.

    Attributes:
        image: (B, C, *spatial).
        mean: Local mean, (B, C, *valid), where valid is spatial less the border the window does not fit in.
        variance: Local variance, (B, C, *valid).
        windows: The filter, one matrix an axis.
    """

    image: Tensor
    mean: Tensor
    variance: Tensor
    windows: tuple[Tensor, ...]


def make_reference(image: Tensor, *, binary: bool) -> Reference:
    """Compute the true image's local statistics.

    Args:
        image: (B, C, *spatial), values in [0, 1].
        binary: The image holds only 0 and 1, so that its square need not be filtered: E[g^2] = E[g].
    """
    windows = tuple(window_matrix(length, image.device, image.dtype) for length in image.shape[2:])
    mean = filter_axes(image, windows)
    mean_of_square = mean if binary else filter_axes(image * image, windows)
    return Reference(image, mean, mean_of_square - mean * mean, windows)


def ssim(image: Tensor, reference: Reference) -> tuple[Tensor, Tensor]:
    """Mean structural similarity, and its contrast-structure factor alone.

    Args:
        image: (B, C, *spatial), values in [0, 1].
        reference: The true image of the same shape.

    Returns:
        Mean of the SSIM map (Wang et al. 2004, eq. 13) and mean of (2 sigma_pg + C2) / (sigma_p^2 + sigma_g^2 + C2),
        each (B, C). Only positions where the whole window fits count; covariances are the biased (population) ones.
    """
    moments = torch.stack((image, image * image, image * reference.image))
    mean, mean_of_square, mean_of_product = filter_axes(moments, reference.windows).unbind()
    # Recomputing the maps in the backward pass costs a few elementwise operations and saves most of the loss's memory.
    return checkpoint(
        _ssim_means,
        mean,
        mean_of_square,
        mean_of_product,
        reference.mean,
        reference.variance,
        use_reentrant=False,
        preserve_rng_state=False,
    )


def _ssim_means(
    mean_p: Tensor, mean_pp: Tensor, mean_pg: Tensor, mean_g: Tensor, variance_g: Tensor
) -> tuple[Tensor, Tensor]:
    product, square = mean_p * mean_g, mean_p * mean_p
    luminance = (2 * product + C1) / (square + mean_g * mean_g + C1)
    contrast = (2 * (mean_pg - product) + C2) / (mean_pp - square + variance_g + C2)
    return (luminance * contrast).flatten(2).mean(2), contrast.flatten(2).mean(2)


@lru_cache(maxsize=256)
def window_matrix(length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The Gaussian window sliding along an axis, without padding, as a matrix.

    An axis shorter than the window gets the largest odd window that fits.

    Returns:
        (length - window + 1, length); every row sums to 1.
    """
    window = min(WINDOW, length - 1 + length % 2)
    with torch.inference_mode(False):  # it is kept: a matrix first asked for in inference must still serve in training
        offset = torch.arange(window, dtype=torch.float64) - window // 2
        weight = torch.exp(-(offset**2) / (2 * SIGMA**2))
        positions = length - window + 1
        column = torch.arange(positions)[:, None] + torch.arange(window)
        matrix = torch.zeros(positions, length, dtype=torch.float64)
        return matrix.scatter_(1, column, (weight / weight.sum()).expand(positions, window)).to(device, dtype)


def filter_axes(maps: Tensor, windows: Sequence[Tensor]) -> Tensor:
    """Multiply every spatial axis (the last `len(windows)` ones) by its matrix."""
    for axis, window in enumerate(windows, start=maps.ndim - len(windows)):
        trailing = maps.shape[axis + 1 :]
        maps = (window @ maps.flatten(axis + 1)).unflatten(-1, trailing) if trailing else maps @ window.T
    return maps
