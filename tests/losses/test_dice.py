from math import log

import pytest
import torch

from nnunetv2_unet3plus.losses import LaplaceDiceLoss

# Probabilities 3/4, 3/4, 1/4, 1/4 against truth 1, 0, 1, 0: intersection 1, sums 2 and 2.
LOGITS = log(3) * torch.tensor([1.0, 1.0, -1.0, -1.0]).view(1, 1, 2, 2)
TRUTH = torch.tensor([1.0, 0.0, 1.0, 0.0]).view(1, 1, 2, 2)


@pytest.mark.parametrize("shape", [(2, 2), (1, 4), (1, 2, 2)])
def test_by_hand(shape):
    loss = LaplaceDiceLoss(regions=True)(LOGITS.view(1, 1, *shape), TRUTH.view(1, 1, *shape))
    assert loss.item() == pytest.approx(1 - 3 / 5)


def test_ignored_voxel_by_hand():
    # The second voxel is out: intersection 1, sums 5/4 and 2.
    mask = torch.tensor([0.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2)
    loss = LaplaceDiceLoss(regions=True, ignore_label=2)(LOGITS, torch.cat([TRUTH, mask], 1))
    assert loss.item() == pytest.approx(1 - 3 / 4.25)


def test_background_is_no_class():
    target = torch.tensor([0, 0, 1, 2]).view(1, 1, 2, 2)
    predicted = torch.tensor([0, 0, 1, 0]).view(1, 2, 2)
    logits = 100 * torch.nn.functional.one_hot(predicted, 3).movedim(-1, 1).float()
    # class 1: 3 / 3; class 2: 1 / 2
    assert LaplaceDiceLoss()(logits, target).item() == pytest.approx(1 - (1 + 1 / 2) / 2)


def test_nothing_predicted_where_nothing_is():
    logits = torch.full((1, 1, 8, 8), -200.0)
    assert LaplaceDiceLoss(regions=True)(logits, torch.zeros_like(logits)).item() == 0
