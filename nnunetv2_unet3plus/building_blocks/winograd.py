"""Wide 3 x 3 convolutions on the CPU with a quarter of the multiplications: minimal filtering, F(4 x 4, 3 x 3).

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, after Winograd 1980. A tile of 6 x 6 input
pixels and a 3 x 3 kernel become 36 values each; their products, summed over the channels, become 4 x 4 output pixels.
So 36 matrix products over the channels do the work of 144. Each direction is linear in what it multiplies, hence
the gradients are made of the same three matrices.

The interpolation points decide the accuracy. With those used here the root mean square error is about ten float32
roundings of the result's spread, half that of the usual points 0, 1, -1, 2, -2; PyTorch's own convolution has two to
ten, depending on memory format and direction.
PyTorch has this form on CUDA (cuDNN), not on the CPU.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)  # and infinity
OUTPUT_SIDE, KERNEL_SIDE = 4, 3
INPUT_SIDE = OUTPUT_SIDE + KERNEL_SIDE - 1

# What a strip of tiles is computed from and through stays in a core's cache; fewer tiles read the kernels too often.
TILES_PER_STRIP = 160
# With fewer channels the transforms, which are per channel, cost more than the products over the channels save.
LEAST_CHANNELS = 128
# Along a short axis most of a row of tiles is padding.
LEAST_PIXELS_AN_AXIS = 16


def winograd_pays(x: Tensor, weight: Tensor) -> bool:
    """Whether `winograd_conv2d` is the faster form, and allowed: float32, on the CPU, in channels-last format.

    Args:
        x: map of shape ``(B, C, H, W)``.
        weight: of shape ``(O, C, kh, kw)``; stride 1 and zero padding to the same size are the caller's business.
    """
    height, width = x.shape[2:]
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and tuple(weight.shape[2:]) == (KERNEL_SIDE, KERNEL_SIDE)
        and x.shape[1] == weight.shape[1]
        and min(weight.shape[:2]) >= LEAST_CHANNELS
        and min(height, width) >= LEAST_PIXELS_AN_AXIS
        and height * width >= OUTPUT_SIDE**2 * max(weight.shape[:2])  # else the transforms of the kernels dominate
        and x.is_contiguous(memory_format=torch.channels_last)
    )


@lru_cache
def minimal_filtering(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The matrices of F(4 x 4, 3 x 3), which act on flattened tiles (Toom-Cook at `POINTS` and infinity).

    Args:
        dtype: of the result; computed in float64.

    Returns:
        Of the input tile ``(36, 36)``, of the kernel ``(36, 9)``, and of the output tile ``(16, 36)``.
    """
    # what prediction has made, training may use, and what a network on another device has made, one on the CPU
    with torch.inference_mode(False), torch.device("cpu"):
        points = torch.tensor(POINTS, dtype=torch.float64)
        apart = points[:, None] - points + torch.eye(len(points), dtype=torch.float64)
        of_input = torch.zeros(INPUT_SIDE, INPUT_SIDE, dtype=torch.float64)
        for row in range(len(POINTS)):
            of_input[row, :-1] = _polynomial(POINTS[:row] + POINTS[row + 1 :])
        of_input[-1] = _polynomial(POINTS)
        of_kernel = functional.pad(_powers(points, KERNEL_SIDE) / apart.prod(1), (0, 1))
        of_output = functional.pad(_powers(points, OUTPUT_SIDE), (0, 1))
        of_kernel[-1, -1] = of_output[-1, -1] = 1  # infinity sees the highest power alone
        return tuple(torch.kron(m, m).to(dtype) for m in (of_input, of_kernel.T, of_output))  # type: ignore[return-value]


def _powers(points: Tensor, count: int) -> Tensor:
    return torch.stack([points**power for power in range(count)])


def _polynomial(roots: tuple[float, ...]) -> Tensor:
    """Coefficients of the product of ``(x - root)``, lowest power first."""
    coefficients = torch.ones(1, dtype=torch.float64)
    for root in roots:
        coefficients = functional.pad(coefficients, (1, 0)) - root * functional.pad(coefficients, (0, 1))
    return coefficients


def _tile_grid(x: Tensor) -> tuple[int, int]:
    """Tiles along the last two axes."""
    return -(-x.shape[-2] // OUTPUT_SIDE), -(-x.shape[-1] // OUTPUT_SIDE)


def _strips(x: Tensor) -> Iterator[tuple[int, int, int]]:
    """Sample, first and last (exclusive) row of tiles of every strip."""
    rows, columns = _tile_grid(x)
    step = max(1, TILES_PER_STRIP // columns)
    for sample in range(x.shape[0]):
        for start in range(0, rows, step):
            yield sample, start, min(start + step, rows)


def _tiles(image: Tensor, start: int, stop: int, side: int) -> Tensor:
    """The tiles of some rows of tiles, one every four pixels, zeros beyond the border.

    Args:
        image: of shape ``(C, H, W)``.
        start: first row of tiles.
        stop: last row of tiles, exclusive.
        side: 4 for tiles beside each other, 6 for tiles that overlap by a pixel on each side.

    Returns:
        Of shape ``(side * side, tiles * C)``.
    """
    border = (side - OUTPUT_SIDE) // 2
    height, width = image.shape[1:]
    top, bottom = start * OUTPUT_SIDE - border, stop * OUTPUT_SIDE + border
    right = _tile_grid(image)[1] * OUTPUT_SIDE + border - width
    strip = image.permute(1, 2, 0)[max(top, 0) : bottom]
    strip = functional.pad(strip, (0, 0, border, right, max(-top, 0), max(bottom - height, 0)))
    tiles = strip.unfold(0, side, OUTPUT_SIDE).unfold(1, side, OUTPUT_SIDE)
    return tiles.permute(3, 4, 0, 1, 2).reshape(side * side, -1)


def _without_autocast() -> torch.autocast:
    """Both operators compute in the type they are given; autocast may cover a backward whose forward it did not."""
    return torch.autocast("cpu", enabled=False)


@torch.library.custom_op("nnunetv2_unet3plus::winograd_conv2d", mutates_args=())
@_without_autocast()
def winograd_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`conv2d(x, weight, bias, padding=1)`.

    Args:
        x: map of shape `(B, C, H, W)`.
        weight: of shape `(O, C, 3, 3)`.
        bias: of shape `(O,)` or None.

    Returns:
        Map of shape `(B, O, H, W)` in channels-last format.
    """
    of_input, of_kernel, of_output = minimal_filtering(x.dtype)
    products, side = len(of_input), OUTPUT_SIDE
    out_channels, in_channels = weight.shape[:2]
    kernels = of_kernel @ weight.permute(2, 3, 1, 0).reshape(len(of_kernel.T), -1)
    kernels = kernels.view(products, in_channels, out_channels)
    out = x.new_empty(x.shape[0], *x.shape[2:], out_channels)
    for sample, start, stop in _strips(x):
        tiles = of_input @ _tiles(x[sample], start, stop, INPUT_SIDE)
        tiles = torch.bmm(tiles.view(products, -1, in_channels), kernels)
        tiles = (of_output @ tiles.view(products, -1)).view(side, side, stop - start, -1, out_channels)
        strip = tiles.permute(2, 0, 3, 1, 4).flatten(2, 3).flatten(0, 1)
        rows = out[sample, start * side : stop * side]
        rows.copy_(strip[: rows.shape[0], : rows.shape[1]])
        if bias is not None:
            rows += bias
    return out.permute(0, 3, 1, 2)


@torch.library.custom_op("nnunetv2_unet3plus::winograd_weight_gradient", mutates_args=())
@_without_autocast()
def _weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient of the weight, `(O, C, 3, 3)`, from the input `(B, C, H, W)` and the gradient of the output."""
    of_input, of_kernel, of_output = minimal_filtering(x.dtype)
    products, in_channels, out_channels = len(of_input), x.shape[1], grad.shape[1]
    kernels = x.new_zeros(products, in_channels, out_channels)
    for sample, start, stop in _strips(x):
        inputs = (of_input @ _tiles(x[sample], start, stop, INPUT_SIDE)).view(products, -1, in_channels)
        outputs = of_output.T @ _tiles(grad[sample], start, stop, OUTPUT_SIDE)
        kernels.baddbmm_(inputs.mT, outputs.view(products, -1, out_channels))
    weight = (of_kernel.T @ kernels.view(products, -1)).view(KERNEL_SIDE, KERNEL_SIDE, in_channels, out_channels)
    return weight.permute(3, 2, 0, 1).contiguous()


@winograd_conv2d.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], *x.shape[2:], weight.shape[0]).permute(0, 3, 1, 2)


@_weight_gradient.register_fake
def _(x: Tensor, grad: Tensor) -> Tensor:
    return x.new_empty(grad.shape[1], x.shape[1], KERNEL_SIDE, KERNEL_SIDE)


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    x, weight, _ = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    x, weight = ctx.saved_tensors
    of_x, of_weight, of_bias = ctx.needs_input_grad
    return (
        winograd_conv2d(grad, weight.transpose(0, 1).flip(2, 3), None) if of_x else None,
        _weight_gradient(x, grad) if of_weight else None,
        grad.sum((0, 2, 3)) if of_bias else None,
    )


winograd_conv2d.register_autograd(_backward, setup_context=_remember)


class WideConv2d(nn.Conv2d):
    """``nn.Conv2d`` that takes the Winograd form where its stride and padding allow it and that pays."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(B, C, H, W)`` to ``(B, O, H, W)``."""
        if self._keeps_the_grid() and winograd_pays(x, self.weight):
            return winograd_conv2d(x, self.weight, self.bias)
        return super().forward(x)

    def _keeps_the_grid(self) -> bool:
        ones = (1, 1)
        return self.stride == self.padding == self.dilation == ones and self.padding_mode == "zeros"


def wide_conv(conv_op: type[nn.Module]) -> type[nn.Module]:
    """The class for wide convolutions: in 3D PyTorch's own."""
    return WideConv2d if conv_op is nn.Conv2d else conv_op
