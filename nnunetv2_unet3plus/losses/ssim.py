"""Structural similarity at one scale (Wang et al., "Image Quality Assessment", IEEE TIP 2004), for images in [0, 1].

The Gaussian window is separable, and along one axis it is a banded matrix. Filtering is therefore a matrix product an
axis, which CPUs and GPUs do faster than a depthwise convolution; on a CPU, where zeros cost time, block by block.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

WINDOW = 11
SIGMA = 1.5
C1 = 0.01**2
C2 = 0.03**2
BLOCK = 32  # rows of a window's matrix multiplied at once: the fastest of 16 to 128 for axes of 128 to 512


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
        image: (..., B, C, *spatial), values in [0, 1].
        reference: The true image, (B, C, *spatial).

    Returns:
        Mean of the SSIM map (Wang et al. 2004, eq. 13) and mean of (2 sigma_pg + C2) / (sigma_p^2 + sigma_g^2 + C2),
        each (..., B, C). Only positions where the whole window fits count; covariances are the biased (population)
        ones.
    """
    return _MeanSSIM.apply(image, reference)


class _MeanSSIM(Function):
    """`ssim` with its derivative written out: three filterings each way, and only the three filtered moments kept."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, reference: Reference) -> tuple[Tensor, Tensor]:
        moments = filter_axes(torch.stack((image, image * image, image * reference.image)), reference.windows)
        ctx.save_for_backward(image, moments)
        ctx.reference = reference
        luminance, _, contrast, _ = _factors(moments, reference)
        axes = len(reference.windows)
        return (luminance * contrast).flatten(-axes).mean(-1), contrast.flatten(-axes).mean(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of_means: Tensor) -> tuple[Tensor, None]:
        image, moments = ctx.saved_tensors
        reference = ctx.reference
        mean_p, mean_g = moments[0], reference.mean
        luminance, luminance_below, contrast, contrast_below = _factors(moments, reference)
        valid = mean_g.shape[2:]
        # What every position has of the means' derivatives, which are one number a sample and class.
        of_similarity, of_contrast = (d.view(*d.shape, *[1] * len(valid)) / valid.numel() for d in of_means)
        of_mean, of_square, of_product = gradients = torch.empty_like(moments)
        torch.mul(luminance, 2 * of_similarity, out=of_product).add_(2 * of_contrast).div_(contrast_below)
        torch.mul(of_product, contrast, out=of_square).mul_(-0.5)
        torch.sub(mean_g, luminance.mul_(mean_p), out=of_mean)
        of_mean.mul_(contrast.mul_(2 * of_similarity)).div_(luminance_below)
        of_mean.addcmul_(mean_g, of_product, value=-1).addcmul_(mean_p, of_square, value=-2)
        of_mean, of_square, of_product = filter_axes(gradients, [window.T for window in reference.windows])
        return of_mean.addcmul_(image, of_square, value=2).addcmul_(reference.image, of_product), None


def _factors(moments: Tensor, reference: Reference) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The maps of luminance, its denominator, contrast and structure in one, its denominator (Wang et al. 2004)."""
    mean_p, mean_of_square, mean_of_product = moments
    product, square = mean_p * reference.mean, mean_p * mean_p
    luminance_below = (reference.mean * reference.mean + square).add_(C1)
    contrast_below = (mean_of_square - square).add_(reference.variance).add_(C2)
    contrast = (mean_of_product - product).mul_(2).add_(C2).div_(contrast_below)
    luminance = product.mul_(2).add_(C1).div_(luminance_below)
    return luminance, luminance_below, contrast, contrast_below


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
    """Multiply every spatial axis by its matrix of `window_matrix` or its transpose, without a record for autograd.

    Args:
        maps: (..., *spatial).
        windows: One matrix an axis.
    """
    for axis, window in enumerate(windows, start=maps.ndim - len(windows)):
        leading, trailing = maps.shape[:axis], maps.shape[axis + 1 :]
        if trailing:
            maps = maps.reshape(leading.numel(), -1, trailing.numel())
            filtered = maps.new_empty(len(maps), len(window), maps.shape[2])
            for rows, columns in _blocks(window):
                block = window[rows, columns].expand(len(maps), -1, -1)
                torch.bmm(block, maps[:, columns], out=filtered[:, rows])
        else:
            maps = maps.reshape(leading.numel(), -1)
            filtered = maps.new_empty(len(maps), len(window))
            for rows, columns in _blocks(window):
                torch.mm(maps[:, columns], window[rows, columns].T, out=filtered[:, rows])
        maps = filtered.view(*leading, len(window), *trailing)
    return maps


def _blocks(window: Tensor) -> Iterator[tuple[slice, slice]]:
    """Blocks of rows of a banded matrix, each with the columns it holds.

    Row r of a window's matrix holds columns r to r + extra, where extra is how many more columns than rows there are;
    of its transpose, where extra is negative, columns r + extra to r.
    """
    rows, columns = window.shape
    extra = columns - rows
    # Small matrices are faster whole, and on a GPU calls cost more than zeros.
    size = BLOCK if rows > 3 * BLOCK and window.device.type == "cpu" else rows
    for start in range(0, rows, size):
        stop = min(start + size, rows)
        yield slice(start, stop), slice(max(start + min(extra, 0), 0), min(stop + max(extra, 0), columns))
