from math import log

import pytest
import torch
from torch.nn import functional

from nnunetv2_unet3plus.losses import FocalLoss

# Logits (0, ln 3): softmax (1/4, 3/4), and sigmoid(ln 3) = 3/4 for one channel.
LOGITS = torch.tensor([0.0, log(3)]).view(1, 2, 1, 1)
EASY = (1 / 4) ** 2 * -log(3 / 4)  # p_t = 3/4
HARD = (3 / 4) ** 2 * -log(1 / 4)  # p_t = 1/4


@pytest.mark.parametrize(
    ("alpha", "label", "expected"),
    [(None, 1, EASY), (None, 0, HARD), (0.25, 1, 0.25 * EASY), (0.25, 0, 0.75 * HARD)],
)
def test_one_voxel_by_hand(alpha, label, expected):
    target = torch.full((1, 1, 1, 1), label)
    as_labels = FocalLoss(alpha=alpha)(LOGITS, target)
    as_region = FocalLoss(alpha=alpha, regions=True)(LOGITS[:, 1:], target)
    assert as_labels.item() == pytest.approx(expected, rel=1e-5)
    assert as_region.item() == pytest.approx(expected, rel=1e-5)


def test_alpha_weighs_every_foreground_label_alike():
    logits = torch.zeros(1, 3, 1, 3)  # p = 1/3 for each class
    target = torch.tensor([[[[0, 1, 2]]]])
    one = (2 / 3) ** 2 * log(3)
    assert FocalLoss(alpha=0.25)(logits, target).item() == pytest.approx((0.75 + 0.25 + 0.25) / 3 * one, rel=1e-5)


def test_mean_over_voxels_that_count():
    logits = LOGITS.expand(1, 2, 1, 3)
    target = torch.tensor([[[[1, 0, 9]]]])
    assert FocalLoss(ignore_label=9)(logits, target).item() == pytest.approx((EASY + HARD) / 2, rel=1e-5)
    regions = torch.tensor([[[[1, 0, 1]], [[0, 0, 1]]]])  # one region, then the ignore mask
    loss = FocalLoss(regions=True, ignore_label=9)(logits[:, 1:], regions)
    assert loss.item() == pytest.approx((EASY + HARD) / 2, rel=1e-5)


@pytest.mark.parametrize("spatial", [(9, 8), (4, 5, 6)], ids=["2d", "3d"])
def test_gamma_zero_is_cross_entropy(spatial, make_case):
    case = make_case(False, True, spatial)
    expected = functional.cross_entropy(case.logits, case.target[:, 0].long(), ignore_index=3)
    torch.testing.assert_close(FocalLoss(gamma=0, **case.kwargs)(case.logits, case.target), expected)


@pytest.mark.parametrize("spatial", [(9, 8), (4, 5, 6)], ids=["2d", "3d"])
def test_gamma_zero_is_binary_cross_entropy(spatial, make_case):
    case = make_case(True, False, spatial)
    expected = functional.binary_cross_entropy_with_logits(case.logits, case.target)
    torch.testing.assert_close(FocalLoss(gamma=0, **case.kwargs)(case.logits, case.target), expected)


def test_extreme_logits_lose_nothing():
    """At p_t = 0 the loss is the logit difference itself, and its slope is 1: no clamp flattens it."""
    logits = torch.tensor([1e4, -1e4]).view(1, 2, 1, 1).requires_grad_()
    loss = FocalLoss()(logits, torch.ones(1, 1, 1, 1))
    loss.backward()
    assert loss.item() == 2e4
    assert logits.grad.flatten().tolist() == [1, -1]


@pytest.mark.parametrize("wrong", [{"gamma": 0.5}, {"gamma": -1.0}, {"alpha": 1.5}, {"alpha": -0.1}])
def test_wrong_settings_raise(wrong):
    with pytest.raises(ValueError, match="must"):
        FocalLoss(**wrong)
