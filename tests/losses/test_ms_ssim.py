import pytest
import torch
from pytorch_msssim import ms_ssim as oracle_ms_ssim

from nnunetv2_unet3plus.losses import MSSSIMLoss
from nnunetv2_unet3plus.losses.ms_ssim import (
    SCALE_WEIGHTS,
    SMALL,
    halve,
    make_pyramid,
    number_of_scales,
    positive,
    weighted_product,
)
from nnunetv2_unet3plus.losses.ssim import C1, ssim


def disc(*spatial):
    grid = torch.meshgrid([torch.linspace(-1, 1, n) for n in spatial], indexing="ij")
    return (sum(axis**2 for axis in grid) < 0.3).float()[None, None]


def test_agrees_with_pytorch_msssim():
    """Recombined its way (luminance at the coarsest scale only), value and gradient are those of pytorch-msssim."""
    generator = torch.Generator().manual_seed(2)
    truth = disc(176, 192).expand(2, 2, 176, 192)
    predicted = (0.6 * truth + 0.4 * torch.rand(truth.shape, generator=generator)).requires_grad_()
    pyramid = make_pyramid(truth)
    assert len(pyramid) == 5
    image, factors = predicted, []
    for scale, reference in enumerate(pyramid):
        image = halve(image) if scale else image
        similarity, contrast = ssim(image, reference)
        factors.append(similarity if scale == 4 else contrast)
    ours = torch.stack([x**weight for x, weight in zip(factors, SCALE_WEIGHTS, strict=True)]).prod(0).mean()
    theirs = oracle_ms_ssim(predicted, truth, data_range=1.0)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, predicted)[0], torch.autograd.grad(theirs, predicted)[0], rtol=1e-3, atol=1e-8
    )


@pytest.mark.parametrize("spatial", [(176, 180), (50, 30), (7, 9), (20, 24, 22), (1, 30, 30), (1, 1, 1)])
@pytest.mark.parametrize("p", [0.3, 0.9])
def test_constant_prediction_by_hand(spatial, p):
    # Everything is organ, predicted with p everywhere: the same luminance at every scale, weights sum to 1.
    logits = torch.full((1, 1, *spatial), p, dtype=torch.float64).logit()
    loss = MSSSIMLoss(regions=True)(logits, torch.ones(1, 1, *spatial))
    assert loss.item() == pytest.approx(1 - (2 * p + C1) / (p**2 + 1 + C1), abs=1e-9)


def test_product_over_scales_by_hand():
    similarities = [torch.tensor([[value]]) for value in (0.9, 0.5)]
    expected = 0.9 ** (0.0448 / 0.3304) * 0.5 ** (0.2856 / 0.3304)
    assert weighted_product(similarities).item() == pytest.approx(expected, rel=1e-6)


def test_mean_over_samples_and_classes():
    truth = disc(40, 40)
    near, far = 6 * (truth - 0.5), 2 * (truth - 0.5)
    loss = MSSSIMLoss(regions=True)
    parts = [loss(logits, truth) for logits in (near, far, far, far)]
    together = loss(torch.cat([torch.cat([near, far], 1), torch.cat([far, far], 1)]), truth.expand(2, 2, 40, 40))
    torch.testing.assert_close(together, torch.stack(parts).mean())
    assert parts[0] < parts[1]


@pytest.mark.parametrize(
    ("spatial", "scales"),
    [
        ((1, 1), 1),
        ((20, 8), 1),  # 10 would be too short
        ((21, 8), 2),  # 21, 11
        ((41, 8), 3),  # 41, 21, 11
        ((160, 160), 4),  # 160, 80, 40, 20
        ((161, 5), 5),  # 161, 81, 41, 21, 11
        ((512, 512), 5),
        ((16, 320, 320), 5),
        ((128, 128, 128), 4),
        ((8, 12, 12), 1),
    ],
)
def test_number_of_scales(spatial, scales):
    assert number_of_scales(spatial) == scales


def test_every_scale_keeps_a_window_on_the_longest_axis():
    pyramid = make_pyramid(disc(3, 161, 20))
    assert [tuple(scale.image.shape[2:]) for scale in pyramid] == [
        (3, 161, 20),
        (2, 81, 10),
        (1, 41, 5),
        (1, 21, 3),
        (1, 11, 2),
    ]
    assert [scale.windows[1].shape[0] for scale in pyramid] == [151, 71, 31, 11, 1]


def test_halving_keeps_the_odd_row():
    image = torch.tensor([[1.0, 3.0, 8.0], [1.0, 3.0, 8.0], [2.0, 2.0, 6.0]])[None, None]
    assert halve(image).tolist() == [[[[2, 8], [2, 6]]]]
    assert halve(image[..., :1]).tolist() == [[[[1], [2]]]]
    assert halve(image[:, :, None]).tolist() == [[[[[2, 8], [2, 6]]]]]


def test_binary_shortcut_is_exact():
    truth = disc(40, 44)
    variance = make_pyramid(truth)[0].variance
    windows = make_pyramid(truth)[0].windows
    mean = windows[0] @ truth @ windows[1].T
    torch.testing.assert_close(variance, windows[0] @ truth**2 @ windows[1].T - mean**2)


def test_positive_joins_smoothly():
    x = torch.tensor([SMALL - 1e-9, SMALL, SMALL + 1e-9], dtype=torch.float64, requires_grad=True)
    y = positive(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(y, x)
    torch.testing.assert_close(slope, torch.ones_like(x), rtol=1e-5, atol=0)


def test_positive_by_hand():
    assert positive(torch.tensor([0.5, 1.0])).tolist() == [0.5, 1.0]
    # At 0 half of SMALL; at -1, 1e-4 / 1.02.
    assert positive(torch.tensor([0.0, -1.0])).tolist() == pytest.approx([SMALL / 2, 1e-4 / 1.02])


def test_positive_rises_everywhere():
    values = positive(torch.linspace(-1, 1, 2001, dtype=torch.float64))
    assert (values > 0).all()
    assert (values.diff() > 0).all()


@pytest.mark.parametrize("spatial", [(48, 48), (16, 16, 16)])
def test_gradient_lives_where_similarity_is_negative(spatial):
    """From an inverted mask, where a ReLU would leave nothing, every voxel has a gradient and following it arrives."""
    truth = disc(*spatial)
    logits = (1 - 2 * truth).requires_grad_()
    assert ssim(logits.sigmoid(), make_pyramid(truth)[0])[0] < 0
    loss = MSSSIMLoss(regions=True)
    start = loss(logits, truth)
    (gradient,) = torch.autograd.grad(start, logits)
    assert (gradient != 0).all()
    optimizer = torch.optim.Adam([logits], lr=0.5)
    for _ in range(30):
        optimizer.zero_grad()
        loss(logits, truth).backward()
        optimizer.step()
    assert start > 0.95
    assert loss(logits, truth) < 0.1


def test_prefers_the_right_boundary():
    """MS-SSIM is there for boundaries: a mask shifted by two voxels is worse than one shifted by one."""
    truth = disc(64, 64)
    loss = MSSSIMLoss(regions=True)
    values = [loss(20 * (2 * truth.roll(shift, -1) - 1), truth).item() for shift in (0, 1, 2, 4)]
    assert values == sorted(values)
    assert values[1] > values[0] + 0.01
