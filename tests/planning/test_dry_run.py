import pytest
import torch
from torch import nn

from nnunetv2_unet3plus.planning.dry_run import LiveBytes, backward_share


def test_counts_what_is_alive_each_storage_once():
    with LiveBytes() as live:
        a = torch.zeros(100, dtype=torch.float32, device="meta")
        b = a.view(10, 10)  # the same storage
        assert live.now == 400
        c = a + 1
        assert live.now == 800
        del c
        assert live.now == 400
        del a
        assert live.now == 400  # b keeps it
        del b
        assert (live.now, live.peak) == (0, 800)


def test_views_of_what_was_there_before():
    weight = torch.zeros(100, device="meta")
    with LiveBytes([weight]) as live:
        view = weight.view(10, 10)
        assert live.now == 0
        assert view.shape == (10, 10)


def test_counts_backward():
    x = torch.zeros(100, device="meta", requires_grad=True)
    with LiveBytes() as live:
        y = x.exp()  # kept for backward
        y = y * y
        assert live.now == 800
        y.backward(torch.empty_like(y))
        assert live.peak >= 1200


def test_share_by_hand():
    network = nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU(), nn.ReLU(), nn.ReLU()).to("meta")
    # Kept: what the three ReLUs return, of equal size; the conv needs its input alone, which was there before. At the
    # peak there are also the gradient that backward starts with, the one a ReLU is given, and the one it makes.
    assert backward_share(network, 1, (64, 64)) == 6 / 3


@pytest.mark.parametrize("size", [(64, 64), (128, 96)])
def test_share_does_not_depend_on_the_size(size):
    def network():
        with torch.device("meta"):
            return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.InstanceNorm2d(16), nn.LeakyReLU(inplace=True))

    assert backward_share(network(), 1, size) == pytest.approx(backward_share(network(), 1, (32, 32)), rel=0.01)


def test_parameters_and_their_gradients_are_not_kept():
    # 2 x 4 x 16 x 16 half numbers in, a million weights: a gradient of theirs, once made, is as large as 500 such maps
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Flatten(), nn.Linear(1024, 1000), nn.Linear(1000, 1000)).to("meta")
    maps = 2 * (1024 + 1000 + 1000) * 2  # bytes kept, with the logits
    of_weights = 1000 * 1024 * 2  # one gradient at a time
    share = backward_share(network, 1, (16, 16))
    assert of_weights / maps < share < 1.1 * of_weights / maps
    assert all(parameter.grad is None for parameter in network.parameters())
