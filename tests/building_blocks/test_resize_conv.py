"""resize_conv is conv(interpolate(x)): same values, borders included, same gradients, same state dict."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnunetv2_unet3plus.building_blocks import resize_conv as module
from nnunetv2_unet3plus.building_blocks.resize_conv import (
    ResizeConv2d,
    ResizeConv3d,
    matching_concat_conv,
    matching_resize_conv,
    resize,
    resize_conv,
)

CASES = [
    # coarse grid, fine grid, kernel
    ((5, 7), (10, 14), (3, 3)),
    ((8, 8), (64, 64), (3, 3)),
    ((1, 1), (16, 16), (3, 3)),  # one coarse row: a constant, but for the borders
    ((1, 3), (2, 48), (3, 1)),
    ((5, 7), (13, 7), (3, 3)),  # fractional ratio; one axis as it is
    ((20, 33), (161, 264), (3, 1)),  # odd sizes, several blocks
    ((33, 20), (264, 161), (1, 1)),
    ((40, 40), (120, 81), (1, 3)),
    ((12, 10), (5, 20), (3, 3)),  # one axis gets smaller
    ((4, 5, 6), (8, 10, 12), (3, 3, 3)),
    ((4, 5, 6), (4, 10, 24), (1, 3, 3)),  # anisotropic: the first axis has neither taps nor stride
    ((4, 5, 6), (4, 10, 24), (3, 3, 3)),
    ((3, 17, 9), (7, 40, 36), (3, 1, 3)),
]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def plain_form(x, weight, bias, size):
    dims = len(size)
    x = functional.interpolate(x, size=size, mode={2: "bilinear", 3: "trilinear"}[dims], align_corners=False)
    conv = {2: functional.conv2d, 3: functional.conv3d}[dims]
    return conv(x, weight, bias, padding=[k // 2 for k in weight.shape[2:]])


def inputs(grid, kernel, dtype=torch.float64, in_channels=12, out_channels=3, requires_grad=False):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, in_channels, *grid, generator=generator, dtype=torch.float64)
    weight = torch.randn(out_channels, in_channels, *kernel, generator=generator, dtype=torch.float64)
    bias = torch.randn(out_channels, generator=generator, dtype=torch.float64)
    weight = weight / (in_channels * torch.tensor(kernel).prod()) ** 0.5
    return [t.to(dtype).requires_grad_(requires_grad) for t in (x, weight, bias)]


@pytest.fixture
def coarse_form_only(monkeypatch):
    """Take the coarse form whatever it costs, so that it is tested on grids where it does not pay."""
    monkeypatch.setattr(module, "_work_coarse", lambda *_: 0)


@pytest.mark.usefixtures("coarse_form_only")
class TestCoarseForm:
    @pytest.mark.parametrize("dtype", TOLERANCE)
    @pytest.mark.parametrize(("grid", "size", "kernel"), CASES)
    def test_equals_conv_of_interpolated_map(self, grid, size, kernel, dtype):
        x, weight, bias = inputs(grid, kernel, dtype)
        difference = resize_conv(x, weight, bias, size) - plain_form(x, weight, bias, size)
        assert difference.abs().max() < TOLERANCE[dtype]

    @pytest.mark.parametrize(("grid", "size", "kernel"), CASES)
    def test_gradients_equal_those_of_plain_form(self, grid, size, kernel):
        tensors = inputs(grid, kernel, requires_grad=True)
        seed = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        ours = torch.autograd.grad((resize_conv(*tensors, size) * seed).sum(), tensors)
        plain = torch.autograd.grad((plain_form(*tensors, size) * seed).sum(), tensors)
        for a, b in zip(ours, plain, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize(("grid", "size", "kernel"), CASES)
    def test_memory_format_is_kept_with_the_same_values_and_gradients(self, grid, size, kernel):
        memory_format = {2: torch.channels_last, 3: torch.channels_last_3d}[len(grid)]
        tensors = inputs(grid, kernel, requires_grad=True)
        last = [t.detach().clone().requires_grad_() for t in tensors]
        plain = resize_conv(*tensors, size)
        ours = resize_conv(last[0].to(memory_format=memory_format), *last[1:], size)
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)
        assert ours.is_contiguous(memory_format=memory_format)
        seed = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        for a, b in zip(
            torch.autograd.grad((ours * seed).sum(), last),
            torch.autograd.grad((plain * seed).sum(), tensors),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize(("grid", "size", "kernel"), [CASES[0], CASES[4], CASES[10]])
    def test_gradcheck(self, grid, size, kernel):
        tensors = inputs(grid, kernel, in_channels=2, out_channels=2, requires_grad=True)
        assert torch.autograd.gradcheck(lambda *t: resize_conv(*t, size), tensors)

    def test_large_grid_in_many_blocks(self):
        x, weight, bias = inputs((130, 70), (3, 3), torch.float32)
        size = (260, 560)
        torch.testing.assert_close(
            resize_conv(x, weight, bias, size), plain_form(x, weight, bias, size), rtol=0, atol=1e-5
        )

    def test_stores_no_upsampled_map(self):
        x, weight, bias = inputs((8, 8), (3, 3), torch.float32, requires_grad=True)
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
            resize_conv(x, weight, bias, (64, 64))
        assert max(saved) <= x.numel()

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_autocast_is_as_exact_as_the_plain_form(self, dtype):
        x, weight, bias = inputs((10, 12), (3, 3), torch.float32, in_channels=64, requires_grad=True)
        size = (30, 48)
        exact = plain_form(x, weight, bias, size)
        with torch.autocast("cpu", dtype=dtype):
            ours, plain = resize_conv(x, weight, bias, size), plain_form(x, weight, bias, size)
        assert ours.dtype == dtype
        error, error_of_plain = ((y.float() - exact).square().mean().sqrt().item() for y in (ours, plain))
        assert error < 2 * error_of_plain
        ours.float().square().sum().backward()
        assert all(t.grad.isfinite().all() and t.grad.abs().sum() > 0 for t in (x, weight, bias))


def test_form_is_chosen_by_work(monkeypatch):
    calls = []
    original = module.mix_channels
    monkeypatch.setattr(module, "mix_channels", lambda *a: calls.append(1) or original(*a))
    x, weight, bias = inputs((32, 32), (3, 3), torch.float32, in_channels=64, out_channels=8)
    resize_conv(x, weight, bias, (64, 64))
    assert calls == [1]
    resize_conv(x, weight, bias, (24, 24))  # fewer fine voxels than coarse ones: nothing to gain
    resize_conv(x, weight, bias, (32, 32))
    assert calls == [1]


@pytest.mark.parametrize("kernel", [(3, 3), (1, 3), (3, 3, 3)])
def test_few_outputs_without_resizing_are_a_plain_conv(kernel, monkeypatch):
    calls = []
    original = module.interpolate_taps
    monkeypatch.setattr(module, "interpolate_taps", lambda *a, **k: calls.append(1) or original(*a, **k))
    grid = (20, 37, 9)[: len(kernel)]
    tensors = inputs(grid, kernel, in_channels=81, requires_grad=True)
    ours, plain = resize_conv(*tensors, grid), plain_form(*tensors, grid)
    assert calls == [1]
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)
    for a, b in zip(
        torch.autograd.grad(ours.square().sum(), tensors),
        torch.autograd.grad(plain.square().sum(), tensors),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_one_tap_without_resizing_is_a_plain_conv():
    tensors = inputs((5, 6), (1, 1), in_channels=32)
    torch.testing.assert_close(resize_conv(*tensors, (5, 6)), plain_form(*tensors, (5, 6)))


@pytest.mark.parametrize(
    ("dims", "grids"), [(2, [(8, 9), (8, 9), (4, 5), (2, 3), (8, 9)]), (3, [(4, 8, 6), (4, 4, 3)]), (2, [(8, 9)])]
)
def test_conv_of_a_concatenation(dims, grids):
    conv_op = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    generator = torch.Generator().manual_seed(0)
    maps = [
        torch.randn(2, 3 + k, *grid, generator=generator, dtype=torch.float64, requires_grad=True)
        for k, grid in enumerate(grids)
    ]
    conv = matching_concat_conv(conv_op)(sum(x.shape[1] for x in maps), 4, 3, padding=1).double()
    plain = conv_op(conv.in_channels, 4, 3, padding=1).double()
    plain.load_state_dict(conv.state_dict(), strict=True)
    resized = [resize(x, grids[0]) for x in maps]
    expected = plain(torch.cat(resized, dim=1))
    ours = conv(maps if len(maps) > 1 else maps[0])
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    seed = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, [*maps, *conv.parameters()], seed),
        torch.autograd.grad(expected, [*maps, *plain.parameters()], seed),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("resize_op", "conv_op", "kernel"), [(ResizeConv2d, nn.Conv2d, (3, 1)), (ResizeConv3d, nn.Conv3d, (1, 3, 3))]
)
@pytest.mark.parametrize("bias", [True, False])
def test_module_has_the_state_dict_of_a_conv(resize_op, conv_op, kernel, bias):
    plain = conv_op(8, 4, kernel, padding=[k // 2 for k in kernel], bias=bias)
    ours = resize_op(8, 4, kernel, bias=bias)
    ours.load_state_dict(plain.state_dict(), strict=True)
    x = torch.randn(1, 8, *[5] * len(kernel))
    size = [15] * len(kernel)
    expected = plain_form(x, plain.weight, plain.bias, size)
    torch.testing.assert_close(ours(x, size), expected, rtol=0, atol=1e-5)
    assert matching_resize_conv(conv_op) is resize_op
    assert isinstance(ours, conv_op)  # weight initialisation asks for it


def test_unknown_kernel_is_refused_at_construction():
    with pytest.raises(ValueError, match=r"kernels of 1 or 3 along each axis, not \(5, 3\)"):
        ResizeConv2d(4, 4, (5, 3))


def test_unknown_conv_op_is_refused():
    with pytest.raises(ValueError, match="Conv2d or"):
        matching_resize_conv(nn.Conv1d)
