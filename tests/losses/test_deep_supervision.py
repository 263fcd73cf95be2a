import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from torch import nn
from torch.nn import functional

from nnunetv2_unet3plus.losses import (
    DeepSupervisionLoss,
    FocalLoss,
    HybridLoss,
    SegmentationLoss,
    deep_supervision,
    equal_weights,
    halving_weights,
    ms_ssim,
)

SIZES = [(32, 28), (16, 14), (8, 7)]
SIZES_3D = [(8, 16, 12), (8, 8, 6), (4, 4, 3)]


def heads_and_targets(sizes=SIZES, channels=3):
    generator = torch.Generator().manual_seed(3)
    heads = [torch.randn(2, channels, *size, generator=generator) for size in sizes]
    targets = [torch.randint(0, channels, (2, 1, *size), generator=generator).float() for size in sizes]
    return heads, targets


def weighted(losses, weights):
    return sum(weight * loss for weight, loss in zip(weights, losses, strict=True))


@pytest.mark.parametrize("loss", [FocalLoss(), HybridLoss()], ids=["focal", "hybrid"])
@pytest.mark.parametrize("sizes", [SIZES, SIZES_3D], ids=["2d", "3d"])
def test_every_head_meets_the_target_of_its_size(loss, sizes):
    heads, targets = heads_and_targets(sizes)
    weights = [0.5, 0.3, 0.2]
    expected = weighted([loss(head, target) for head, target in zip(heads, targets, strict=True)], weights)
    wrapped = DeepSupervisionLoss(loss, weights)
    torch.testing.assert_close(wrapped(heads, targets), expected)
    torch.testing.assert_close(wrapped(heads, targets[::-1]), expected)


def test_one_target_serves_all_full_resolution_heads():
    heads, targets = heads_and_targets([SIZES[0]] * 4)
    loss = FocalLoss()
    expected = sum(loss(head, targets[0]) for head in heads) / 4
    torch.testing.assert_close(DeepSupervisionLoss(loss, equal_weights(4))(heads, targets[0]), expected)
    torch.testing.assert_close(DeepSupervisionLoss(loss, equal_weights(4))(heads, targets[:1]), expected)


def test_targets_of_no_head_are_left_out():
    heads, targets = heads_and_targets()
    loss = DeepSupervisionLoss(FocalLoss(), [1.0])
    torch.testing.assert_close(loss(heads[1:2], targets), FocalLoss()(heads[1], targets[1]))


def test_one_tensor_is_one_head():
    heads, targets = heads_and_targets()
    loss = DeepSupervisionLoss(FocalLoss(), [1.0])
    torch.testing.assert_close(loss(heads[0], targets[0]), FocalLoss()(heads[0], targets[0]))


def test_target_is_prepared_once_a_shape(monkeypatch):
    heads, targets = heads_and_targets([SIZES[0], SIZES[0], SIZES[1], SIZES[0], SIZES[1]])
    prepared, pyramids = [], []
    prepare, make_pyramid = SegmentationLoss.prepare, ms_ssim.make_pyramid
    monkeypatch.setattr(SegmentationLoss, "prepare", lambda *args: prepared.append(1) or prepare(*args))
    monkeypatch.setattr(ms_ssim, "make_pyramid", lambda *args: pyramids.append(1) or make_pyramid(*args))
    DeepSupervisionLoss(HybridLoss(), equal_weights(5))(heads, targets)
    assert len(prepared) == len(pyramids) == 2


@pytest.mark.parametrize("sizes", [SIZES, SIZES_3D], ids=["2d", "3d"])
def test_full_scale_compares_every_head_at_full_size(sizes, monkeypatch):
    heads, targets = heads_and_targets(sizes)
    mode = "bilinear" if len(sizes[0]) == 2 else "trilinear"
    resized = [functional.interpolate(head, sizes[0], mode=mode, align_corners=False) for head in heads]
    loss, weights = HybridLoss(), [0.5, 0.3, 0.2]
    expected = weighted([loss(head, targets[0]) for head in resized], weights)
    pyramids, make_pyramid = [], ms_ssim.make_pyramid
    monkeypatch.setattr(ms_ssim, "make_pyramid", lambda *args: pyramids.append(1) or make_pyramid(*args))
    wrapped = DeepSupervisionLoss(loss, weights, full_scale=True)
    torch.testing.assert_close(wrapped(heads, targets), expected)
    torch.testing.assert_close(wrapped(heads, targets[0]), expected)
    assert len(pyramids) == 2


@pytest.mark.parametrize("at_once", [0, 2 * 3 * 32 * 28 * 2, 2**20], ids=["one by one", "two at once", "all at once"])
@pytest.mark.parametrize(
    ("sizes", "full_scale"), [([SIZES[0]] * 5, False), ([*SIZES, SIZES[0], SIZES[1]], True)], ids=["same", "resized"]
)
def test_heads_of_one_size_share_a_pass(sizes, full_scale, at_once, monkeypatch):
    heads, targets = heads_and_targets(sizes)
    heads = [head.requires_grad_() for head in heads]
    loss, weights = HybridLoss(), halving_weights(5)
    resized = [functional.interpolate(head, SIZES[0], mode="bilinear") for head in heads]
    expected = weighted([loss(head, targets[0]) for head in resized], weights)
    expected_gradients = torch.autograd.grad(expected, heads)
    monkeypatch.setattr(deep_supervision, "LOGITS_AT_ONCE", at_once)
    passes = []
    loss.register_forward_hook(lambda module, inputs, output: passes.append(output.numel()))
    value = DeepSupervisionLoss(loss, weights, full_scale)(heads, targets[:1])
    assert passes == {0: [1] * 5, 2**20: [5]}.get(at_once, [2, 2, 1])
    torch.testing.assert_close(value, expected)
    for gradient, other in zip(torch.autograd.grad(value, heads), expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other)


def test_each_size_has_a_pass_of_its_own():
    sizes = [SIZES[0], SIZES[1], SIZES[0], SIZES[2], SIZES[1]]
    heads, targets = heads_and_targets(sizes)
    loss, passes = HybridLoss(), []
    expected = weighted([loss(heads[k], targets[sizes.index(sizes[k])]) for k in range(5)], halving_weights(5))
    loss.register_forward_hook(lambda module, inputs, output: passes.append(output.numel()))
    value = DeepSupervisionLoss(loss, halving_weights(5))(heads, [targets[0], targets[1], targets[3]])
    assert passes == [2, 2, 1]
    torch.testing.assert_close(value, expected)


def test_other_losses_see_one_head_at_a_time():
    heads, targets = heads_and_targets([SIZES[0]] * 3)
    loss = DC_and_CE_loss({"batch_dice": True, "do_bg": False, "ddp": False}, {})
    expected = weighted([loss(head, targets[0]) for head in heads], halving_weights(3))
    torch.testing.assert_close(DeepSupervisionLoss(loss, halving_weights(3))(heads, targets[:1]), expected)


def test_full_scale_resizes_half_precision_in_float32():
    heads, targets = heads_and_targets()
    wrapped = DeepSupervisionLoss(FocalLoss(), equal_weights(3), full_scale=True)
    rounded = [head.bfloat16() for head in heads]
    torch.testing.assert_close(wrapped(rounded, targets), wrapped([head.float() for head in rounded], targets))


@pytest.mark.parametrize("full_scale", [False, True])
def test_every_head_gets_a_gradient(full_scale):
    heads, targets = heads_and_targets()
    heads = [head.requires_grad_() for head in heads]
    DeepSupervisionLoss(HybridLoss(), [1.0, 1.0, 0.0], full_scale)(heads, targets).backward()
    for head in heads:
        assert head.grad.isfinite().all()
        assert head.grad.abs().sum() > 0


def test_head_without_target_says_what_to_change():
    heads, targets = heads_and_targets()
    with pytest.raises(ValueError, match="head 1") as error:
        DeepSupervisionLoss(FocalLoss(), equal_weights(3))(heads, [targets[0], targets[2]])
    for part in ("(16, 14)", "(32, 28)", "(8, 7)", "deep supervision scales", "full_scale=True"):
        assert part in str(error.value)


@pytest.mark.parametrize("heads", [2, 4])
def test_number_of_heads_and_weights_must_agree(heads):
    outputs, targets = heads_and_targets([SIZES[0]] * heads)
    with pytest.raises(ValueError, match=rf"{heads} heads but 3 weights.*halving_weights\({heads}\)"):
        DeepSupervisionLoss(FocalLoss(), equal_weights(3))(outputs, targets)


@pytest.mark.parametrize("weights", [[], [0.5, -0.5]])
def test_weights_must_be_there_and_positive(weights):
    with pytest.raises(ValueError, match="one non-negative number a head"):
        DeepSupervisionLoss(FocalLoss(), weights)


def test_zero_weight_is_raised():
    assert DeepSupervisionLoss(FocalLoss(), [1.0, 0.0]).weights == (1.0, 1e-6)


@pytest.mark.parametrize("ignore_label", [None, 2])
def test_nnunet_label_loss_gives_nnunet_value(ignore_label):
    heads, targets = heads_and_targets()
    loss = DC_and_CE_loss({"batch_dice": True, "do_bg": False, "ddp": False}, {}, ignore_label=ignore_label)
    weights = halving_weights(3)
    expected = DeepSupervisionWrapper(loss, weights)(heads, targets)
    torch.testing.assert_close(DeepSupervisionLoss(loss, weights)(heads, targets), expected)


def test_nnunet_region_loss_gives_nnunet_value():
    heads, _ = heads_and_targets()
    generator = torch.Generator().manual_seed(4)
    targets = [(torch.rand(2, 4, *size, generator=generator) < 0.5).float() for size in SIZES]
    loss = DC_and_BCE_loss({}, {"batch_dice": True, "do_bg": True, "ddp": False}, use_ignore_label=True)
    expected = DeepSupervisionWrapper(loss, equal_weights(3))(heads, targets)
    torch.testing.assert_close(DeepSupervisionLoss(loss, equal_weights(3))(heads, targets), expected)


def test_regions_with_ignore_mask():
    heads, _ = heads_and_targets()
    generator = torch.Generator().manual_seed(4)
    targets = [torch.rand(2, 4, *size, generator=generator) < 0.5 for size in SIZES]
    loss = HybridLoss(regions=True, ignore_label=4)
    expected = weighted([loss(head, target) for head, target in zip(heads, targets, strict=True)], equal_weights(3))
    torch.testing.assert_close(DeepSupervisionLoss(loss, equal_weights(3))(heads, targets), expected)


def test_any_module_may_be_the_loss():
    class Shapes(nn.Module):
        def forward(self, logits, target):
            assert logits.shape[2:] == target.shape[2:]
            return logits.new_tensor(float(logits.shape[2]))

    heads, targets = heads_and_targets()
    assert DeepSupervisionLoss(Shapes(), [1.0, 1.0, 1.0])(heads, targets).item() == 32 + 16 + 8


def test_halving_weights():
    assert halving_weights(1) == [1]
    assert halving_weights(3) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert sum(halving_weights(9)) == pytest.approx(1)


def test_equal_weights():
    assert equal_weights(4) == [0.25] * 4


def test_full_scale_keeps_the_logits_and_no_full_size_copies():
    """Eight heads at full size would keep more for backward than the decoder that made them."""
    heads = [torch.randn(1, 3, 64 // 2**level, 64 // 2**level, requires_grad=True) for level in range(4)]
    target = torch.randint(0, 3, (1, 1, 64, 64)).float()
    loss = DeepSupervisionLoss(HybridLoss(), halving_weights(4), full_scale=True)
    logits = {head.data_ptr() for head in heads}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) if t.data_ptr() not in logits else None, lambda t: t
    ):
        loss(heads, [target])
    assert sum(kept) < 64  # weights and sums of the heads


def test_many_heads_of_full_size_keep_only_their_logits():
    heads = [torch.randn(1, 3, 32, 32, requires_grad=True) for _ in range(3)]
    heads.append(torch.randn(1, 3, 16, 16, requires_grad=True))
    targets = [torch.randint(0, 3, (1, 1, n, n)).float() for n in (32, 16)]
    logits = {head.data_ptr() for head in heads}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) if t.data_ptr() not in logits else None, lambda t: t
    ):
        DeepSupervisionLoss(HybridLoss(), equal_weights(4))(heads, targets)
    assert max(kept) <= 3 * 16 * 16  # those of the one head that has its size to itself
