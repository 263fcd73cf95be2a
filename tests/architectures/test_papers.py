"""The papers' networks: published parameter counts, and that they run."""

import pytest
import torch

from nnunetv2_unet3plus.architectures import papers

# network, its input channels, parameters with a single head, parameters with all heads
PUBLISHED = [
    ("unet3plus_paper", 3, 26_971_777, 26_989_637),
    ("unet3plus_paper_cgm", 3, 26_973_827, 26_991_687),
    ("unet3plus_paper_unet", 1, 39_394_881, 39_394_881),
    ("unet3plus_paper_unet", 3, 39_396_033, 39_396_033),
    ("unet3plus_paper_unetplusplus", 3, 47_175_937, 47_176_132),
    ("unetplusplus_paper_unet", 1, 7_759_521, 7_759_521),
    ("unetplusplus_paper", 1, 9_041_601, 9_041_700),
    ("unetsharp_paper_unet", 3, 7_852_545, 7_852_545),
    ("unetsharp_paper_wide_unet", 3, 9_392_916, 9_392_916),
    ("unetsharp_paper_unetplusplus", 3, 9_163_329, 9_163_428),
    ("unetsharp_paper_unet3plus", 3, 9_787_905, None),
    ("unetsharp_paper", 3, 9_716_545, None),
    ("unetsharp_paper_vnet", 1, 26_388_385, 26_388_385),
    ("unetsharp_paper_wide_vnet", 1, 33_396_373, 33_396_373),
    ("unetsharp_paper_vnetplusplus", 1, 27_370_945, None),
    ("unetsharp_paper_vnet3plus", 1, 27_839_905, None),
    ("unetsharp_paper_vnetsharp", 1, 28_559_809, None),
]


def build(name, *args, **options):
    with torch.device("meta"):
        return getattr(papers, name)(*args, **options)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def parameters_with_one_head(network):
    heads = network.decoder.seg_layers
    return parameters(network) - sum(map(parameters, list(getattr(heads, "values", heads.__iter__)())[1:]))


@pytest.mark.parametrize(("name", "input_channels", "one_head", "all_heads"), PUBLISHED)
def test_parameters(name, input_channels, one_head, all_heads):
    network = build(name, input_channels, 1)
    assert parameters_with_one_head(network) == one_head
    assert all_heads in (None, parameters(network))


@pytest.mark.parametrize(
    ("far_edges", "level", "count"),
    [
        ("raw", 1, 103_041),
        ("raw", 2, 555_969),
        ("raw", 3, 2_531_073),
        ("raw", 4, 10_748_481),
        ("conv", 1, 103_041),
        ("conv", 2, 565_281),
        ("conv", 3, 2_429_857),
        ("conv", 4, 9_716_545),
    ],
)
def test_parameters_of_pruned_unetsharp(far_edges, level, count):
    network = build("unetsharp_paper", 3, 1, far_edges=far_edges, prune_level=level)
    assert parameters_with_one_head(network) == count


def test_unetsharp_has_eight_branches():
    heads = ["0_4", "0_3", "0_2", "0_1", "1_3", "2_2", "3_1", "4_0"]
    assert list(build("unetsharp_paper", 3, 1).decoder.seg_layers) == heads


@pytest.mark.parametrize("name", sorted({name for name, *_ in PUBLISHED}))
def test_odd_sizes(name):
    dims = 3 if "vnet" in name else 2
    size = [37, 50, 35][:dims]
    network = build(name, 1, 2)
    assert network(torch.empty(1, 1, *size, device="meta"))[0].shape[-dims:] == torch.Size(size)


@pytest.mark.parametrize("name", ["unet3plus_paper_unet", "unetplusplus_paper"])
def test_transposed_convolutions_bring_up_every_row(name):
    torch.manual_seed(0)
    network = getattr(papers, name)(1, 1, deep_supervision=True)
    sum(logits.square().mean() for logits in network(torch.randn(2, 1, 35, 32))).backward()
    assert len(network.decoder.up) == len(network.decoder.nodes)
    assert all(p.grad.abs().sum() > 0 for p in network.decoder.up.parameters())
