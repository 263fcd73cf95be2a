"""The Winograd form is conv2d: same values, borders included, same gradients, and as accurate in single precision."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnunetv2_unet3plus.building_blocks import cpu_loops
from nnunetv2_unet3plus.building_blocks import winograd as module
from nnunetv2_unet3plus.building_blocks.minimal_filtering import minimal_filtering
from nnunetv2_unet3plus.building_blocks.winograd import (
    WideConv2d,
    conv,
    fastest_form,
    winograd_conv2d,
    winograd_pays,
)

SIZES = [(4, 4), (1, 1), (3, 5), (8, 12), (13, 22), (17, 3), (40, 9)]  # whole tiles, and incomplete ones


def tensors(size, batch=2, in_channels=5, out_channels=3, dtype=torch.float64, requires_grad=False):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, in_channels, *size, generator=generator, dtype=torch.float64)
    weight = torch.randn(out_channels, in_channels, 3, 3, generator=generator, dtype=torch.float64)
    bias = torch.randn(out_channels, generator=generator, dtype=torch.float64)
    return [t.to(dtype).requires_grad_(requires_grad) for t in (x, weight / (9 * in_channels) ** 0.5, bias)]


@pytest.fixture(params=[1, 160])
def _strips_of(request, monkeypatch):
    """Strips of one row of tiles, and of many."""
    monkeypatch.setattr(module, "TILES_PER_STRIP", request.param)


@pytest.mark.usefixtures("_strips_of")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients_are_those_of_conv2d(size, memory_format):
    x, weight, bias = tensors(size, requires_grad=True)
    ours = winograd_conv2d(x.to(memory_format=memory_format), weight, bias)
    plain = functional.conv2d(x, weight, bias, padding=1)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)
    seed = torch.randn_like(plain).to(memory_format=memory_format)
    for a, b in zip(
        torch.autograd.grad(ours, (x, weight, bias), seed),
        torch.autograd.grad(plain, (x, weight, bias), seed),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_one_tile_by_hand():
    # the middle pixel alone: convolution with a kernel that looks one pixel up and left moves it down and right
    x = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    x[0, 0, 1, 1] = 2
    weight = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    weight[0, 0, 0, 0] = 3
    expected = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    expected[0, 0, 2, 2] = 6
    torch.testing.assert_close(winograd_conv2d(x, weight, None), expected, rtol=0, atol=1e-14)


def test_gradcheck():
    assert torch.autograd.gradcheck(winograd_conv2d, tensors((5, 6), in_channels=2, out_channels=2, requires_grad=True))


def test_gradients_of_gradients():
    x, weight, _ = tensors((5, 6), in_channels=2, out_channels=3, requires_grad=True)
    generator = torch.Generator().manual_seed(1)
    of_output = torch.randn(2, 3, 5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module._input_gradient, (of_output, weight))

    def penalty(conv):
        (of_x,) = torch.autograd.grad(conv(x, weight, None).square().sum(), x, create_graph=True)
        return torch.autograd.grad(of_x.square().sum(), (x, weight))

    for a, b in zip(penalty(winograd_conv2d), penalty(lambda *t: functional.conv2d(*t, padding=1)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("trained", [0, 1, 2])
def test_only_gradients_asked_for_are_computed(trained, monkeypatch):
    calls = []
    for operator in ("winograd_conv2d", "_input_gradient", "_weight_gradient"):
        original = getattr(module, operator)
        monkeypatch.setattr(module, operator, lambda *a, o=original, n=operator: calls.append(n) or o(*a))
    inputs = tensors((6, 6))
    inputs[trained].requires_grad_()
    module.winograd_conv2d(*inputs).sum().backward()
    assert calls[0] == "winograd_conv2d"
    assert calls[1:] == [["_input_gradient"], ["_weight_gradient"], []][trained]
    assert [t.grad is not None for t in inputs] == [i == trained for i in range(3)]


def test_matrices_make_any_tile():
    """y = A ((G g) * (B d)) is the valid convolution of a tile, an identity in g and d."""
    of_input, of_kernel, of_output = minimal_filtering(torch.float64)
    tile, kernel = torch.randn(6, 6, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    ours = of_output @ ((of_kernel @ kernel @ of_kernel.T) * (of_input @ tile @ of_input.T)) @ of_output.T
    plain = functional.conv2d(tile[None, None], kernel[None, None])
    torch.testing.assert_close(ours, plain[0, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("positive", [False, True])  # activations after a ReLU do not cancel
def test_rounding_in_single_precision(positive):
    """Ten roundings or so; PyTorch's own form has two to ten, the usual interpolation points have twenty."""
    x, weight, bias = tensors((64, 64), batch=1, in_channels=256, out_channels=256)
    x = x.relu() if positive else x
    seed = torch.randn(1, 256, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def values_and_gradients(conv, dtype):
        inputs = [t.to(dtype).requires_grad_() for t in (x.clone(), weight.clone(), bias.clone())]
        y = conv(*inputs)
        return [y.detach(), *torch.autograd.grad(y, inputs, seed.to(dtype))]

    exact = values_and_gradients(lambda *t: functional.conv2d(*t, padding=1), torch.float64)
    for ours, value in zip(values_and_gradients(winograd_conv2d, torch.float32), exact, strict=True):
        error = (ours - value).square().mean().sqrt() / value.std()
        assert error < 16 * torch.finfo(torch.float32).eps


def test_operator_is_well_formed():
    x, weight, bias = tensors((9, 6), requires_grad=True)
    torch.library.opcheck(winograd_conv2d, (x, weight, bias))
    torch.library.opcheck(module._input_gradient, (torch.randn(2, 3, 9, 6, dtype=x.dtype), weight.detach()))
    torch.library.opcheck(module._weight_gradient, (x.detach(), torch.randn(2, 3, 9, 6, dtype=x.dtype)))


class TestChoice:
    def test_pays_for_wide_maps_in_channels_last(self):
        x, weight, _ = tensors((48, 48), batch=1, in_channels=128, out_channels=128, dtype=torch.float32)
        last = x.to(memory_format=torch.channels_last)
        assert winograd_pays(last, weight)
        assert not winograd_pays(x, weight)
        assert not winograd_pays(last[:, :, :16, :15].contiguous(memory_format=torch.channels_last), weight)
        assert not winograd_pays(
            last[:, :, :16, :16].contiguous(memory_format=torch.channels_last), weight.repeat(2, 1, 1, 1)
        )
        thin = torch.zeros(1, 128, 15, 1000).to(memory_format=torch.channels_last)
        assert not winograd_pays(thin, weight)
        assert winograd_pays(last, weight[:64])
        assert not winograd_pays(last, weight[..., :1])
        assert not winograd_pays(last.double(), weight.double())
        assert not winograd_pays(last.to("meta"), weight)

    @pytest.mark.parametrize("compiled", [True, False])
    def test_pays_for_fewer_channels_with_compiled_loops(self, compiled, monkeypatch):
        monkeypatch.setattr(cpu_loops, "compiled_loops", lambda: object() if compiled else None)
        x, weight, _ = tensors((48, 48), batch=1, in_channels=128, out_channels=128, dtype=torch.float32)
        last = x.to(memory_format=torch.channels_last)
        assert winograd_pays(last, weight)
        assert winograd_pays(last, weight[:16]) == compiled
        assert not winograd_pays(last, weight[:24])  # no whole vectors
        small = last[:, :, :24, :24].contiguous(memory_format=torch.channels_last)  # 4.5 pixels a channel
        assert winograd_pays(small, weight)
        assert not winograd_pays(small, weight[:32])

    def test_not_under_autocast(self):
        wide = WideConv2d(128, 128, 3, padding=1)
        x = torch.randn(1, 128, 48, 48).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not winograd_pays(x, wide.weight)
            assert wide(x).dtype == torch.bfloat16

    def test_backward_under_autocast_stays_exact(self):
        wide = WideConv2d(128, 128, 3, padding=1)
        x = torch.randn(1, 128, 48, 48).to(memory_format=torch.channels_last).requires_grad_()
        seed = torch.randn(1, 128, 48, 48)
        exact = torch.autograd.grad(wide(x), (x, wide.weight), seed)
        y = wide(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            gradients = torch.autograd.grad(y, (x, wide.weight), seed)
        for a, b in zip(gradients, exact, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * b.std().item())

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"padding": 1, "stride": 2},
            {"padding": 1, "groups": 2},
            {"padding": 1, "padding_mode": "reflect"},
            {"padding": 2, "dilation": 2},
        ],
    )
    def test_other_convolutions_are_pytorchs(self, options):
        plain = nn.Conv2d(256, 256, 3, **options).to(memory_format=torch.channels_last)
        ours = WideConv2d(256, 256, 3, **options)
        ours.load_state_dict(plain.state_dict())
        x = torch.randn(1, 256, 64, 64).to(memory_format=torch.channels_last)
        torch.testing.assert_close(ours(x), plain(x), rtol=0, atol=1e-5)

    def test_wrong_number_of_channels_is_refused(self):
        with pytest.raises(RuntimeError, match="channels"):
            WideConv2d(128, 128, 3, padding=1)(torch.randn(1, 256, 48, 48).to(memory_format=torch.channels_last))

    def test_module_is_a_conv_in_either_form(self, monkeypatch):
        calls = []
        original = module.winograd_conv2d
        monkeypatch.setattr(module, "winograd_conv2d", lambda *a: calls.append(1) or original(*a))
        plain = nn.Conv2d(128, 128, 3, padding=1)
        ours = fastest_form(plain)
        assert list(ours.parameters()) == list(plain.parameters())
        x = torch.randn(1, 128, 48, 48)
        torch.testing.assert_close(ours(x), plain(x), rtol=0, atol=1e-5)
        assert calls == []
        x = x.to(memory_format=torch.channels_last)
        torch.testing.assert_close(ours(x), plain(x), rtol=0, atol=1e-5)
        assert calls == [1]

    @pytest.mark.parametrize("channels", [1, 2])
    def test_3d_is_left_to_pytorch_but_for_the_memory_format(self, channels):
        plain = nn.Conv3d(channels, 4, 3, stride=(1, 2, 2), padding=1)
        ours = fastest_form(deepcopy(plain))
        ours.load_state_dict(plain.state_dict(), strict=True)
        x = torch.randn(2, channels, 5, 6, 4)
        last = torch.empty_like(x, memory_format=torch.channels_last_3d).copy_(x)
        torch.testing.assert_close(ours(last), plain(x))
        assert ours(last).is_contiguous(memory_format=torch.channels_last_3d)
        assert ours(x).is_contiguous()

    def test_3d_kernels_of_any_axes(self):
        x = torch.randn(1, 2, 5, 6, 4)
        weight = torch.randn(4, 2, 3, 1, 3)
        torch.testing.assert_close(conv(x, weight, None), functional.conv3d(x, weight, padding=(1, 0, 1)))

    def test_compiles_as_one_graph(self):
        graphs = []

        def backend(graph, _):
            graphs.append(graph)
            return graph

        wide = WideConv2d(128, 128, 3, padding=1)
        x = torch.randn(1, 128, 48, 48).to(memory_format=torch.channels_last)
        torch.testing.assert_close(torch.compile(wide, backend=backend, fullgraph=True)(x), wide(x))
        assert "winograd_conv2d" in graphs[0].code
        torch.compile(wide, backend="aot_eager", fullgraph=True)(x).sum().backward()
        assert wide.weight.grad is not None
