"""UNet# with a gate on each branch, in the network."""

import pytest
import torch

from nnunetv2_unet3plus.architectures.unetsharp_cgm import UNetSharpCGM
from nnunetv2_unet3plus.building_blocks.concat_decoder import log_mean_probability
from nnunetv2_unet3plus.building_blocks.gating import MARGIN
from tests.architectures.plans import arch_kwargs


def build(dims=2, classes=3, **options):
    torch.manual_seed(0)
    kwargs = arch_kwargs(dims, n_stages=3, width=4)
    return UNetSharpCGM(input_channels=1, num_classes=classes, **kwargs | options)


def answer(network, row_and_column, *present):
    """Make one gate say this of every patch."""
    layer = network.gates[row_and_column].layers[-1]
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([[-9.0, 9.0] if each else [9.0, -9.0] for each in present]).flatten())


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("regions", [False, True])
def test_outputs_of_training_and_inference(dims, regions):
    network = build(dims, regions=regions, deep_supervision=True)
    x = torch.randn(2, 1, *[16] * dims)
    *heads, presence = network(x)
    assert len(heads) == 4
    assert presence.shape == (2, 4, 3 if regions else 2, 2)
    network.eval()
    assert len(network(x)) == 5  # nnU-Net's validation epochs compute the loss
    network.decoder.deep_supervision = False
    assert network(x).shape == (2, 3, *[16] * dims)


def test_two_layers_for_the_two_deepest_branches():
    layers = {name: sum(isinstance(m, torch.nn.Linear) for m in gate.modules()) for name, gate in build().gates.items()}
    assert layers == {"0_2": 1, "0_1": 1, "1_1": 2, "2_0": 2}


def test_presence_logits_are_of_the_gates_asked_at_inference_deepest_first():
    network = build(deep_supervision=True).eval()
    x = torch.randn(2, 1, 16, 16)
    of_branches = dict(zip(network.gates, network(x)[-1].unbind(1), strict=True))
    for gate, logits in zip(["2_0", "0_2", "0_1"], network.presence_logits(x).unbind(1), strict=True):
        torch.testing.assert_close(logits, of_branches[gate])


def test_early_exit_never_reaches_the_decoder(monkeypatch):
    network = build().eval()
    answer(network, "2_0", False, False)
    monkeypatch.setattr(network.decoder, "node_maps", lambda *_: pytest.fail("the decoder ran"))
    assert network(torch.randn(2, 1, 16, 16)).argmax(1).max() == 0
    assert network.gatings[0].count.skipped == 2


@pytest.mark.parametrize("gate", ["2_0", "0_2"])
def test_absent_where_either_gate_says_so(gate):
    network = build().eval()
    x = torch.randn(1, 1, 16, 16)
    for other in network.gates:
        answer(network, other, True, True)
    everything = network(x)
    answer(network, gate, True, False)
    gated = network(x)
    assert gated[:, :2].equal(everything[:, :2])
    assert gated[:, 2].equal(torch.minimum(everything[:, 2], everything[:, 0] - MARGIN))


def test_accurate_mode_averages_branches_each_with_its_own_gate():
    network = build(inference_mode="accurate").eval()
    x = torch.randn(1, 1, 16, 16)
    for gate in network.gates:
        answer(network, gate, True, gate != "0_1")
    # absent for X(0, 1) alone
    maps = network.decoder.node_maps(network.encoder(x))
    last, first = (network.decoder.segment(branch, maps) for branch in ((0, 2), (0, 1)))
    first = torch.cat([first[:, :2], torch.minimum(first[:, 2:], first[:, :1] - MARGIN)], dim=1)
    torch.testing.assert_close(network(x), log_mean_probability([last, first], regions=False))


def test_soft_gating_adds_both_logarithms():
    network = build(gating="soft").eval()
    x = torch.randn(1, 1, 16, 16)
    for gate in network.gates:
        answer(network, gate, True, True)
    everything = network(x)
    for gate, logit in (("2_0", 1.0), ("0_2", -2.0)):
        with torch.no_grad():
            network.gates[gate].layers[-1].bias.copy_(torch.tensor([0, logit, 0, 50.0]))
    expected = everything[:, 1] + torch.tensor(1.0).sigmoid().log() + torch.tensor(-2.0).sigmoid().log()
    torch.testing.assert_close(network(x)[:, 1], expected)


def test_a_single_patch_cannot_be_trained_on():
    network = build(deep_supervision=True)
    with pytest.raises(ValueError, match="two patches or more on each GPU: raise batch_size in the plans"):
        network(torch.randn(1, 1, 16, 16))
    assert len(network.eval()(torch.randn(1, 1, 16, 16))) == 5


def test_level_to_prune_to():
    with pytest.raises(ValueError, match="whose gate decides first"):
        build(prune_level=1)


def test_labels_without_foreground():
    with pytest.raises(ValueError, match="needs a foreground class"):
        build(classes=1)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_training_forward_compiles_as_one_graph(backend):
    network = build(deep_supervision=True)
    torch._dynamo.reset()
    outputs = torch.compile(network, fullgraph=True, backend=backend)(torch.randn(2, 1, 16, 16))
    sum(o.square().mean() for o in outputs).backward()
    assert all(p.grad.abs().sum() > 0 for p in network.gates.parameters())
