import pytest
import torch
from pytorch_msssim import ssim as oracle_ssim
from skimage.metrics import structural_similarity
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_unet3plus.losses.ssim import C1, filter_axes, make_reference, ssim, window_matrix


def random_images(*shape):
    generator = torch.Generator().manual_seed(1)
    truth = (torch.rand(shape, generator=generator) < 0.3).double()
    return 0.5 * truth + 0.5 * torch.rand(shape, generator=generator, dtype=torch.float64), truth


@pytest.mark.parametrize("spatial", [(11, 11), (32, 25), (13, 16, 21)])
@pytest.mark.parametrize("binary", [True, False])
def test_agrees_with_scikit_image(spatial, binary):
    predicted, truth = random_images(2, 3, *spatial)
    if not binary:
        truth = truth * 0.8 + 0.1
    value, _ = ssim(predicted, make_reference(truth, binary=binary))
    for sample in range(2):
        for channel in range(3):
            expected = structural_similarity(
                predicted[sample, channel].numpy(),
                truth[sample, channel].numpy(),
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=1.0,
            )
            assert value[sample, channel].item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("spatial", [(24, 30), (12, 16, 14)])
def test_agrees_with_pytorch_msssim(spatial):
    predicted, truth = (image.float() for image in random_images(2, 3, *spatial))
    value, _ = ssim(predicted, make_reference(truth, binary=True))
    torch.testing.assert_close(value.mean(1), oracle_ssim(predicted, truth, data_range=1.0, size_average=False))


def test_constant_images_by_hand():
    # No variance: the contrast term is C2 / C2, what is left is luminance of 0.3 against 1.
    predicted = torch.full((1, 1, 16, 16), 0.3, dtype=torch.float64)
    value, contrast = ssim(predicted, make_reference(torch.ones_like(predicted), binary=True))
    assert contrast.item() == pytest.approx(1, abs=1e-9)
    assert value.item() == pytest.approx((2 * 0.3 + C1) / (0.3**2 + 1 + C1), abs=1e-9)


def test_one_voxel_axes_by_hand():
    """A window of one voxel sees no variance either."""
    predicted = torch.full((1, 1, 1, 1), 0.3, dtype=torch.float64)
    value, _ = ssim(predicted, make_reference(torch.ones_like(predicted), binary=True))
    assert value.item() == pytest.approx((2 * 0.3 + C1) / (0.3**2 + 1 + C1), abs=1e-9)


@pytest.mark.parametrize("spatial", [(12, 13), (1, 5, 12)])
def test_gradient_is_the_derivative(spatial):
    predicted, truth = random_images(1, 2, *spatial)
    reference = make_reference(truth, binary=True)
    assert torch.autograd.gradcheck(lambda image: ssim(image, reference), (predicted.requires_grad_(),))


@pytest.mark.parametrize(("length", "window"), [(1, 1), (2, 1), (3, 3), (4, 3), (10, 9), (11, 11), (12, 11), (40, 11)])
def test_window_fits_the_axis(length, window):
    matrix = window_matrix(length, torch.device("cpu"), torch.float64)
    assert matrix.shape == (length - window + 1, length)
    torch.testing.assert_close(matrix.sum(1), torch.ones_like(matrix[:, 0]))
    assert ((matrix > 0).sum(1) == window).all()


def test_window_slides_by_one():
    matrix = window_matrix(20, torch.device("cpu"), torch.float32)
    for row in range(1, 10):
        assert torch.equal(matrix[row, 1:], matrix[row - 1, :-1])


@pytest.mark.parametrize("spatial", [(14, 17), (12, 13, 15)])
def test_filter_is_a_convolution(spatial):
    image, _ = random_images(2, 1, *spatial)
    windows = [window_matrix(length, torch.device("cpu"), torch.float64) for length in spatial]
    line = windows[0][0, :11]
    kernel = line
    for _ in spatial[1:]:
        kernel = kernel[..., None] * line
    convolve = functional.conv2d if len(spatial) == 2 else functional.conv3d
    torch.testing.assert_close(filter_axes(image, windows), convolve(image, kernel[None, None]))


@pytest.mark.parametrize("length", [1, 12, 106, 107, 128, 139, 320])
@pytest.mark.parametrize("transposed", [False, True])
def test_blocks_give_the_whole_product(length, transposed):
    window = window_matrix(length, torch.device("cpu"), torch.float64)
    window = window.T if transposed else window
    maps = torch.rand(2, window.shape[1], window.shape[1], dtype=torch.float64)
    torch.testing.assert_close(filter_axes(maps, [window, window]), window @ maps @ window.T)


def test_long_axes_are_filtered_in_blocks():
    """The zeros of 310 x 320 would cost eight times the work."""
    window = window_matrix(320, torch.device("cpu"), torch.float32)
    with FlopCounterMode(display=False) as counter:
        filter_axes(torch.rand(1, 320), [window])
    assert counter.get_total_flops() < 2 * window.numel() / 6


def test_gradient_of_long_axes_is_the_derivative():
    predicted, truth = random_images(1, 1, 3, 110)
    reference = make_reference(truth, binary=True)
    predicted.requires_grad_()
    assert torch.autograd.gradcheck(lambda image: ssim(image, reference), (predicted,), fast_mode=True)


def test_images_with_axes_in_front_share_the_reference():
    predicted, truth = random_images(2, 3, 14, 13)
    reference = make_reference(truth, binary=True)
    others = torch.stack([predicted, truth, predicted.flip(0)])
    for together, apart in zip(
        ssim(others, reference), zip(*[ssim(image, reference) for image in others], strict=True), strict=True
    ):
        torch.testing.assert_close(together, torch.stack(apart))


def test_window_first_made_in_inference_serves_training():
    window_matrix.cache_clear()
    predicted, truth = random_images(1, 1, 12, 12)
    with torch.inference_mode():
        ssim(predicted, make_reference(truth, binary=True))
    predicted.requires_grad_()
    ssim(predicted, make_reference(truth, binary=True))[0].sum().backward()
    assert predicted.grad.abs().sum() > 0


def test_little_is_kept_for_backward():
    """Three filtered moments and nothing else: the maps made of them are recomputed."""
    predicted, truth = random_images(1, 1, 128, 128)
    predicted.requires_grad_()
    reference = make_reference(truth, binary=True)
    known = {tensor.data_ptr() for tensor in (predicted, *reference[:3], *reference.windows)}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        ssim(predicted, reference)
    stored = sum(size for pointer, size in kept.items() if pointer not in known)
    assert stored <= 3 * predicted.nbytes
