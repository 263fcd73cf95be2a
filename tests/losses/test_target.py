import pytest
import torch

from nnunetv2_unet3plus.losses import SegmentationTarget


def logits(channels, *spatial):
    return torch.zeros(1, channels, *spatial)


def test_labels_by_hand():
    target = SegmentationTarget.from_labels(torch.tensor([[[[0.0, 1.0, 2.0]]]]), logits(3, 1, 3))
    assert target.one_hot.tolist() == [[[[1, 0, 0]], [[0, 1, 0]], [[0, 0, 1]]]]
    assert target.foreground.tolist() == [[[[0, 1, 0]], [[0, 0, 1]]]]
    assert target.valid is None


@pytest.mark.parametrize("ignore_label", [-1, 2, 255])
def test_ignored_label_is_in_no_channel(ignore_label):
    target = SegmentationTarget.from_labels(torch.tensor([[[[0, 1, ignore_label]]]]), logits(2, 1, 3), ignore_label)
    assert target.one_hot.tolist() == [[[[1, 0, 0]], [[0, 1, 0]]]]
    assert target.valid.tolist() == [[[[True, True, False]]]]


def test_regions_by_hand():
    regions = torch.tensor([[[[1, 1, 0]], [[0, 1, 1]], [[0, 0, 1]]]])
    every = SegmentationTarget.from_regions(regions, logits(3, 1, 3))
    assert torch.equal(every.foreground, regions.float())
    masked = SegmentationTarget.from_regions(regions, logits(2, 1, 3), has_ignore=True)
    assert masked.foreground.tolist() == [[[[1, 1, 0]], [[0, 1, 0]]]]
    assert masked.valid.tolist() == [[[[True, True, False]]]]


@pytest.mark.parametrize(
    ("given", "inside"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float64, torch.float64)],
    ids=str,
)
def test_at_least_float32(given, inside):
    half = logits(2, 1, 3).to(given)
    assert SegmentationTarget.from_labels(torch.zeros(1, 1, 1, 3), half).one_hot.dtype == inside
    assert SegmentationTarget.from_regions(torch.zeros(1, 2, 1, 3), half).one_hot.dtype == inside


def test_remember_computes_once():
    target = SegmentationTarget.from_labels(torch.zeros(1, 1, 1, 3), logits(2, 1, 3))
    calls = []
    for _ in range(3):
        assert target.remember("answer", lambda: calls.append(1) or 42) == 42
    assert len(calls) == 1


def test_labels_of_another_shape_raise():
    with pytest.raises(ValueError, match=r"target \(1, 1, 4, 4\) does not fit logits \(1, 2, 8, 8\).*\(1, 1, 8, 8\)"):
        SegmentationTarget.from_labels(torch.zeros(1, 1, 4, 4), logits(2, 8, 8))


def test_regions_given_as_labels_raise():
    with pytest.raises(ValueError, match="regions=True"):
        SegmentationTarget.from_labels(torch.zeros(1, 3, 8, 8), logits(3, 8, 8))


def test_softmax_over_one_channel_raises():
    with pytest.raises(ValueError, match="regions=True"):
        SegmentationTarget.from_labels(torch.zeros(1, 1, 8, 8), logits(1, 8, 8))


def test_missing_ignore_mask_raises():
    with pytest.raises(ValueError, match="ignore mask last"):
        SegmentationTarget.from_regions(torch.zeros(1, 2, 8, 8), logits(2, 8, 8), has_ignore=True)


def test_unknown_label_raises():
    with pytest.raises(RuntimeError, match="out of bounds"):
        SegmentationTarget.from_labels(torch.full((1, 1, 8, 8), 2), logits(2, 8, 8))
