"""The form by tiles is conv(interpolate(x)), however the result is cut into tiles."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_unet3plus.building_blocks import resize_conv_tiles as module
from nnunetv2_unet3plus.building_blocks.resize_conv_tiles import resize_conv_by_tiles, tiles_apply
from tests.building_blocks.test_resize_conv import CASES, inputs, plain_form

LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


@pytest.fixture(params=[1, 2**10, 2**30], ids=["smallest_tiles", "some_tiles", "one_tile"])
def tiles(request, monkeypatch):
    monkeypatch.setattr(module, "VALUES_PER_TILE", request.param)


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(
    ("grid", "size", "kernel"),
    [*CASES, ((130, 20), (260, 161), (3, 3)), ((33, 20, 6), (66, 81, 12), (3, 3, 3)), ((9, 12), (9, 12), (3, 3))],
)
def test_values_and_gradients(grid, size, kernel, biased):
    x, weight, bias = inputs(grid, kernel, requires_grad=True)
    last = x.detach().to(memory_format=LAST[len(grid)]).requires_grad_()
    bias = bias if biased else None
    assert tiles_apply(last, weight)
    ours, plain = resize_conv_by_tiles(last, weight, bias, size), plain_form(x, weight, bias, size)
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)
    assert ours.is_contiguous(memory_format=LAST[len(grid)])
    seed = torch.randn(plain.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parameters = [weight, bias] if biased else [weight]
    of_ours = torch.autograd.grad((ours * seed).sum(), [last, *parameters])
    of_plain = torch.autograd.grad((plain * seed).sum(), [x, *parameters])
    torch.testing.assert_close(of_ours, of_plain, rtol=1e-10, atol=1e-10)


def test_many_tiles_cover_every_row_once():
    seen = torch.zeros(66, 81, 12)
    tiles = module._tiles((33, 20, 6), (66, 81, 12), (3, 3, 3), 4, torch.float64, values=1)
    for tile in tiles:
        seen[tile.rows] += 1
    assert len(tiles) > 10
    assert (seen == 1).all()


class TestApply:
    def test_to_full_precision_in_channels_last_format_on_the_cpu(self):
        x, weight, _ = inputs((5, 7), (3, 3))
        last = x.to(memory_format=torch.channels_last)
        assert tiles_apply(last, weight)
        assert not tiles_apply(x, weight)
        assert not tiles_apply(last, weight.float())
        assert not tiles_apply(last.bfloat16(), weight.bfloat16())
        assert not tiles_apply(last.to("meta"), weight.to("meta"))

    def test_not_under_autocast(self):
        x, weight, _ = inputs((5, 7), (3, 3), torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not tiles_apply(x.to(memory_format=torch.channels_last), weight)


def test_operator_is_well_formed():
    """Its shapes without data, its gradient under tracing."""
    x, weight, bias = inputs((5, 6), (3, 3), requires_grad=True)
    x = x.detach().to(memory_format=torch.channels_last).requires_grad_()
    torch.library.opcheck(resize_conv_by_tiles, (x, weight, bias, (10, 12)))


def test_flops_by_hand():
    """4 x 4 to 8 x 8, one channel to one: mixing 16 pixels x 9 taps; then 8 x 12 an axis, of 3 x 4 and of 8 columns."""
    x, weight, _ = inputs((4, 4), (3, 3), in_channels=1, out_channels=1)
    with FlopCounterMode(display=False) as counter:
        resize_conv_by_tiles(x[:1].to(memory_format=torch.channels_last), weight, None, (8, 8))
    assert counter.get_total_flops() == 2 * (16 * 9 + 8 * 12 * (3 * 4) + 8 * 12 * 8)
