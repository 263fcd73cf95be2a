"""What holds for every loss: the parametrised sweep over losses, dimensions, target kinds and the ignore label."""

import pytest
import torch

from nnunetv2_unet3plus.losses import (
    FocalLoss,
    HybridLoss,
    IoULoss,
    LaplaceDiceLoss,
    LovaszLoss,
    MSSSIMLoss,
    SegmentationLoss,
    UNetPlusPlusLoss,
    UNetSharpLoss,
)

LOSSES = [FocalLoss, MSSSIMLoss, IoULoss, HybridLoss, LaplaceDiceLoss, LovaszLoss, UNetPlusPlusLoss, UNetSharpLoss]
SPATIAL = [(24, 21), (6, 14, 12)]

pytestmark = [pytest.mark.parametrize("loss_class", LOSSES)]
each_kind = pytest.mark.parametrize("regions", [False, True], ids=["labels", "regions"])
each_size = pytest.mark.parametrize("spatial", SPATIAL, ids=["2d", "3d"])
with_and_without_ignore = pytest.mark.parametrize("ignore", [False, True], ids=["all", "ignore"])


def value_and_gradient(loss, logits, target):
    logits = logits.clone().requires_grad_()
    value = loss(logits, target)
    value.backward()
    return value.detach(), logits.grad


def everything_ignored(case):
    if case.ignored is None:
        return case.logits, case.target
    target = case.target.clone()
    if case.kwargs["regions"]:
        target[:, -1] = 1
    else:
        target[:] = case.kwargs["ignore_label"]
    return case.logits, target


def empty_target(case):
    target = case.target.clone()
    kept = target[:, -1:].clone() if case.kwargs["regions"] and case.ignored is not None else target[:, :0]
    target = torch.zeros_like(target[:, : target.shape[1] - kept.shape[1]])
    return case.logits, torch.cat([target, kept], 1)


def one_voxel(case):
    target = torch.zeros_like(case.target)
    target[(slice(None), 0, *(n // 2 for n in target.shape[2:]))] = 1
    return case.logits, target


def empty_prediction(case):
    logits = torch.full_like(case.logits, -50.0)
    if not case.kwargs["regions"]:
        logits[:, 0] = 50
    return logits, case.target


SITUATIONS = {
    "ordinary": lambda case: (case.logits, case.target),
    "empty target": empty_target,
    "empty prediction": empty_prediction,
    "empty both": lambda case: (empty_prediction(case)[0], empty_target(case)[1]),
    "all ignored": everything_ignored,
    "one voxel": one_voxel,
    "one voxel, nothing predicted": lambda case: (empty_prediction(case)[0], one_voxel(case)[1]),
    "huge logits": lambda case: (case.logits.sign() * 1e4, case.target),
    "huge and right": lambda case: (case.logits_of(1e4), case.target),
    "huge and wrong": lambda case: (case.logits_of(-1e4), case.target),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("situation", SITUATIONS)
@with_and_without_ignore
@each_kind
@each_size
def test_finite_everywhere(loss_class, spatial, regions, ignore, situation, dtype, make_case):
    case = make_case(regions, ignore, spatial)
    logits, target = SITUATIONS[situation](case)
    value, gradient = value_and_gradient(loss_class(**case.kwargs), logits.to(dtype), target)
    assert value.dtype == torch.float32
    assert value.ndim == 0
    assert value.isfinite()
    assert value > -1e-5
    assert gradient.dtype == dtype
    assert gradient.isfinite().all()


@each_kind
@each_size
def test_ignored_voxels_have_no_influence(loss_class, spatial, regions, make_case):
    case = make_case(regions, True, spatial)
    loss = loss_class(**case.kwargs)
    value, gradient = value_and_gradient(loss, case.logits, case.target)
    ignored = case.ignored.expand_as(gradient)
    assert (gradient[ignored] == 0).all()
    assert (gradient[~ignored] != 0).any()

    elsewhere = case.target.clone()
    if regions:  # what the regions say under the mask is arbitrary
        elsewhere[:, :-1] = torch.where(case.ignored, 1 - elsewhere[:, :-1], elsewhere[:, :-1])
    changed, _ = value_and_gradient(loss, torch.where(ignored, 7 - case.logits, case.logits), elsewhere)
    assert changed == value
    visible, _ = value_and_gradient(loss, 7 - case.logits, case.target)
    assert visible != value


@each_kind
def test_all_ignored_trains_nothing(loss_class, regions, make_case):
    case = make_case(regions, True, (24, 21))
    value, gradient = value_and_gradient(loss_class(**case.kwargs), *everything_ignored(case))
    assert value.abs() < 1e-5
    assert (gradient == 0).all()


@with_and_without_ignore
@each_kind
@each_size
def test_perfect_is_zero_and_worst_is_worst(loss_class, spatial, regions, ignore, make_case):
    case = make_case(regions, ignore, spatial)
    loss = loss_class(**case.kwargs)
    perfect = loss(case.logits_of(20.0), case.target)
    undecided = loss(torch.zeros_like(case.logits), case.target)
    worst = loss(case.logits_of(-20.0), case.target)
    assert perfect.abs() < 1e-4
    assert perfect < undecided < worst
    assert worst > 0.9


@with_and_without_ignore
@each_kind
@pytest.mark.parametrize("spatial", [(13, 12), (3, 4, 5)], ids=["2d", "3d"])
def test_gradient_is_the_derivative(loss_class, spatial, regions, ignore, make_case):
    case = make_case(regions, ignore, spatial, batch=1)
    loss = loss_class(**case.kwargs)
    logits = case.logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, case.target), (logits,), fast_mode=True)


@with_and_without_ignore
@each_kind
def test_float32_inside_autocast(loss_class, regions, ignore, make_case):
    case = make_case(regions, ignore, (24, 21))
    loss = loss_class(**case.kwargs)
    plain, plain_gradient = value_and_gradient(loss, case.logits, case.target)
    logits = case.logits.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(logits, case.target)
        half = loss(case.logits.bfloat16(), case.target)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.dtype == half.dtype == torch.float32
    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(gradient, plain_gradient)
    torch.testing.assert_close(half, loss(case.logits.bfloat16().float(), case.target))


@with_and_without_ignore
@each_kind
def test_target_type_does_not_matter(loss_class, regions, ignore, make_case):
    case = make_case(regions, ignore, (24, 21))
    loss = loss_class(**case.kwargs)
    expected = loss(case.logits, case.target)
    for dtype in [torch.uint8, torch.int16, torch.int64] + [torch.bool] * regions:
        assert loss(case.logits, case.target.to(dtype)) == expected


@with_and_without_ignore
@each_kind
def test_prepared_target_serves_every_loss(loss_class, regions, ignore, make_case):
    case = make_case(regions, ignore, (24, 21))
    loss = loss_class(**case.kwargs)
    prepared = FocalLoss(**case.kwargs).prepare(case.target, case.logits)
    for logits in (case.logits, -case.logits):
        assert loss(logits, prepared) == loss(logits, case.target)


@with_and_without_ignore
@each_kind
@each_size
def test_several_heads_at_once_are_heads_one_by_one(loss_class, spatial, regions, ignore, make_case):
    case = make_case(regions, ignore, spatial)
    loss = loss_class(**case.kwargs)
    target = loss.prepare(case.target, case.logits)
    heads = torch.stack([case.logits, -case.logits, case.logits_of(3.0)]).requires_grad_()
    together = loss(heads, target)
    one_by_one = torch.stack([loss(head, target) for head in heads])
    assert together.shape == (3,)
    torch.testing.assert_close(together, one_by_one)
    weights = torch.tensor([0.5, 2.0, 1.0])
    gradients = [torch.autograd.grad((weights * losses).sum(), heads)[0] for losses in (together, one_by_one)]
    torch.testing.assert_close(*gradients)


def test_labels_and_regions_agree_on_one_class(loss_class, make_case):
    """Softmax over (0, x) is the sigmoid of x: the papers' one-channel setting."""
    case = make_case(False, False, (24, 21))
    x, organ = case.logits[:, :1], (case.target > 0).float()
    as_labels = loss_class()(torch.cat([torch.zeros_like(x), x], 1), organ)
    as_region = loss_class(regions=True)(x, organ)
    torch.testing.assert_close(as_labels, as_region)


def test_inputs_are_left_alone(loss_class, make_case):
    for regions in (False, True):
        case = make_case(regions, True, (24, 21))
        logits, target = case.logits.clone(), case.target.clone()
        loss_class(**case.kwargs)(logits, target)
        assert torch.equal(logits, case.logits)
        assert torch.equal(target, case.target)


def test_is_a_stateless_segmentation_loss(loss_class):
    loss = loss_class()
    assert isinstance(loss, SegmentationLoss)
    assert not loss.state_dict()
