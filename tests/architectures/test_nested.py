"""UNet++ and UNet#: averaged branches, pruning. See also test_every_architecture and test_papers."""

import pytest
import torch
from torch import nn

from nnunetv2_unet3plus.architectures.timm_encoded import UNet3PlusVGG16
from nnunetv2_unet3plus.architectures.unet3plus import UNet3Plus
from nnunetv2_unet3plus.architectures.unet3plus_cgm import UNet3PlusCGM
from nnunetv2_unet3plus.architectures.unet3plus_raw import UNet3PlusRaw
from nnunetv2_unet3plus.architectures.unetplusplus import UNetPlusPlus
from nnunetv2_unet3plus.architectures.unetsharp import UNetSharp
from nnunetv2_unet3plus.architectures.vnet import VNet, VNetPlusPlus, VNetSharp
from nnunetv2_unet3plus.building_blocks.concat_decoder import log_mean_probability
from tests.architectures.plans import arch_kwargs


def build(network_class, kwargs=None, deep_supervision=True, **options):
    torch.manual_seed(0)
    kwargs = kwargs or arch_kwargs(2)
    return network_class(2, num_classes=3, deep_supervision=deep_supervision, **kwargs, **options)


@pytest.mark.parametrize("network_class", [UNetPlusPlus, UNetSharp])
class TestInferenceModes:
    @pytest.mark.parametrize("regions", [False, True])
    def test_accurate_is_the_mean_of_the_branches_probabilities(self, network_class, regions):
        network = build(network_class, inference_mode="accurate", regions=regions).eval()
        x = torch.randn(2, 2, 32, 48)
        with torch.no_grad():
            branches = [logits for logits in network(x) if logits.shape[2:] == x.shape[2:]]
            network.decoder.deep_supervision = False
            logits = network(x)
        assert len(branches) == 4

        def probability(logits):
            return logits.sigmoid() if regions else logits.softmax(1)

        expected = torch.stack([probability(branch) for branch in branches]).mean(0)
        torch.testing.assert_close(probability(logits), expected, rtol=0, atol=1e-5)

    def test_fast_is_the_last_branch(self, network_class):
        network = build(network_class).eval()
        x = torch.randn(1, 2, 32, 32)
        first = network(x)[0]
        network.decoder.deep_supervision = False
        assert network(x).equal(first)

    def test_training_without_deep_supervision_trains_the_last_branch(self, network_class):
        network = build(network_class, deep_supervision=False, inference_mode="accurate")
        x = torch.randn(1, 2, 32, 32)
        network(x).sum().backward()
        assert all((p.grad is not None) == p.requires_grad for p in network.parameters())

    def test_unknown_mode(self, network_class):
        with pytest.raises(ValueError, match="'fast' or 'accurate', not 'best'"):
            build(network_class, inference_mode="best")


@pytest.mark.parametrize("regions", [False, True])
def test_mean_probability_of_extreme_logits_is_finite(regions):
    branches = [torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]])]
    mean = log_mean_probability([b.view(1, 2, 1, 1) for b in branches], regions)
    assert mean.isfinite().all()
    torch.testing.assert_close(mean.flatten(), mean.flatten()[:1].expand(2))  # one half each


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("encoder", ["plain", "residual"])
@pytest.mark.parametrize(
    ("network_class", "options"),
    [
        (UNetPlusPlus, {}),
        (UNetSharp, {}),
        (UNetSharp, {"far_edges": "raw"}),
        (UNetSharp, {"nonlin": nn.PReLU, "nonlin_kwargs": {}}),
        (VNetPlusPlus, {}),
        (VNetSharp, {}),
    ],
)
class TestPruning:
    def test_outputs_are_the_branches_of_the_whole_network(self, network_class, options, encoder, dims):
        kwargs = arch_kwargs(dims, encoder, anisotropic=True) | options
        whole = build(network_class, kwargs).eval()
        x = torch.randn(1, 2, *[32, 32, 16][:dims])
        with torch.no_grad():
            branches = whole(x)[:4]  # X(0, 4), ..., X(0, 1)
        state = whole.state_dict()
        for level in (1, 2, 3, 4):
            pruned = build(network_class, kwargs, prune_level=level).eval()
            pruned.load_state_dict({name: state[name] for name in pruned.state_dict()}, strict=True)
            with torch.no_grad():
                for ours, branch in zip(pruned(x), branches[4 - level :], strict=True):
                    assert ours.equal(branch)

    def test_every_parameter_of_a_pruned_network_is_trained(self, network_class, options, encoder, dims):
        for level in (1, 2):
            kwargs = arch_kwargs(dims, encoder, n_stages=3) | options
            network = build(network_class, kwargs, prune_level=level)
            sum(logits.square().mean() for logits in network(torch.randn(2, 2, *[16] * dims))).backward()
            assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("network_class", [UNet3Plus, UNet3PlusCGM, UNet3PlusRaw, VNet, UNet3PlusVGG16])
def test_networks_without_levels(network_class):
    with pytest.raises(ValueError, match=f"{network_class.__name__} has no levels.* take prune_level out"):
        build(network_class, prune_level=1)


@pytest.mark.parametrize("level", [0, 5, -1, "2", 2.0, True])
def test_level_that_is_not_there(level):
    with pytest.raises(ValueError, match="prune_level must be 1 to 4 in a network of 5 stages, not"):
        build(UNetSharp, prune_level=level)


@pytest.mark.parametrize("far_edges", ["Conv", None])
def test_unknown_far_edges(far_edges):
    with pytest.raises(ValueError, match="far_edges"):
        build(UNetSharp, far_edges=far_edges)


@pytest.mark.parametrize("n_stages", [2, 3])
def test_feature_map_size_counts_nodes(n_stages):
    # 8 x 8, 8 channels a stage; a node: two conv blocks; a concatenation of two maps of the row: half a block a channel
    kwargs = arch_kwargs(2, n_stages=n_stages) | {"features_per_stage": 8}
    network = build(UNetPlusPlus, kwargs)
    nodes = {2: 2 * 8 * 64, 3: 2 * 8 * (64 + 16) + 2 * 8 * 64 + 8 * 64}[n_stages]
    heads = 3 * 64 * (n_stages - 1)
    encoder = network.encoder.compute_conv_feature_map_size((8, 8))
    assert network.compute_conv_feature_map_size((8, 8)) == encoder + nodes + heads
