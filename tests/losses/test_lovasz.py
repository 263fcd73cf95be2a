"""Lovasz losses by hand, and against what defines them: the Jaccard loss at the corners of the cube of errors."""

from itertools import product
from math import log

import pytest
import torch

from nnunetv2_unet3plus.losses import LovaszLoss
from nnunetv2_unet3plus.losses.lovasz import jaccard_steps


def jaccard_loss(predicted, true):
    union = (predicted | true).sum().item()
    return 1 - (predicted & true).sum().item() / union if union else 0.0


@pytest.mark.parametrize("true", list(product([False, True], repeat=4)))
def test_extends_the_jaccard_loss(true):
    """Where all errors are 0 or 1, a Lovasz extension is the set function itself."""
    true = torch.tensor(true)
    for predicted in product([False, True], repeat=4):
        predicted = torch.tensor(predicted)
        # regions, hinge: a logit of +-1 on the right side has error 0; of 0, error 1
        logits = torch.where(predicted == true, 2.0 * true - 1, 0.0)
        value = LovaszLoss(regions=True)(logits.view(1, 1, 2, 2), true.float().view(1, 1, 2, 2))
        assert value.item() == pytest.approx(jaccard_loss(predicted, true))


def test_steps_by_hand():
    # objects first and third: 1/2 missed; one added: 1 - 1/3; the other missed: 1
    assert jaccard_steps(torch.tensor([1.0, 0.0, 1.0])).tolist() == pytest.approx([1 / 2, 2 / 3 - 1 / 2, 1 / 3])


def test_hinge_by_hand():
    # logits 0.5 (true), 0.2 (false), -3 (false): errors 0.5, 1.2, 0; in falling order the false one adds 1/2, the true
    # one the other half
    logits = torch.tensor([0.5, 0.2, -3.0]).view(1, 1, 1, 3)
    value = LovaszLoss(regions=True)(logits, torch.tensor([1.0, 0.0, 0.0]).view(1, 1, 1, 3))
    assert value.item() == pytest.approx(1.2 * 0.5 + 0.5 * 0.5)


def test_one_label_is_the_hinge_of_its_lead():
    lead = torch.tensor([0.5, 0.2, -3.0]).view(1, 1, 1, 3)
    logits = torch.cat([torch.full_like(lead, 7), lead + 7], 1)
    value = LovaszLoss()(logits, torch.tensor([1, 0, 0]).view(1, 1, 1, 3))
    assert value.item() == pytest.approx(1.2 * 0.5 + 0.5 * 0.5, rel=1e-5)


def test_softmax_by_hand():
    # two voxels, labels 1 and 2, probabilities (1/4, 1/2, 1/4) in both
    logits = torch.tensor([1.0, 2.0, 1.0]).log().view(1, 3, 1, 1).expand(1, 3, 1, 2)
    value = LovaszLoss()(logits, torch.tensor([1, 2]).view(1, 1, 1, 2))
    # class 1: errors 1/2 and 1/2, whichever comes first: 1/2 in all; class 2: 3/4 of the true one, which loses all
    assert value.item() == pytest.approx((1 / 2 + 3 / 4) / 2)


def test_ignored_voxels_have_no_error():
    logits = torch.tensor([0.5, 0.2, -3.0, 9.0]).view(1, 1, 1, 4)
    target = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]).view(1, 2, 1, 4)
    value = LovaszLoss(regions=True, ignore_label=2)(logits, target)
    assert value.item() == pytest.approx(1.2 * 0.5 + 0.5 * 0.5)


def test_gradient_is_finite_and_points_to_the_truth():
    logits = torch.tensor([log(2), -log(2)]).view(1, 1, 1, 2).requires_grad_()
    LovaszLoss(regions=True)(logits, torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)).backward()
    assert logits.grad.flatten()[0] > 0 > logits.grad.flatten()[1]
