"""The gates: shapes, hand-computed answers, gradients, no classes."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnunetv2_unet3plus.building_blocks.classification_gate import (
    DeepestMapGate,
    PooledGate,
    presence_probability,
)

GATES = {
    "deepest 2d": lambda classes: DeepestMapGate(nn.Conv2d, 6, classes),
    "deepest 3d": lambda classes: DeepestMapGate(nn.Conv3d, 6, classes),
    "pooled": lambda classes: PooledGate(6, classes),
    "pooled, hidden layer": lambda classes: PooledGate(6, classes, hidden=5),
}


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("classes", [1, 3])
def test_two_logits_a_class_and_a_gradient_for_every_weight(name, classes):
    torch.manual_seed(0)
    gate = GATES[name](classes)
    logits = gate(torch.randn(4, 6, *[5] * (3 if "3d" in name else 2)))
    assert logits.shape == (4, classes, 2)
    logits.square().sum().backward()
    for parameter in gate.parameters():
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("name", GATES)
def test_nothing_to_gate(name):
    with pytest.raises(ValueError, match="needs a foreground class"):
        GATES[name](0)


def test_papers_gate_by_hand():
    gate = DeepestMapGate(nn.Conv2d, 1, 1).eval()
    gate.load_state_dict(
        {"conv.weight": torch.tensor([2.0, -1.0]).view(2, 1, 1, 1), "conv.bias": torch.tensor([0.5, 0])}
    )
    # twice the largest value plus a half; minus the smallest value
    assert gate(torch.tensor([[[[1.0, -3.0], [2.0, 0.0]]]])).tolist() == [[[4.5, 3.0]]]


def test_papers_gate_has_the_papers_parameters():
    assert sum(p.numel() for p in DeepestMapGate(nn.Conv2d, 1024, 1).parameters()) == 26_991_687 - 26_989_637


def test_pooled_gate_sees_average_and_maximum():
    gate = PooledGate(1, 1).eval()  # a fresh batch norm in evaluation mode divides by sqrt(1 + eps)
    with torch.no_grad():
        gate.layers[-1].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        gate.layers[-1].bias.zero_()
    logits = gate(torch.tensor([[[[1.0, -3.0], [2.0, 4.0]]]]))
    torch.testing.assert_close(logits, torch.tensor([[[1.0, 4.0]]]), rtol=1e-4, atol=0)


def test_presence_probability_is_the_softmax_of_the_pair():
    logits = torch.tensor([[[0.0, 0.0], [-20000.0, 20000.0], [1.0, -1.0]]], dtype=torch.float16)
    probability = presence_probability(logits)
    assert probability.dtype == torch.float32
    torch.testing.assert_close(probability, logits.float().softmax(-1)[..., 1])


def test_gate_is_steady_at_nnunets_learning_rate():
    """Positive maps that say nothing: the loss must stay near that of always answering the class's share."""
    torch.manual_seed(0)
    gate = DeepestMapGate(nn.Conv2d, 512, 1)
    optimizer = torch.optim.SGD(gate.parameters(), 1e-2, momentum=0.99, nesterov=True)
    losses = []
    for step in range(200):
        present = torch.tensor([step % 4 != 0, True])
        one_hot = torch.stack([~present, present], dim=1).float()[:, None]
        loss = functional.binary_cross_entropy_with_logits(gate(torch.rand(2, 512, 4, 4)), one_hot)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    share = torch.tensor(1 / 8)
    constant = -(share * share.log() + (1 - share) * (1 - share).log())
    assert sum(losses[100:]) / 100 < 1.3 * constant
