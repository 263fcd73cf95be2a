"""Losses of single slices: what the wrapped loss is given, and that it is the 2D form."""

import pytest
import torch

from nnunetv2_unet3plus.losses import HybridLoss, SliceWiseLoss


def test_slices_become_images_in_order():
    """Of every output and target; a value reads patch, slice."""
    given = []
    patches = torch.tensor([[11.0, 12, 13], [21, 22, 23]]).view(2, 1, 3, 1, 1)
    loss = SliceWiseLoss(lambda outputs, targets: given.extend([outputs, targets]))
    loss([patches, -patches], patches)
    (outputs, negative), target = given
    assert outputs.flatten().tolist() == [11, 12, 13, 21, 22, 23]
    assert outputs.shape == (6, 1, 1, 1)
    assert negative.equal(-outputs)
    assert target.equal(outputs)


def test_is_the_2d_loss_of_all_slices():
    """Not the 3D one, whose windows of structural similarity reach into other slices."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 24, 24, generator=generator)
    target = torch.randint(0, 3, (2, 1, 4, 24, 24), generator=generator)
    loss = HybridLoss()
    one_by_one = [loss(logits[b : b + 1, :, d], target[b : b + 1, :, d]) for b in range(2) for d in range(4)]
    sliced = SliceWiseLoss(loss)(logits, target)
    assert sliced.item() == pytest.approx(torch.stack(one_by_one).mean().item(), rel=1e-5)
    assert sliced.item() != pytest.approx(loss(logits, target).item(), rel=1e-3)
