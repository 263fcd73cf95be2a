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

import threading
from collections.abc import Iterator
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)  # and infinity
OUTPUT_SIDE, KERNEL_SIDE = 4, 3
INPUT_SIDE = OUTPUT_SIDE + KERNEL_SIDE - 1

# What a strip of tiles is computed from and through stays in a core's cache; fewer tiles read the kernels too often.
TILES_PER_STRIP = 160
# With fewer channels the transforms, which are per channel, cost more than the products over the channels save. Of what
# goes in and what comes out the harmonic mean counts: the products grow as the product of both, the transforms as their
# sum.
LEAST_MEAN_CHANNELS = 80
# With fewer pixels for every channel the transforms of the kernels cost more than that.
LEAST_PIXELS_A_CHANNEL = 2
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
        and 2 / (1 / weight.shape[0] + 1 / weight.shape[1]) >= LEAST_MEAN_CHANNELS
        and min(height, width) >= LEAST_PIXELS_AN_AXIS
        and height * width >= LEAST_PIXELS_A_CHANNEL * max(weight.shape[:2])
        and x.is_contiguous(memory_format=torch.channels_last)
    )


@lru_cache
def minimal_filtering(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The matrices of F(4, 3), which act on each axis of a tile (Toom-Cook at `POINTS` and infinity).

    Args:
        dtype: of the result; computed in float64.

    Returns:
        Of the input ``(6, 6)``, of the kernel ``(6, 3)``, and of the output ``(4, 6)``.
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
        return of_input.to(dtype), of_kernel.T.to(dtype), of_output.to(dtype)


def _powers(points: Tensor, count: int) -> Tensor:
    return torch.stack([points**power for power in range(count)])


def _polynomial(roots: tuple[float, ...]) -> Tensor:
    """Coefficients of the product of ``(x - root)``, lowest power first."""
    coefficients = torch.ones(1, dtype=torch.float64)
    for root in roots:
        coefficients = functional.pad(coefficients, (1, 0)) - root * functional.pad(coefficients, (0, 1))
    return coefficients


class _Workspace:
    """Memory for what is computed strip by strip: used by turns, it stays in the cache.

    And it stays from call to call, some ten MB, about 80 MB for convolutions of 512 channels: fresh memory costs a page
    fault for every 4 kB, which took half the time of small maps.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        """For tensors of a type, on the CPU."""
        self._dtype = dtype
        self._buffers: dict[str, Tensor] = {}

    def tensor(self, name: str, *shape: int) -> Tensor:
        """A contiguous tensor of this shape; the next of this name overwrites it."""
        size = prod(shape)
        if name not in self._buffers or self._buffers[name].numel() < size:
            with torch.inference_mode(False):  # what prediction has made, training may use
                self._buffers[name] = torch.empty(size, dtype=self._dtype, device="cpu")
        return self._buffers[name][:size].view(shape)

    def transform(self, tiles: Tensor, matrix: Tensor, name: str) -> Tensor:
        """Multiply both axes of tiles ``(n * n, values)`` by a matrix ``(m, n)``: ``(m * m, values)``.

        One axis after the other: their Kronecker product would be one matrix product, but several times the work.
        """
        (m, n), values = matrix.shape, tiles.shape[1]
        half = self.tensor("half", n, m, values)
        torch.bmm(matrix.expand(n, m, n), tiles.view(n, n, values), out=half)
        whole = self.tensor(name, m, m * values)  # in place of the tiles, where their name is the same
        return torch.mm(matrix, half.view(n, m * values), out=whole).view(m * m, values)

    def tiles(self, image: Tensor, start: int, stop: int, side: int, name: str) -> Tensor:
        """The tiles of some rows of tiles, one every four pixels, zeros beyond the border.

        Args:
            image: of shape ``(C, H, W)``.
            start: first row of tiles.
            stop: last row of tiles, exclusive.
            side: 4 for tiles beside each other, 6 for tiles that overlap by a pixel on each side.
            name: of the memory they are written to.

        Returns:
            Of shape ``(side * side, tiles * C)``.
        """
        border, columns = (side - OUTPUT_SIDE) // 2, _tile_grid(image)[1]
        channels, height, width = image.shape
        top, bottom = start * OUTPUT_SIDE - border, stop * OUTPUT_SIDE + border
        strip = self.tensor("strip", bottom - top, columns * OUTPUT_SIDE + 2 * border, channels).zero_()
        first, last = max(top, 0), min(bottom, height)
        strip[first - top : last - top, border : border + width] = image.permute(1, 2, 0)[first:last]
        tiles = self.tensor(name, side, side, stop - start, columns, channels)
        tiles.copy_(strip.unfold(0, side, OUTPUT_SIDE).unfold(1, side, OUTPUT_SIDE).permute(3, 4, 0, 1, 2))
        return tiles.view(side * side, -1)


class _Workspaces(threading.local):
    """One a thread and type."""

    def __init__(self) -> None:
        """None yet."""
        self._of_type: dict[torch.dtype, _Workspace] = {}

    def of(self, x: Tensor) -> _Workspace:
        """For tensors like this one."""
        return self._of_type.setdefault(x.dtype, _Workspace(x.dtype))


_WORKSPACES = _Workspaces()


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


def _write(rows: Tensor, strip: Tensor, bias: Tensor | None, work: _Workspace) -> None:
    """Write rows of an image ``(h, W, O)`` from their tiles ``(rows of tiles, 4, columns, 4, O)``."""
    tiles, side, columns, _, channels = strip.shape
    if rows.shape[:2] == (tiles * side, columns * side):
        out = rows.view(strip.shape)
        out.copy_(strip) if bias is None else torch.add(strip, bias, out=out)
        return
    whole = work.tensor("half", *strip.shape).copy_(strip).view(tiles * side, columns * side, channels)
    rows.copy_(whole[: rows.shape[0], : rows.shape[1]])
    if bias is not None:
        rows += bias


@torch.library.custom_op("nnunetv2_unet3plus::winograd_conv2d", mutates_args=())
@torch.autocast("cpu", enabled=False)
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
    side, products, work = OUTPUT_SIDE, INPUT_SIDE**2, _WORKSPACES.of(x)
    out_channels, in_channels = weight.shape[:2]
    kernels = work.transform(weight.permute(2, 3, 1, 0).reshape(KERNEL_SIDE**2, -1), of_kernel, "kernels")
    kernels = kernels.view(products, in_channels, out_channels)
    shape = (x.shape[0], out_channels, *x.shape[2:])
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    image = out.permute(0, 2, 3, 1)
    for sample, start, stop in _strips(x):
        inputs = work.transform(work.tiles(x[sample], start, stop, INPUT_SIDE, "inputs"), of_input, "inputs")
        inputs = inputs.view(products, -1, in_channels)
        outputs = torch.bmm(inputs, kernels, out=work.tensor("outputs", products, inputs.shape[1], out_channels))
        strip = work.transform(outputs.view(products, -1), of_output, "outputs")
        strip = strip.view(side, side, stop - start, -1, out_channels).permute(2, 0, 3, 1, 4)
        _write(image[sample, start * side : stop * side], strip, bias, work)
    return out


@torch.library.custom_op("nnunetv2_unet3plus::winograd_weight_gradient", mutates_args=())
@torch.autocast("cpu", enabled=False)
def _weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient of the weight, `(O, C, 3, 3)`, from the input `(B, C, H, W)` and the gradient of the output."""
    of_input, of_kernel, of_output = minimal_filtering(x.dtype)
    products, in_channels, out_channels, work = INPUT_SIDE**2, x.shape[1], grad.shape[1], _WORKSPACES.of(x)
    kernels = work.tensor("kernels", products, in_channels, out_channels).zero_()
    for sample, start, stop in _strips(x):
        inputs = work.transform(work.tiles(x[sample], start, stop, INPUT_SIDE, "inputs"), of_input, "inputs")
        outputs = work.transform(work.tiles(grad[sample], start, stop, OUTPUT_SIDE, "outputs"), of_output.T, "outputs")
        kernels.baddbmm_(inputs.view(products, -1, in_channels).mT, outputs.view(products, -1, out_channels))
    weight = work.transform(kernels.view(products, -1), of_kernel.T, "outputs")
    weight = weight.view(KERNEL_SIDE, KERNEL_SIDE, in_channels, out_channels)
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


def conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolution with stride 1 and zero padding to the same size, in the Winograd form where that pays.

    Args:
        x: map of shape ``(B, C, *grid)``.
        weight: of shape ``(O, C, *kernel)``, every kernel axis odd.
        bias: of shape ``(O,)`` or None.

    Returns:
        Map of shape ``(B, O, *grid)``.
    """
    if x.ndim == 4 and winograd_pays(x, weight):
        return winograd_conv2d(x, weight, bias)
    padding = tuple(k // 2 for k in weight.shape[2:])
    return _CONV[x.ndim - 2](x, weight, bias, padding=padding)


_CONV = {2: functional.conv2d, 3: functional.conv3d}


class WideConv2d(nn.Conv2d):
    """``nn.Conv2d`` that takes its fastest form, see `conv`, where its stride and padding keep the size."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(B, C, H, W)`` to ``(B, O, H, W)``."""
        return conv(x, self.weight, self.bias) if self._keeps_the_grid() else super().forward(x)

    def _keeps_the_grid(self) -> bool:
        same, ones = tuple(k // 2 for k in self.kernel_size), (1, 1)
        usual = (self.stride, self.dilation, self.padding_mode, self.groups) == (ones, ones, "zeros", 1)
        return usual and self.padding == same


class FormatKeepingConv3d(nn.Conv3d):
    """``nn.Conv3d`` whose result has the memory format of its input.

    PyTorch's drops channels-last format where the input has a single channel, as CT has, and whatever follows would do
    without: 3 x 3 x 3 convolutions of 16 to 96 channels are 1.1 to 1.8 times as fast in it on the CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(B, C, D, H, W)`` to ``(B, O, D', H', W')``."""
        out = super().forward(x)
        return out.contiguous(memory_format=torch.channels_last_3d) if x.stride(1) == 1 else out


_FASTEST: dict[type[nn.Module], Any] = {nn.Conv2d: WideConv2d, nn.Conv3d: FormatKeepingConv3d}


def fastest_form(module: nn.Module) -> nn.Module:
    """A convolution as the class that knows its fastest form, with the same parameters; other modules as they are."""
    if type(module) not in _FASTEST:
        return module
    conv: Any = module
    with torch.device("meta"):
        fastest = _FASTEST[type(module)](
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            conv.bias is not None,
            conv.padding_mode,
        )
    fastest.weight, fastest.bias = conv.weight, conv.bias
    return fastest
