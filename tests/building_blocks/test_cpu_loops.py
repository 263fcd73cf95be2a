"""The compiled loops against PyTorch in double precision, and where they come from."""

import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from nnunetv2_unet3plus.building_blocks import cpu_loops, norm_operator, resize_conv_tiles, winograd
from nnunetv2_unet3plus.building_blocks.cpu_loops import compiled_loops, loops_for
from nnunetv2_unet3plus.building_blocks.memory_format import channels_last
from nnunetv2_unet3plus.building_blocks.norm_nonlin import join
from nnunetv2_unet3plus.building_blocks.norm_operator import statistics
from nnunetv2_unet3plus.building_blocks.recompute import own_operators
from nnunetv2_unet3plus.building_blocks.resize_conv_tiles import resize_conv_by_tiles
from nnunetv2_unet3plus.building_blocks.winograd import winograd_conv2d
from tests.building_blocks.test_resize_conv import CASES, inputs, plain_form

needs_compiler = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="the loops are compiled on Linux, by a C compiler"
)


@pytest.fixture(autouse=True)
def _as_the_package_decides(monkeypatch):
    """Whatever the caller's environment says."""
    for variable in ("CC", cpu_loops.SWITCH):
        monkeypatch.delenv(variable, raising=False)
    cpu_loops.compiled_or_why_not.cache_clear()
    torch.manual_seed(0)
    yield
    cpu_loops.compiled_or_why_not.cache_clear()


@needs_compiler
def test_there_are_loops_where_there_is_a_compiler():
    assert cpu_loops.compiled_or_why_not() is compiled_loops()


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def called(monkeypatch):
    """The names of the loops that were called."""
    names = []

    class Recorded:
        def __getattr__(self, name):
            names.append(name)
            return getattr(real, name)

    real = compiled_loops()
    monkeypatch.setattr(cpu_loops, "compiled_loops", lambda: Recorded())
    return names


def errors(ours, exact):
    """Root mean square of every difference, in roundings of the spread of the exact values."""
    eps = torch.finfo(torch.float32).eps
    return [float(((a - b).square().mean().sqrt() / b.std()).detach()) / eps for a, b in zip(ours, exact, strict=True)]


def values_and_gradients(function, tensors, seed, dtype):
    tensors = [t.detach().to(dtype).requires_grad_() for t in tensors]
    y = function(*tensors)
    return [y.detach(), *torch.autograd.grad(y, tensors, seed.to(dtype))]


@needs_compiler
class TestWinograd:
    @pytest.mark.parametrize("channels", [(16, 16), (48, 32), (32, 80), (160, 16)])
    @pytest.mark.parametrize("size", [(24, 23), (41, 18), (5, 700)])
    def test_values_and_gradients(self, size, channels, threads, called, monkeypatch):
        monkeypatch.setattr(winograd, "LEAST_PIXELS_A_CHANNEL_COMPILED", 1)
        generator = torch.Generator().manual_seed(0)
        in_channels, out_channels = channels
        x = torch.randn(2, in_channels, *size, generator=generator, dtype=torch.float64)
        weight = torch.randn(out_channels, in_channels, 3, 3, generator=generator, dtype=torch.float64)
        bias = torch.randn(out_channels, generator=generator, dtype=torch.float64)
        seed = torch.randn(2, out_channels, *size, generator=generator, dtype=torch.float64)
        tensors = [channels_last(x), weight / (9 * in_channels) ** 0.5, bias]
        exact = values_and_gradients(lambda *t: functional.conv2d(*t, padding=1), tensors, seed, torch.float64)
        ours = values_and_gradients(winograd_conv2d, tensors, seed, torch.float32)
        assert set(called) == {
            *("winograd_kernels", "winograd_conv", "winograd_kernel_gradient", "winograd_kernels_adjoint")
        }
        assert ours[0].is_contiguous(memory_format=torch.channels_last)
        assert max(errors(ours, exact)) < 40

    def test_one_pixel_by_hand(self, called):
        """A kernel that looks one pixel up and left moves a pixel down and right, and none beyond the border."""
        x = torch.zeros(1, 16, 16, 17)
        x[0, 3, 7, 7], x[0, 3, 15, 16] = 2, 5
        weight = torch.zeros(32, 16, 3, 3)
        weight[20, 3, 0, 0] = 3
        expected = torch.zeros(1, 32, 16, 17)
        expected[0, 20, 8, 8] = 6
        torch.testing.assert_close(winograd_conv2d(channels_last(x), weight, None), expected, rtol=0, atol=1e-5)
        assert called == ["winograd_kernels", "winograd_conv"]

    def test_bias_of_any_strides_and_type(self, called):
        x, weight = channels_last(torch.randn(1, 16, 20, 18)), torch.randn(32, 16, 3, 3)
        for bias in (torch.randn(64)[::2], torch.ones(1).expand(32), torch.randn(32, dtype=torch.float64)):
            expected = functional.conv2d(x, weight, bias.float(), padding=1)
            torch.testing.assert_close(winograd_conv2d(x, weight, bias), expected, rtol=0, atol=1e-4)
        assert called == ["winograd_kernels", "winograd_conv"] * 3

    @pytest.mark.parametrize("cores", [1, 2, 16, 64])
    def test_blocks_are_shared_out_evenly(self, cores, monkeypatch):
        monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
        work = winograd.WORKSPACES.of(torch.zeros(1))
        for channels, side in ((32, 256), (128, 128), (320, 160), (512, 64)):
            tiles, memory = winograd._block(torch.empty(side, side, channels, device="meta"), work, channels)
            blocks = -(-((side // 4) ** 2) // tiles)
            assert memory.shape == (cores, 36 * (tiles * 2 * channels + 32))
            of_the_busiest, share = -(-blocks // cores) * tiles, (side // 4) ** 2 / cores
            # incomplete groups of four tiles take as long as whole ones
            assert of_the_busiest <= 1.125 * share or blocks > 4 * cores or tiles <= winograd.LEAST_TILES_PER_BLOCK


@needs_compiler
@pytest.mark.parametrize("slope", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("norm", [nn.InstanceNorm2d, nn.BatchNorm2d])
class TestNorm:
    @pytest.mark.parametrize("channels", [(9,), (16,), (8, 11, 37), (600,)])
    def test_values_and_gradients(self, norm, slope, channels, threads, called):
        generator = torch.Generator().manual_seed(0)
        maps = [3 + torch.randn(2, c, 31, 27, generator=generator, dtype=torch.float64) for c in channels]
        seed = torch.randn(2, sum(channels), 31, 27, generator=generator, dtype=torch.float64)
        plain = norm(sum(channels), affine=True).double()
        nn.init.normal_(plain.weight), nn.init.normal_(plain.bias)
        nonlin = {0.0: nn.ReLU(), 0.01: nn.LeakyReLU(0.01), 1.0: None}[slope]
        ours = join(plain, nonlin)
        ours.load_state_dict(plain.state_dict())
        maps = [channels_last(x).requires_grad_() for x in maps]
        single = [channels_last(x.detach().float()).requires_grad_() for x in maps]
        exact = functional.leaky_relu(plain(torch.cat(maps, dim=1)), slope)
        with own_operators():
            y = ours(single)
        called_forward = set(called)
        gradients = torch.autograd.grad(y, [*single, ours.weight, ours.bias], seed.float())
        assert called_forward == {"moments", "norm_nonlin"}
        assert set(called) == called_forward | {"norm_nonlin_sums", "norm_nonlin_gradient"}
        expected = torch.autograd.grad(exact, [*maps, plain.weight, plain.bias], seed)
        torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-5)
        for a, b in zip(gradients, expected, strict=True):
            # below another slope than 1 the sign of what is nearly zero may differ: in single values, not the whole
            assert (a - b).norm() <= (1e-5 if slope == 1 else 2e-3) * b.norm()
            assert ((a - b).abs() > 1e-4 * b.abs().max()).float().mean() < 1e-3
        if norm is nn.BatchNorm2d:
            torch.testing.assert_close(ours.state_dict(), plain.float().state_dict(), rtol=1e-5, atol=1e-6)

    def test_in_3d(self, norm, slope, called):
        three = {nn.InstanceNorm2d: nn.InstanceNorm3d, nn.BatchNorm2d: nn.BatchNorm3d}[norm]
        plain = three(10, affine=True)
        nonlin = {0.0: nn.ReLU(), 0.01: nn.LeakyReLU(0.01), 1.0: None}[slope]
        x = channels_last(torch.randn(2, 10, 7, 9, 8))
        with own_operators():
            ours = join(plain, nonlin)(x)
        torch.testing.assert_close(ours, functional.leaky_relu(plain(x), slope), rtol=1e-4, atol=1e-5)
        assert set(called) == {"moments", "norm_nonlin"}

    def test_maps_that_the_loops_cannot_read(self, norm, slope, called):
        """Of other types, cropped, in different formats: PyTorch's operators compute."""
        ours = join(norm(18, affine=True), {0.0: nn.ReLU(), 0.01: nn.LeakyReLU(0.01), 1.0: None}[slope])
        made = [torch.randn(2, 9, 12, 12) for _ in range(2)]
        for maps in (
            [x[:, :, :8, :8] for x in made],
            [made[0], channels_last(made[1])],
            [channels_last(made[0]), made[1]],
            [channels_last(made[0]).bfloat16(), channels_last(made[1])],
        ):
            given = [x.detach().requires_grad_() for x in maps]
            with own_operators():
                y = ours(given)
            plain = norm(18, affine=True)
            expected = functional.leaky_relu(plain(torch.cat([x.float() for x in maps], dim=1)), slope)
            tolerance = 0.02 if maps[0].dtype == torch.bfloat16 else 1e-4
            torch.testing.assert_close(y.float(), expected, rtol=tolerance, atol=tolerance)
            torch.autograd.grad(y.float().square().sum(), given)

    def test_not_finite(self, norm, slope, called):
        x = channels_last(
            torch.tensor([float("nan"), -float("inf"), float("inf"), -1.0]).view(1, 1, 2, 2).repeat(1, 16, 1, 1)
        )
        ours = torch.empty_like(x)
        norm_operator._affine_of_part(x, ours, torch.ones(1, 16), torch.zeros(1, 16), slope)
        expected = x.clamp(min=0) if slope == 0 else functional.leaky_relu(x, slope)
        torch.testing.assert_close(ours, expected, equal_nan=True)
        assert called == ["norm_nonlin"]


@needs_compiler
@pytest.mark.parametrize("channels", [8, 19])
@pytest.mark.parametrize("mean", [0, 30, -1000])
def test_statistics_are_those_of_double_precision(mean, channels, threads, called):
    x = channels_last(mean + torch.randn(2, channels, 200, 130, generator=torch.Generator().manual_seed(0)))
    for per_sample in (True, False):
        variance, middle = torch.var_mean(x.double(), [2, 3] if per_sample else [0, 2, 3], correction=0)
        ours = statistics([x], per_sample)
        torch.testing.assert_close(
            ours[0].double(), middle.view(-1, channels), rtol=1e-6, atol=4 * torch.finfo(torch.float32).eps
        )
        torch.testing.assert_close(ours[1].double(), variance.view(-1, channels), rtol=1e-5, atol=0)
    assert set(called) == {"moments"}


@needs_compiler
@pytest.mark.parametrize("value", [0.0, 1000.1, -3e7])
def test_a_constant_has_no_variance(value, threads):
    x = channels_last(torch.full((1, 8, 130, 70), value))
    mean, variance = statistics([x], per_sample=True)
    assert (mean == x[:, :, 0, 0]).all()
    assert (variance <= 1e-14 * value**2).all()  # a few roundings of double precision


@needs_compiler
@pytest.mark.parametrize("values", [1, 2**12, 2**30], ids=["smallest_tiles", "some_tiles", "one_tile"])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(
    ("grid", "size", "kernel"),
    [*(case for case in CASES if len(case[0]) == 2), ((70, 20), (141, 61), (3, 3)), ((9, 12), (9, 12), (3, 3))],
)
def test_resize_conv(grid, size, kernel, biased, values, monkeypatch, called):
    monkeypatch.setattr(resize_conv_tiles, "VALUES_PER_TILE", values)
    x, weight, bias = inputs(grid, kernel, in_channels=6, out_channels=21)
    bias = bias if biased else None
    seed = torch.randn(len(x), 21, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tensors = [channels_last(x), weight, *([bias] if biased else [])]

    def ours(x, weight, bias=None):
        return resize_conv_by_tiles(x, weight, bias, size)

    def plain(x, weight, bias=None):
        return plain_form(x, weight, bias, size)

    result = values_and_gradients(ours, tensors, seed, torch.float32)
    assert set(called) == {"interpolate_taps", "interpolate_taps_adjoint"}
    exact = values_and_gradients(plain, tensors, seed, torch.float64)
    for a, b in zip(result, exact, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5 * float(b.abs().max()))


@needs_compiler
class TestFewChannels:
    """The gradients of a segmentation head."""

    @pytest.mark.parametrize("out_channels", [1, 3, 14])
    @pytest.mark.parametrize("channels", [16, 48])
    @pytest.mark.parametrize("size", [(9, 12), (1, 1), (2, 49), (31, 97)])
    def test_gradients(self, size, channels, out_channels, threads, called):
        x, weight, _ = inputs(size, (3, 3), in_channels=channels, out_channels=out_channels)
        seed = torch.randn(len(x), out_channels, *size, dtype=torch.float64)
        tensors = [channels_last(x), weight]
        ours = values_and_gradients(lambda x, w: resize_conv_by_tiles(x, w, None, size), tensors, seed, torch.float32)
        exact = values_and_gradients(lambda x, w: functional.conv2d(x, w, padding=1), tensors, seed, torch.float64)
        assert set(called) == {"interpolate_taps", "few_channels_gradients"}
        assert ours[1].is_contiguous(memory_format=torch.channels_last)
        for a, b in zip(ours, exact, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5 * float(b.abs().max()))

    @pytest.mark.parametrize("needed", [(True, False), (False, True)])
    def test_one_alone(self, needed, called):
        x, weight = channels_last(torch.randn(2, 32, 20, 21)), torch.randn(3, 32, 3, 3)
        seed = torch.randn(2, 3, 20, 21)
        both = resize_conv_tiles._gradients(x, weight, seed, True, True)
        one = resize_conv_tiles._gradients(x, weight, seed, *needed)
        for wanted, of_both, of_one in zip(needed, both, one, strict=True):
            assert torch.equal(of_one, of_both if wanted else torch.zeros_like(of_both))
        assert called == ["few_channels_gradients"] * (2 * len(x))

    def test_one_pixel_by_hand(self):
        """A kernel that looks one pixel up and left: what it has seen is up and left of what it has made."""
        x, grad = channels_last(torch.zeros(1, 16, 5, 60)), torch.zeros(1, 2, 5, 60)
        x[0, 7, 2, 49], grad[0, 1, 3, 50], grad[0, 0, 0, 0] = 2, 5, 9
        weight = torch.zeros(2, 16, 3, 3)
        weight[1, 7, 0, 0] = 3
        of_x, of_weight = resize_conv_tiles._gradients(x, weight, grad, True, True)
        expected = torch.zeros_like(x)
        expected[0, 7, 2, 49] = 15
        assert torch.equal(of_x, expected)
        expected = torch.zeros_like(weight)
        expected[1, 7, 0, 0] = 10
        assert torch.equal(of_weight, expected)


@needs_compiler
def test_kernels_of_any_strides():
    """A network in channels-last format has such weights."""
    x, weight = channels_last(torch.randn(1, 32, 20, 18)), torch.randn(48, 32, 3, 3)
    seed = torch.randn(1, 48, 20, 18)
    expected = values_and_gradients(lambda x, w: functional.conv2d(x, w, padding=1), [x, weight], seed, torch.float32)
    strides = [
        channels_last(weight),
        weight.repeat_interleave(2, dim=1)[:, ::2],
        weight.transpose(2, 3).contiguous().mT,
    ]
    for strided in strides:
        ours = values_and_gradients(lambda x, w: winograd_conv2d(x, w, None), [x, strided], seed, torch.float32)
        for a, b in zip(ours, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


@needs_compiler
def test_kernels_alone(called):
    """Of maps that are too small for the loops, and of channels that fill no vector."""
    x, weight = channels_last(torch.randn(2, 5, 8, 9)), torch.randn(21, 5, 3, 3)
    seed = torch.randn(2, 21, 8, 9)
    exact = values_and_gradients(lambda x, w: functional.conv2d(x, w, padding=1), [x, weight], seed, torch.float64)
    ours = values_and_gradients(lambda x, w: winograd_conv2d(x, w, None), [x, weight], seed, torch.float32)
    assert set(called) == {"winograd_kernels", "winograd_kernels_adjoint"}
    assert max(errors(ours, exact)) < 40


@needs_compiler
@pytest.mark.parametrize("channels", [16, 24])
def test_under_another_default_type(channels):
    x, weight, seed = (torch.randn(1, channels, 20, 18), torch.randn(16, channels, 3, 3), torch.randn(1, 16, 20, 18))
    once = values_and_gradients(lambda x, w: winograd_conv2d(x, w, None), [x, weight], seed, torch.float32)
    torch.set_default_dtype(torch.float64)
    try:
        again = values_and_gradients(lambda x, w: winograd_conv2d(x, w, None), [x, weight], seed, torch.float32)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


@needs_compiler
def test_mixed_types_are_refused():
    with pytest.raises(RuntimeError):
        winograd_conv2d(torch.randn(1, 32, 20, 18, dtype=torch.float64), torch.randn(32, 32, 3, 3), None)


@needs_compiler
def test_same_numbers_every_time():
    x = channels_last(torch.randn(1, 32, 90, 70)).requires_grad_()
    wide, norm = winograd.WideConv2d(32, 48, 3, padding=1), join(nn.InstanceNorm2d(48, affine=True), nn.LeakyReLU())

    def step():
        with own_operators():
            y = norm(wide(x))
        return [y.detach(), *torch.autograd.grad(y.square().sum(), [x, *wide.parameters(), *norm.parameters()])]

    for first, second in zip(step(), step(), strict=True):
        assert torch.equal(first, second)


class TestWhere:
    """Each in a process of its own: the compiled library stays with a process."""

    @pytest.fixture
    def found(self, tmp_path):
        def run(**environment):
            module = "nnunetv2_unet3plus.building_blocks.cpu_loops"
            program = f"from {module} import compiled_loops; print(compiled_loops() is not None)"
            environment = {"XDG_CACHE_HOME": str(tmp_path)} | environment
            command = [sys.executable, "-c", program]
            result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
            assert result.stderr == ""
            return result.stdout.strip() == "True"

        return run

    @needs_compiler
    def test_compiled_once(self, found, tmp_path):
        assert found()
        (library,) = tmp_path.glob("nnunetv2_unet3plus/*")
        made = library.stat().st_mtime_ns
        assert found()
        assert [file.stat().st_mtime_ns for file in library.parent.iterdir()] == [made]

    @needs_compiler
    def test_compiled_by_several_at_once(self, found, tmp_path):
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(lambda _: found(), range(4)))
        assert len(list(tmp_path.glob("nnunetv2_unet3plus/*"))) == 1

    @needs_compiler
    def test_what_cannot_be_loaded_is_made_again(self, found, tmp_path):
        assert found()
        (library,) = tmp_path.glob("nnunetv2_unet3plus/*")
        library.unlink()
        library.write_bytes(b"cut short")
        assert found()
        assert library.stat().st_size > 1000

    @needs_compiler
    @pytest.mark.parametrize("compiler", ["cc -O1", "", " "])
    def test_compiler_with_options_and_none_named(self, found, compiler):
        assert found(CC=compiler)

    def test_no_home(self, found):
        assert not found(XDG_CACHE_HOME="", HOME="/proc/nowhere")

    def test_switched_off(self, found, tmp_path):
        assert not found(UNET3PLUS_CPU_LOOPS="0")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("compiler", ["no-such-compiler", "false", '"'])
    def test_without_a_compiler_that_works(self, found, tmp_path, compiler):
        assert not found(CC=compiler)
        assert list(tmp_path.glob("nnunetv2_unet3plus/*")) == []

    def test_without_a_place_to_keep_them(self, found, tmp_path):
        (tmp_path / "file").touch()
        assert not found(XDG_CACHE_HOME=str(tmp_path / "file"))

    def test_for_single_precision_on_the_cpu_alone(self):
        x = torch.zeros(3)
        assert loops_for(x.double()) is None
        assert loops_for(x, x.half()) is None
        assert loops_for(x.to("meta")) is None
        assert loops_for(x[:0]) is None

    def test_not_where_tensors_have_no_memory(self):
        with FakeTensorMode() as mode:
            wide, x = winograd.WideConv2d(128, 128, 3, padding=1), torch.empty(1, 128, 48, 48)
            assert wide(x.contiguous(memory_format=torch.channels_last)).shape == x.shape
            large = torch.empty(1, 8, 1024, 1024).contiguous(memory_format=torch.channels_last)
            with own_operators():
                assert join(nn.InstanceNorm2d(8), nn.ReLU())(large).shape == large.shape
        assert loops_for(mode.from_tensor(torch.zeros(3))) is None
        assert wide(x).shape == x.shape

    def test_what_c_would_misread_is_refused(self):
        with pytest.raises(TypeError, match="bfloat16"):
            cpu_loops._argument(torch.zeros(3, dtype=torch.bfloat16))


class TestVectorsOfOtherProcessors:
    """Half as wide, as processors without AVX-512 have them."""

    @pytest.fixture(autouse=True)
    def _narrow(self, monkeypatch, tmp_path):
        if sys.platform != "linux" or shutil.which("cc") is None or platform.machine() != "x86_64":
            pytest.skip("needs Linux and a C compiler for x86-64")
        monkeypatch.setattr(cpu_loops, "FLAGS", (*cpu_loops.FLAGS, "-march=x86-64"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        narrow = cpu_loops.Loops(cpu_loops._library(["cc"]))
        monkeypatch.setattr(cpu_loops, "compiled_loops", lambda: narrow)

    def test_convolution(self, monkeypatch):
        monkeypatch.setattr(winograd, "LEAST_PIXELS_A_CHANNEL_COMPILED", 1)
        x, weight = channels_last(torch.randn(1, 48, 21, 18, dtype=torch.float64)), torch.randn(32, 48, 3, 3).double()
        tensors, seed = [x, weight / 20, torch.randn(32).double()], torch.randn(1, 32, 21, 18).double()
        exact = values_and_gradients(lambda *t: functional.conv2d(*t, padding=1), tensors, seed, torch.float64)
        assert max(errors(values_and_gradients(winograd_conv2d, tensors, seed, torch.float32), exact)) < 40

    def test_head(self):
        x, weight, seed = channels_last(torch.randn(1, 48, 31, 97)), torch.randn(3, 48, 3, 3), torch.randn(1, 3, 31, 97)
        ours = resize_conv_tiles._gradients(x, weight, seed, True, True)
        exact = values_and_gradients(lambda x, w: functional.conv2d(x, w, padding=1), [x, weight], seed, torch.float64)
        for a, b in zip(ours, exact[1:], strict=True):
            torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5 * float(b.abs().max()))

    def test_norm(self):
        plain, x = nn.InstanceNorm2d(21, affine=True), channels_last(torch.randn(2, 21, 30, 20))
        with own_operators():
            y = join(plain, nn.LeakyReLU(0.01))(x)
        torch.testing.assert_close(y, functional.leaky_relu(plain(x), 0.01), rtol=1e-4, atol=1e-5)
