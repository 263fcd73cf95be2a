import pytest
import torch

from nnunetv2_unet3plus.losses import (
    CompoundLoss,
    FocalLoss,
    HybridLoss,
    IoULoss,
    LaplaceDiceLoss,
    LovaszLoss,
    MSSSIMLoss,
    UNetPlusPlusLoss,
    UNetSharpLoss,
    base,
    ms_ssim,
)


@pytest.mark.parametrize("regions", [False, True], ids=["labels", "regions"])
@pytest.mark.parametrize("ignore", [False, True], ids=["all", "ignore"])
@pytest.mark.parametrize("spatial", [(24, 21), (6, 14, 12)], ids=["2d", "3d"])
def test_hybrid_is_the_sum_of_its_terms(spatial, ignore, regions, make_case):
    case = make_case(regions, ignore, spatial)
    terms = [loss(**case.kwargs)(case.logits, case.target) for loss in (FocalLoss, MSSSIMLoss, IoULoss)]
    torch.testing.assert_close(HybridLoss(**case.kwargs)(case.logits, case.target), sum(terms))


def test_weights(make_case):
    case = make_case(False, False, (24, 21))
    focal, iou = FocalLoss(alpha=0.25), IoULoss()
    loss = CompoundLoss([focal, iou], [0.5, 2.0])
    expected = 0.5 * focal(case.logits, case.target) + 2 * iou(case.logits, case.target)
    torch.testing.assert_close(loss(case.logits, case.target), expected)


def test_one_weight_a_term():
    with pytest.raises(ValueError, match="2 loss terms but 1 weights"):
        CompoundLoss([FocalLoss(), IoULoss()], [1.0])


def test_terms_share_target_and_probabilities(make_case, monkeypatch):
    case = make_case(False, False, (24, 21))
    counts = {"softmax": 0, "pyramid": 0}
    foreground, make_pyramid = base.Prediction.foreground.func, ms_ssim.make_pyramid

    def counted(name, function):
        def call(*args):
            counts[name] += 1
            return function(*args)

        return call

    monkeypatch.setattr(base.Prediction.foreground, "func", counted("softmax", foreground))
    monkeypatch.setattr(ms_ssim, "make_pyramid", counted("pyramid", make_pyramid))
    HybridLoss()(case.logits, case.target)
    assert counts == {"softmax": 1, "pyramid": 1}


def test_training_a_tiny_network_finds_the_organ():
    """A drop-in for nnU-Net's loss: a 1x1 convolution learns a threshold from the image."""
    torch.manual_seed(0)
    organ = torch.zeros(2, 1, 32, 32)
    organ[..., 8:24, 10:22] = 1
    image = organ + 0.1 * torch.randn_like(organ)
    network = torch.nn.Conv2d(1, 2, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9)
    loss = HybridLoss()
    start = loss(network(image), organ).item()
    for _ in range(40):
        optimizer.zero_grad()
        loss(network(image), organ).backward()
        optimizer.step()
    found = network(image).argmax(1, keepdim=True)
    assert loss(network(image), organ).item() < 0.2 * start
    assert (found == organ).float().mean() > 0.99


def test_unetplusplus_loss_is_cross_entropy_and_dice(make_case):
    case = make_case(False, False, (6, 7))
    expected = torch.nn.functional.cross_entropy(case.logits, case.target[:, 0].long())
    expected = expected + LaplaceDiceLoss()(case.logits, case.target)
    torch.testing.assert_close(UNetPlusPlusLoss()(case.logits, case.target), expected)


def test_unetsharp_loss_weighs_its_terms(make_case):
    case = make_case(True, True, (6, 7))
    focal = FocalLoss(alpha=0.25, **case.kwargs)(case.logits, case.target)
    dice, lovasz = (loss(**case.kwargs)(case.logits, case.target) for loss in (LaplaceDiceLoss, LovaszLoss))
    expected = 0.5 * focal + dice + 0.5 * lovasz
    torch.testing.assert_close(UNetSharpLoss(**case.kwargs)(case.logits, case.target), expected)
