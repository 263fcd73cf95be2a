"""What only UNet 3+ has: the paper's network, the width of its branches. See also test_every_architecture."""

import pytest
import torch

from nnunetv2_unet3plus.architectures.papers import unet3plus_paper
from nnunetv2_unet3plus.architectures.unet3plus import UNet3Plus
from nnunetv2_unet3plus.building_blocks import winograd
from nnunetv2_unet3plus.planning.saved_tensors import saved_bytes
from tests.architectures.plans import arch_kwargs, spread_of
from tests.textbook import TextbookUNet3Plus


def build(kwargs, deep_supervision=True, num_classes=3, **options):
    torch.manual_seed(0)
    network = UNet3Plus(2, num_classes=num_classes, deep_supervision=deep_supervision, **kwargs, **options)
    network.apply(network.initialize)
    return network


class TestPaper:
    def test_parameter_counts(self):
        network = unet3plus_paper(input_channels=3, num_classes=1)
        parameters = sum(p.numel() for p in network.parameters())
        side_heads = sum(p.numel() for head in network.decoder.seg_layers[1:] for p in head.parameters())
        assert parameters == 26_989_637
        assert parameters - side_heads == 26_971_777  # the paper's 26.97 M

    def test_outputs_equal_those_of_the_textbook_in_single_precision(self, monkeypatch):
        calls = []
        original = winograd.winograd_conv2d
        monkeypatch.setattr(winograd, "winograd_conv2d", lambda *a: calls.append(1) or original(*a))
        torch.manual_seed(0)
        network = unet3plus_paper(1, 1)
        textbook = TextbookUNet3Plus(network)
        textbook.load_state_dict(network.state_dict(), strict=True)
        x = torch.randn(2, 1, 96, 80)  # large enough for several blocks of rows, and for the Winograd form
        ours = network(x)
        assert calls
        calls.clear()
        for a, b in zip(ours, textbook(x), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-4 * spread_of(b))
        assert not calls

    @pytest.mark.parametrize("always_winograd", [False, True])
    def test_gradients_equal_those_of_the_textbook(self, always_winograd, monkeypatch):
        # in double precision: in single, ReLUs at the verge of zero decide differently for the last digit
        calls = []
        original = winograd.winograd_conv2d
        monkeypatch.setattr(winograd, "winograd_conv2d", lambda *a: calls.append(1) or original(*a))
        if always_winograd:
            monkeypatch.setattr(winograd, "winograd_pays", lambda _, weight: weight.shape[2:] == (3, 3))
        torch.manual_seed(0)
        network = unet3plus_paper(1, 1).double()
        textbook = TextbookUNet3Plus(network).double()
        textbook.load_state_dict(network.state_dict(), strict=True)
        x = torch.randn(2, 1, 96, 80, dtype=torch.float64)
        ours = network(x)
        # ten in the encoder, and in four stages the encoder's branches and the fusion
        assert len(calls) == always_winograd * (10 + (1 + 2 + 3 + 4) + 4)
        if always_winograd:  # the textbook is to be independent of it
            monkeypatch.setattr(winograd, "winograd_pays", lambda *_: False)
        expected = textbook(x)
        seeds = [torch.randn_like(o) for o in ours]
        torch.autograd.backward(ours, seeds)
        torch.autograd.backward(expected, seeds)
        for (name, a), b in zip(network.named_parameters(), textbook.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-9 * max(1.0, spread_of(b.grad)), msg=name)

    def test_maps_are_channels_last(self):
        assert unet3plus_paper(1, 2)(torch.randn(1, 1, 32, 32))[0].is_contiguous(memory_format=torch.channels_last)

    def test_keeps_a_quarter_of_the_textbooks_activations(self):
        with torch.device("meta"):
            network = unet3plus_paper(3, 1)
            x = torch.empty(1, 3, 320, 320)
        textbook = TextbookUNet3Plus(network)
        assert saved_bytes(network, x) < 0.25 * saved_bytes(textbook, x)


class TestFeatureMapSize:
    """In the unit nnU-Net's planner budgets with."""

    @pytest.mark.parametrize("encoder", ["plain", "residual"])
    def test_feature_map_size_counts_conv_outputs(self, encoder):
        # 2 stages on 8 x 8, 8 and 16 channels; plain: 1 and 2 convs
        kwargs = arch_kwargs(2, encoder, n_stages=2)
        network = build(kwargs, cat_channels=4)
        decoder = 2 * (2 * 4) * 64 + 3 * 64 + 3 * 16  # branches, fusion; heads on 8 x 8 and 4 x 4
        assert network.compute_conv_feature_map_size((8, 8)) == decoder + (
            network.encoder.compute_conv_feature_map_size((8, 8))
        )
        if encoder == "plain":
            assert network.compute_conv_feature_map_size((8, 8)) == decoder + 8 * 64 + 2 * 16 * 16

    def test_feature_map_size_of_pooling_encoder(self):
        kwargs = arch_kwargs(2, n_stages=2)
        assert build(kwargs, pool="max").compute_conv_feature_map_size((8, 8)) == build(
            kwargs
        ).compute_conv_feature_map_size((8, 8))


@pytest.mark.parametrize("width", [0, -1])
def test_width_of_branches(width):
    with pytest.raises(ValueError, match="cat_channels is the width of a branch, at least 1"):
        build(arch_kwargs(2), cat_channels=width)
