"""UNet 3+ with its classification gate, in the network."""

import pytest
import torch

from nnunetv2_unet3plus.architectures.unet3plus_cgm import UNet3PlusCGM
from tests.architectures.plans import arch_kwargs


def build(dims=2, classes=3, **options):
    torch.manual_seed(0)
    kwargs = arch_kwargs(dims, n_stages=3, width=4)
    return UNet3PlusCGM(input_channels=1, num_classes=classes, **kwargs | options)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("regions", [False, True])
def test_outputs_of_training_and_inference(dims, regions):
    network = build(dims, regions=regions, deep_supervision=True)
    x = torch.randn(2, 1, *[16] * dims)
    *heads, presence = network(x)
    assert len(heads) == 3
    assert presence.shape == (2, 1, 3 if regions else 2, 2)
    network.eval()
    assert len(network(x)) == 4  # nnU-Net's validation epochs compute the loss
    network.decoder.deep_supervision = False
    assert network(x).shape == (2, 3, *[16] * dims)


def test_early_exit_never_reaches_the_decoder(monkeypatch):
    network = build(deep_supervision=False).eval()
    x = torch.randn(2, 1, 16, 16)
    network.gatings[0].thresholds.fill_(1.1)
    monkeypatch.setattr(network.decoder, "forward", lambda *_: pytest.fail("the decoder ran"))
    assert network(x).argmax(1).max() == 0
    assert network.gatings[0].count.skipped == 2


def test_thresholds_travel_in_the_state_dict():
    network, other = build(), build()
    network.gatings[0].thresholds.copy_(torch.tensor([0.25, 0.0]))
    other.load_state_dict(network.state_dict(), strict=True)
    assert other.gatings[0].thresholds.tolist() == [0.25, 0.0]


def test_presence_logits_are_the_gates_alone():
    network = build(deep_supervision=True).eval()
    x = torch.randn(1, 1, 16, 16)
    assert network.presence_logits(x).equal(network(x)[-1])


def test_labels_without_foreground():
    with pytest.raises(ValueError, match="needs a foreground class"):
        build(classes=1)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_training_forward_compiles_as_one_graph(backend):
    network = build(deep_supervision=True)
    torch._dynamo.reset()
    outputs = torch.compile(network, fullgraph=True, backend=backend)(torch.randn(1, 1, 16, 16))
    sum(o.square().mean() for o in outputs).backward()
    assert network.gate.conv.weight.grad.abs().sum() > 0
