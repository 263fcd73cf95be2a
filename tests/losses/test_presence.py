"""Presence targets and the gate's loss, by hand."""

import math

import pytest
import torch
from torch import nn

from nnunetv2_unet3plus.losses.presence import PresenceGuidedLoss, PresenceRecord, PresenceTarget, presence_loss


def label_map(*rows):
    """(B, 1, 2, 2) from four labels a patch."""
    return torch.tensor(rows).float().view(len(rows), 1, 2, 2)


class TestTarget:
    def test_labels(self):
        target = PresenceTarget(label_map([0, 0, 1, 0], [2, 2, 2, 1], [0, 0, 0, 0]), 2, False, None)
        assert target.present.tolist() == [[True, False], [True, True], [False, False]]
        assert target.counts.all()

    def test_ignored_voxels_count_neither_way(self):
        target = PresenceTarget(label_map([3, 3, 1, 0], [3, 3, 3, 3], [3, 0, 0, 0]), 2, False, 3)
        assert target.present.tolist() == [[True, False], [False, False], [False, False]]
        assert target.counts.tolist() == [True, False, True]

    def test_regions(self):
        regions = torch.tensor([[[1, 1], [0, 0]], [[1, 0], [1, 0]]]).float()[..., None]
        target = PresenceTarget(regions, 2, True, None)
        assert target.present.tolist() == [[True, False], [True, True]]

    def test_regions_with_ignore_mask(self):
        regions = torch.tensor([[[1, 0], [0, 0], [1, 0]], [[1, 1], [0, 1], [1, 1]]]).float()[..., None]
        target = PresenceTarget(regions, 2, True, 3)
        assert target.present.tolist() == [[False, False], [False, False]]
        assert target.counts.tolist() == [True, False]


class TestLoss:
    def test_by_hand(self):
        target = PresenceTarget(label_map([1, 0, 0, 0], [0, 0, 0, 0]), 1, False, None)
        logits = torch.tensor([[[0.0, math.log(3)]], [[math.log(3), 0.0]]])[:, None]
        # first patch, (absent, present) = (0, 1): -log(1 - 1/2), -log(3/4); the second mirrors it
        assert presence_loss(logits, target).item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)

    def test_several_gates_count_alike(self):
        target = PresenceTarget(label_map([1, 0, 0, 0], [0, 0, 0, 0]), 1, False, None)
        gates = torch.randn(3, 2, 1, 1, 2, generator=torch.Generator().manual_seed(0))
        expected = torch.stack([presence_loss(gate, target) for gate in gates]).mean()
        torch.testing.assert_close(presence_loss(torch.cat(list(gates), dim=1), target), expected)

    def test_ignored_patch_does_not_count(self):
        logits = torch.randn(2, 1, 1, 2, generator=torch.Generator().manual_seed(0))
        both = PresenceTarget(label_map([1, 0, 0, 0], [3, 3, 3, 3]), 1, False, 3)
        first = PresenceTarget(label_map([1, 0, 0, 0]), 1, False, 3)
        assert presence_loss(logits, both).equal(presence_loss(logits[:1], first))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
    @pytest.mark.parametrize("labels", [[0, 0, 0, 0], [1, 1, 1, 1], [3, 3, 3, 3]])
    def test_finite_with_finite_gradients(self, labels, dtype):
        target = PresenceTarget(label_map(labels), 2, False, 3)
        for value in (0.0, 1e4, -1e4):
            logits = torch.full((1, 3, 2, 2), value, dtype=dtype, requires_grad=True)
            loss = presence_loss(logits, target)
            loss.backward()
            assert loss.dtype == torch.float32
            assert loss.isfinite()
            assert logits.grad.isfinite().all()

    def test_joins_the_segmentation_loss_with_weight_one(self):
        class Segmentation(nn.Module):
            def forward(self, outputs, targets):
                assert len(outputs) == 2
                return outputs[0].sum() + targets[0].sum()

        loss = PresenceGuidedLoss(Segmentation())
        gate_logits = torch.zeros(1, 1, 1, 2)
        targets = [label_map([1, 0, 0, 0]), torch.zeros(1, 1, 1, 1)]
        assert loss([torch.ones(1, 2, 2, 2), torch.ones(1, 2, 1, 1), gate_logits], targets) == pytest.approx(
            9 + math.log(2)
        )


def test_record():
    record = PresenceRecord()
    assert math.isnan(record.take()[0])
    target = PresenceTarget(label_map([1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [3, 3, 3, 3]), 2, False, 3)
    says = torch.tensor([[[0.0, 1], [1, 0]], [[0, 1], [1, 0]], [[1, 0], [1, 0]], [[0, 1], [0, 1]]])[:, None]
    record.add(says, target)
    assert record.share_of_patches() == [1 / 3, 0]
    assert record.take() == (5 / 6, 2 / 3)
    record.add(says, target)
    record.add(says[:1], PresenceTarget(label_map([1, 2, 0, 0]), 2, False, 3))
    assert record.take() == (6 / 8, 2 / 4)


def test_record_of_several_gates_is_their_average():
    record = PresenceRecord()
    says = torch.tensor([[[[0.0, 1]], [[1, 0]], [[0, 1]]]])  # three gates about one class that is there
    record.add(says, PresenceTarget(label_map([1, 0, 0, 0]), 1, False, None))
    assert record.share_of_patches() == [1]
    assert record.take() == (pytest.approx(2 / 3), 0)
