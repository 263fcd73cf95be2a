"""Norm and nonlinearity as one operator, against PyTorch's two."""

from contextlib import nullcontext
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import nn

from nnunetv2_unet3plus.building_blocks import norm_operator
from nnunetv2_unet3plus.building_blocks.memory_format import channels_last
from nnunetv2_unet3plus.building_blocks.norm_nonlin import (
    NormsMaps,
    applies_nonlin,
    has_slow_norm,
    is_joined,
    join,
    join_blocks,
)
from nnunetv2_unet3plus.building_blocks.norm_operator import statistics
from nnunetv2_unet3plus.building_blocks.recompute import own_operators
from nnunetv2_unet3plus.planning.dry_run import LiveBytes

NORMS = {
    "instance": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d},
    "batch": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d},
}
NONLINS = {"leaky": nn.LeakyReLU(0.01), "relu": nn.ReLU(), "none": nn.Identity()}


def maps(dims, channels=(5,), batch=2, dtype=torch.float64, last=True):
    generator = torch.Generator().manual_seed(0)
    size = (7, 6, 4)[:dims]
    made = [3 + 2 * torch.randn(batch, c, *size, generator=generator, dtype=dtype) for c in channels]
    return [(channels_last(x) if last else x).requires_grad_() for x in made]


def joined_and_plain(kind, nonlin, dims, channels, affine=True):
    plain = nn.Sequential(NORMS[kind][dims](channels, affine=affine), NONLINS[nonlin]).double()
    if affine:
        nn.init.normal_(plain[0].weight)
        nn.init.normal_(plain[0].bias)
    both = join(deepcopy(plain[0]), NONLINS[nonlin])
    both.double().load_state_dict(plain[0].state_dict())
    return both, plain


def backward(output, inputs):
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.autograd.grad((output * weight.to(output.dtype)).sum(), inputs, allow_unused=True)


@pytest.mark.parametrize("last", [True, False], ids=["channels_last", "contiguous"])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("nonlin", NONLINS)
@pytest.mark.parametrize("kind", NORMS)
class TestSameAsPyTorch:
    @pytest.mark.parametrize("channels", [(5,), (3, 1, 4)], ids=["map", "concatenation"])
    def test_values_and_gradients(self, kind, nonlin, dims, last, channels, monkeypatch):
        monkeypatch.setattr(norm_operator, "VALUES_PER_PIECE", 64)  # several pieces a map
        both, plain = joined_and_plain(kind, nonlin, dims, sum(channels))
        for mode in ("train", "eval"):
            getattr(both, mode)(), getattr(plain, mode)()
            inputs = maps(dims, channels, last=last)
            with own_operators():
                ours = both(inputs)
            expected = plain(torch.cat(inputs, dim=1))
            torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
            gradients = backward(ours, [*inputs, *both.parameters()])
            torch.testing.assert_close(gradients, backward(expected, [*inputs, *plain[0].parameters()]))
        assert both.state_dict().keys() == plain[0].state_dict().keys()
        torch.testing.assert_close(both.state_dict(), plain[0].state_dict())  # running statistics, too

    def test_without_affine_parameters(self, kind, nonlin, dims, last):
        both, plain = joined_and_plain(kind, nonlin, dims, 5, affine=False)
        inputs = maps(dims, last=last)
        with own_operators():
            ours = both(inputs)
        expected = plain(inputs[0])
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(backward(ours, inputs), backward(expected, inputs))

    def test_keeps_memory_format(self, kind, nonlin, dims, last):
        both, _ = joined_and_plain(kind, nonlin, dims, 5)
        with own_operators(), torch.no_grad():
            assert both(maps(dims, last=last)[0]).stride(1) == (1 if last else 7 * 6 * (4 if dims == 3 else 1))

    def test_a_consumer_keeps_the_input_alone(self, kind, nonlin, dims, last):
        """The map before the norm is there already: beyond that only numbers a channel are kept."""
        both, _ = joined_and_plain(kind, nonlin, dims, 5)
        (x,) = maps(dims, last=last)
        weight = torch.randn(5, *(1,) * dims, dtype=torch.float64, requires_grad=True)
        with LiveBytes([x, weight]) as live:
            with own_operators():
                y = both(x) * weight
            returned = y.untyped_storage().nbytes()
        assert live.now - returned < 0.5 * returned
        expected = (both(x) * weight, [x, weight])  # outside it computes as PyTorch does
        torch.testing.assert_close(backward(y, [x, weight]), backward(*expected))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", NORMS)
def test_half_precision_computes_in_single(kind, dtype):
    both, plain = joined_and_plain(kind, "leaky", 2, 5)
    both, plain = both.float(), plain.float()
    (x,) = maps(2, dtype=torch.float32)
    half = x.detach().to(dtype).requires_grad_()
    exact = half.detach().float().requires_grad_()
    with own_operators():
        ours = both(half)
    assert ours.dtype == dtype
    expected = plain(exact)
    torch.testing.assert_close(ours.float(), expected, rtol=0.01, atol=0.01)
    torch.testing.assert_close(backward(ours, [half])[0].float(), backward(expected, [exact])[0], rtol=0.02, atol=0.02)


def test_gradient_of_any_strides():
    """What comes back may be a view of something larger, or expanded."""
    both, plain = joined_and_plain("instance", "leaky", 2, 5)
    (x,) = maps(2)
    with own_operators():
        ours = both(x)
    torch.testing.assert_close(
        torch.autograd.grad(ours[:, :, 1:5, 2:].sum(), x), torch.autograd.grad(plain(x)[:, :, 1:5, 2:].sum(), x)
    )


@pytest.mark.parametrize("learned", [[True, False, False], [False, True, True], [True, False, True]])
def test_some_frozen(learned):
    both, plain = joined_and_plain("batch", "leaky", 2, 5)
    results = []
    for module, norm in ((both, both), (plain, plain[0])):
        (x,) = maps(2)
        tensors = [x, *norm.parameters()]
        for tensor, wanted in zip(tensors, learned, strict=True):
            tensor.requires_grad_(wanted)
        with own_operators():
            y = module(x)
        results.append(backward(y, [t for t, wanted in zip(tensors, learned, strict=True) if wanted]))
    torch.testing.assert_close(*results)


def test_backward_twice():
    both, plain = joined_and_plain("instance", "leaky", 2, 5)
    (x,) = maps(2)
    weight = torch.randn(5, 1, 1, dtype=torch.float64, requires_grad=True)
    with own_operators():
        loss = (both(x) * weight).square().sum()
    expected = torch.autograd.grad((plain(x) * weight).square().sum(), [x, weight])
    for _ in range(2):
        torch.testing.assert_close(torch.autograd.grad(loss, [x, weight], retain_graph=True), expected)


def test_half_precision_network_moves_its_running_statistics():
    norm = join(nn.BatchNorm2d(3), nn.ReLU()).half()
    x = torch.randn(2, 3, 4, 4).half()
    with own_operators():
        norm(x)
    assert norm.running_mean.dtype == torch.float16
    torch.testing.assert_close(norm.running_mean.float(), 0.1 * x.float().mean((0, 2, 3)), rtol=0.01, atol=1e-3)


def test_relu_of_minus_infinity():
    both = join(nn.BatchNorm2d(1), nn.ReLU()).eval()
    with own_operators():
        assert both(torch.full((1, 1, 2, 2), -torch.inf)).tolist() == [[[[0, 0], [0, 0]]]]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dims", [2, 3])
def test_channels_last_is_said_by_the_strides(dims, channels):
    size = (4, 6, 5)[:dims]
    x = torch.randn(2, channels, *size, requires_grad=True)
    for given in (x, x.transpose(2, 3).contiguous().transpose(2, 3)):
        y = channels_last(given)
        assert y.equal(given)
        assert y.stride(1) == 1
        assert y.stride(-1) == channels
    assert (channels_last(x).data_ptr() == x.data_ptr()) == (channels == 1)
    (grad,) = torch.autograd.grad(channels_last(x).square().sum(), x)
    torch.testing.assert_close(grad, 2 * x.detach())


def test_statistics_by_hand():
    x = torch.tensor([[1.0, 3.0], [5.0, 7.0]]).view(2, 1, 2, 1)
    mean, variance = statistics([x, 2 * x], per_sample=True)
    assert mean.tolist() == [[2, 4], [6, 12]]
    assert variance.tolist() == [[1, 4], [1, 4]]
    mean, variance = statistics([x], per_sample=False)
    assert (mean.tolist(), variance.tolist()) == ([[4]], [[5]])


def block_of_batch_norm():
    block = ConvDropoutNormReLU(nn.Conv2d, 3, 4, 3, 1, True, nn.BatchNorm2d, {}, None, None, nn.ReLU, {"inplace": True})
    join_blocks(block)
    return block


class OfTwoMaps(NormsMaps):
    def forward(self, x):
        return self.normed([x[:, :1], x[:, 1:]])


def stage_of_batch_norm():
    encoder = SimpleNamespace(
        norm_op=nn.BatchNorm2d,
        norm_op_kwargs={},
        nonlin=nn.ReLU,
        nonlin_kwargs={},
        dropout_op=None,
        dropout_op_kwargs=None,
    )
    stage = OfTwoMaps()
    stage.make_norm(encoder, 3, nonlin_first=False)
    return stage


class TestJoin:
    @pytest.mark.parametrize(
        ("norm", "nonlin"),
        [
            (nn.GroupNorm(1, 4), nn.ReLU()),
            (nn.Identity(), nn.ReLU()),
            (nn.InstanceNorm2d(4, track_running_stats=True), nn.ReLU()),
            (nn.BatchNorm2d(4, momentum=None), nn.ReLU()),
            (nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU()),
        ],
    )
    def test_what_it_does_not_know_stays(self, norm, nonlin):
        assert join(norm, nonlin) is norm
        assert not applies_nonlin(norm)

    def test_an_unknown_nonlinearity_follows(self):
        norm = join(nn.InstanceNorm2d(4), nn.PReLU(4))
        assert is_joined(norm)
        assert not applies_nonlin(norm)

    @pytest.mark.parametrize("nonlin", [nn.LeakyReLU, nn.PReLU, None])
    @pytest.mark.parametrize("dropout", [nn.Dropout2d, None])
    @pytest.mark.parametrize("first", [False, True])
    def test_blocks_compute_and_are_named_as_before(self, nonlin, dropout, first):
        def block():
            return ConvDropoutNormReLU(
                nn.Conv2d, 2, 4, 3, 1, True, nn.InstanceNorm2d, {"affine": True}, dropout, {"p": 0.5}, nonlin, {},
                nonlin_first=first,
            )  # fmt: skip

        ours, stock = block(), block()
        join_blocks(ours)
        ours.load_state_dict(stock.state_dict(), strict=True)
        x = channels_last(torch.randn(2, 2, 6, 5))
        torch.manual_seed(0)
        expected = stock(x)
        torch.manual_seed(0)
        with own_operators():
            torch.testing.assert_close(ours(x), expected)
        assert not has_slow_norm(ours)
        assert has_slow_norm(stock)

    @pytest.mark.parametrize("build", [block_of_batch_norm, stage_of_batch_norm], ids=["block", "several maps"])
    def test_on_several_gpus_the_nonlinearity_stays(self, build):
        """SyncBatchNorm takes the place of batch norms there, and knows nothing of nonlinearities."""
        torch.manual_seed(0)
        module = build().eval()
        x = torch.randn(2, 3, 6, 5)
        expected = module(x)
        assert (expected >= 0).all()
        synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(deepcopy(module))
        assert any(isinstance(m, nn.SyncBatchNorm) for m in synchronised.modules())
        for context in (own_operators(), nullcontext()):
            with context:
                torch.testing.assert_close(synchronised(x), expected)
