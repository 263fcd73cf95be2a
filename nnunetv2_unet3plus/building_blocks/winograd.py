"""Wide 3 x 3 convolutions on the CPU with a quarter of the multiplications: minimal filtering, F(4 x 4, 3 x 3).

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, after Winograd 1980. A tile of 6 x 6 input
pixels and a 3 x 3 kernel become 36 values each; their products, summed over the channels, become 4 x 4 output pixels.
So 36 matrix products over the channels do the work of 144. Each direction is linear in what it multiplies, hence
the gradients are made of the same three matrices.
PyTorch has this form on CUDA (cuDNN), not on the CPU.
"""

from collections.abc import Iterator
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnunetv2_unet3plus.building_blocks.cpu_loops import CHANNELS_OF_VECTOR, Loops, loops_for
from nnunetv2_unet3plus.building_blocks.kept_memory import empty_map
from nnunetv2_unet3plus.building_blocks.minimal_filtering import KERNEL_SIDE
from nnunetv2_unet3plus.building_blocks.winograd_transforms import PLANES, WORKSPACES, Workspace, tile_grid

# What a strip of tiles is computed from and through stays in the cache; fewer tiles read the kernels too often.
TILES_PER_STRIP = 256
# With fewer channels the transforms, which are per channel, cost more than the products over the channels save. Of what
# goes in and what comes out the harmonic mean counts: the products grow as the product of both, the transforms as their
# sum. The compiled loops transform for less: they are faster for any channels they take.
LEAST_MEAN_CHANNELS = 80
# With fewer pixels for every channel the transforms of the kernels cost more than that. PyTorch's matrix products are
# the better ones where the kernels are much larger than what a core has to do with them.
LEAST_PIXELS_A_CHANNEL, LEAST_PIXELS_A_CHANNEL_COMPILED = 2, 8
# Along a short axis most of a row of tiles is padding.
LEAST_PIXELS_AN_AXIS = 16
# The compiled loops work through blocks of tiles. The fewer tiles, the better their planes stay in the cache; the more
# channels, the more tiles must share the kernels, which grow as the square of the channels. Fastest of those tried: 24
# tiles for 128 channels, some 100 for 320.
LEAST_TILES_PER_BLOCK = 24
TILES_AT_ONCE = 4  # else the last ones take as long as so many


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
        and min(height, width) >= LEAST_PIXELS_AN_AXIS
        and height * width >= LEAST_PIXELS_A_CHANNEL * max(weight.shape[:2])
        and x.is_contiguous(memory_format=torch.channels_last)
        and (_mean_channels(*weight.shape[:2]) >= LEAST_MEAN_CHANNELS or _may_be_compiled(x, weight))
    )


def _may_be_compiled(x: Tensor, weight: Tensor) -> bool:
    if torch.compiler.is_compiling():  # it cannot look for a compiler
        return False
    return _loops_for(len(weight), x, weight) is not None


def _mean_channels(in_channels: int, out_channels: int) -> float:
    return 2 / (1 / in_channels + 1 / out_channels)


def _loops_for(out_channels: int, x: Tensor, other: Tensor) -> Loops | None:
    """The compiled loops, where they apply: to whole vectors of channels, and large maps.

    Args:
        out_channels: of the result.
        x: map of shape ``(B, C, H, W)``.
        other: what multiplies it, the weight or the result's gradient.
    """
    channels = (x.shape[1], out_channels)
    whole = all(count % CHANNELS_OF_VECTOR == 0 for count in channels)
    large = x.shape[2] * x.shape[3] >= LEAST_PIXELS_A_CHANNEL_COMPILED * max(channels)
    return loops_for(x, other) if whole and large else None


def _block(image: Tensor, work: Workspace, out_channels: int) -> tuple[int, Tensor]:
    """Tiles of a block of the compiled loops, and their memory.

    Args:
        image: of shape ``(H, W, C)``; its blocks are shared out evenly.
        work: where the memory is from.
        out_channels: of the result.
    """
    (rows, columns), in_channels, threads = tile_grid(image), image.shape[2], torch.get_num_threads()
    channels = _mean_channels(in_channels, out_channels)
    wanted = max(LEAST_TILES_PER_BLOCK, min(channels**2 / 1000, channels / 3))
    rounds = ceil(rows * columns / (wanted * threads))
    tiles = ceil(rows * columns / (rounds * threads * TILES_AT_ONCE)) * TILES_AT_ONCE
    values = PLANES * (tiles * (in_channels + out_channels) + 2 * CHANNELS_OF_VECTOR)
    return tiles, work.tensor("blocks", threads, values)


def _strips(image: Tensor) -> Iterator[tuple[int, int]]:
    """First and last (exclusive) row of tiles of every strip of an image ``(H, W, C)``."""
    rows, columns = tile_grid(image)
    step = max(1, TILES_PER_STRIP // columns)
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def _kernels(x: Tensor, weight: Tensor, turned: bool, work: Workspace, in_panels: bool) -> Tensor:
    """The transform of kernels: ``(36, C, O)``, maybe in panels, as the compiled loops read it.

    Args:
        x: what they convolve.
        weight: of shape ``(O, C, 3, 3)``; if turned, ``(C, O, 3, 3)``.
        turned: by half a circle.
        work: where the memory is from.
        in_panels: see cpu_loops.c.
    """
    weight = weight.transpose(0, 1) if turned else weight
    out_channels, in_channels = weight.shape[:2]
    loops = loops_for(x, weight)
    if loops is None:
        taps = (weight.flip(2, 3) if turned else weight).permute(2, 3, 1, 0).reshape(KERNEL_SIDE**2, -1)
        return work.transform(taps, work.of_kernel, "kernels").view(PLANES, in_channels, out_channels)
    kernels = work.tensor("kernels", PLANES, in_channels, out_channels)
    loops.winograd_kernels(weight, *weight.stride(), turned, in_channels, out_channels, in_panels, kernels)
    return kernels


def _images(x: Tensor) -> Tensor:
    """``(B, C, H, W)`` as ``(B, H, W, C)``, contiguous."""
    return x.permute(0, 2, 3, 1).contiguous()


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
    return _convolve(x, weight, bias, turned=False)


@torch.library.custom_op("nnunetv2_unet3plus::winograd_input_gradient", mutates_args=())
@torch.autocast("cpu", enabled=False)
def _input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient of the input, `(B, C, H, W)`, from that of the output, `(B, O, H, W)`."""
    return _convolve(grad, weight, None, turned=True)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, turned: bool) -> Tensor:
    """Convolve with ``weight``, or with ``weight.transpose(0, 1).flip(2, 3)``."""
    work, out_channels = WORKSPACES.of(x), weight.shape[1 if turned else 0]
    loops = _loops_for(out_channels, x, weight)
    bias = None if bias is None else bias.to(x.dtype).contiguous()
    kernels = _kernels(x, weight, turned, work, in_panels=loops is not None)
    out = empty_map((x.shape[0], out_channels, *x.shape[2:]), x, memory_format=torch.channels_last)
    for image, result in zip(_images(x), out.permute(0, 2, 3, 1), strict=True):
        if loops is not None:
            block = _block(image, work, out_channels)
            loops.winograd_conv(image, *image.shape, kernels, bias, result, out_channels, *block)
            continue
        for start, stop in _strips(image):
            inputs = work.input_planes(image, start, stop)
            outputs = work.tensor("outputs", PLANES, inputs.shape[1], out_channels)
            work.write_pixels(torch.bmm(inputs, kernels, out=outputs), result, start, stop, bias)
    return out


@torch.library.custom_op("nnunetv2_unet3plus::winograd_weight_gradient", mutates_args=())
@torch.autocast("cpu", enabled=False)
def _weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient of the weight, `(O, C, 3, 3)`, from the input `(B, C, H, W)` and the gradient of the output."""
    work, in_channels, out_channels = WORKSPACES.of(x), x.shape[1], grad.shape[1]
    loops = _loops_for(out_channels, x, grad)
    in_panels, parts = (False, 1) if loops is None else (True, torch.get_num_threads())
    kernels = work.tensor("kernels", parts, PLANES, in_channels, out_channels).zero_()
    for image, of_output in zip(_images(x), _images(grad), strict=True):
        if loops is not None:
            block = _block(image, work, out_channels)
            loops.winograd_kernel_gradient(image, *image.shape, of_output, out_channels, kernels, *block)
            continue
        for start, stop in _strips(image):
            inputs, outputs = work.input_planes(image, start, stop), work.gradient_planes(of_output, start, stop)
            kernels[0].baddbmm_(inputs.mT, outputs)
    if (loops := loops_for(x, grad)) is not None:
        of_weight = x.new_empty(out_channels, in_channels, KERNEL_SIDE, KERNEL_SIDE)
        loops.winograd_kernels_adjoint(kernels, parts, in_panels, in_channels, out_channels, of_weight)
        return of_weight
    weight = work.transform(kernels[0].view(PLANES, -1), work.of_kernel.T, "outputs")
    weight = weight.view(KERNEL_SIDE, KERNEL_SIDE, in_channels, out_channels)
    return weight.permute(3, 2, 0, 1).clone(memory_format=torch.contiguous_format)  # no part of the memory


@winograd_conv2d.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], *x.shape[2:], weight.shape[0]).permute(0, 3, 1, 2)


@_input_gradient.register_fake
def _(grad: Tensor, weight: Tensor) -> Tensor:
    return grad.new_empty(grad.shape[0], *grad.shape[2:], weight.shape[1]).permute(0, 3, 1, 2)


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
        _input_gradient(grad, weight) if of_x else None,
        _weight_gradient(x, grad) if of_weight else None,
        grad.sum((0, 2, 3)) if of_bias else None,
    )


def _remember_gradient(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward_of_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of gradients, for losses that hold some: the roles of input and output are exchanged."""
    of_output, weight = ctx.saved_tensors
    of_of_output, of_weight = ctx.needs_input_grad
    return (
        winograd_conv2d(grad, weight, None) if of_of_output else None,
        _weight_gradient(grad, of_output) if of_weight else None,
    )


winograd_conv2d.register_autograd(_backward, setup_context=_remember)
_input_gradient.register_autograd(_backward_of_gradient, setup_context=_remember_gradient)


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
