from math import log

import pytest
import torch

from nnunetv2_unet3plus.losses import IoULoss

# Probabilities 3/4, 3/4, 1/4, 1/4 against truth 1, 0, 1, 0: intersection 1, sums 2 and 2, union 3.
LOGITS = log(3) * torch.tensor([1.0, 1.0, -1.0, -1.0]).view(1, 1, 2, 2)
TRUTH = torch.tensor([1.0, 0.0, 1.0, 0.0]).view(1, 1, 2, 2)


@pytest.mark.parametrize("shape", [(2, 2), (1, 4), (1, 2, 2)])
def test_by_hand(shape):
    loss = IoULoss(regions=True)(LOGITS.view(1, 1, *shape), TRUTH.view(1, 1, *shape))
    assert loss.item() == pytest.approx(1 - 1 / 3, abs=1e-5)


def test_ignored_voxel_by_hand():
    # The second voxel is out: intersection 1, sums 5/4 and 2, union 9/4.
    mask = torch.tensor([0.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2)
    loss = IoULoss(regions=True, ignore_label=2)(LOGITS, torch.cat([TRUTH, mask], 1))
    assert loss.item() == pytest.approx(1 - 4 / 9, abs=1e-5)


def test_mean_over_samples_and_classes():
    perfect, wrong = 100 * (2 * TRUTH - 1), 100 * (1 - 2 * TRUTH)
    logits = torch.cat([torch.cat([perfect, wrong], 1), torch.cat([perfect, LOGITS], 1)])
    loss = IoULoss(regions=True)(logits, TRUTH.expand(2, 2, 2, 2))
    assert loss.item() == pytest.approx((0 + 1 + 0 + 2 / 3) / 4, abs=1e-5)


def test_background_is_no_class():
    # Class 1 is found, class 2 is missed; background has an IoU of 1/2 that must not count.
    target = torch.tensor([0, 0, 1, 2]).view(1, 1, 2, 2)
    predicted = torch.tensor([0, 0, 1, 0]).view(1, 2, 2)
    logits = 100 * torch.nn.functional.one_hot(predicted, 3).movedim(-1, 1).float()
    assert IoULoss()(logits, target).item() == pytest.approx(1 / 2, abs=1e-4)


def test_nothing_predicted_where_nothing_is():
    logits = torch.full((1, 1, 8, 8), -200.0)
    assert IoULoss(regions=True)(logits, torch.zeros_like(logits)).item() == 0


def test_missed_voxel_costs_everything():
    logits = torch.full((1, 1, 8, 8), -200.0)
    target = torch.zeros_like(logits)
    target[0, 0, 3, 3] = 1
    assert IoULoss(regions=True)(logits, target).item() == pytest.approx(1, abs=1e-4)
