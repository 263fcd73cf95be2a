"""UNet3Plus against the textbook form, on every kind of plan, and in nnU-Net's hands."""

import math

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from dynamic_network_architectures.building_blocks.residual import BottleneckD
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from benchmarks.measure import saved_bytes
from nnunetv2_unet3plus.architectures.unet3plus import UNet3Plus, unet3plus_paper
from nnunetv2_unet3plus.building_blocks import winograd
from tests.architectures.plans import arch_kwargs, input_size
from tests.textbook import TextbookUNet3Plus

PLANS = [
    {"dims": dims, "encoder": encoder, "n_stages": n_stages, "anisotropic": anisotropic}
    for dims in (2, 3)
    for encoder in ("plain", "residual")
    for n_stages in (3, 5, 7)
    for anisotropic in (False, True)
] + [{"dims": 2, "encoder": "plain", "n_stages": 9, "anisotropic": True}]


def plan_name(plan):
    return "-".join([f"{plan['dims']}d", plan["encoder"], str(plan["n_stages"])] + ["aniso"] * plan["anisotropic"])


def build(kwargs, deep_supervision=True, num_classes=3, **options):
    torch.manual_seed(0)
    network = UNet3Plus(2, num_classes=num_classes, deep_supervision=deep_supervision, **kwargs, **options)
    network.apply(network.initialize)
    return network


def spread_of(tensor):
    return tensor.detach().abs().max().item() or 1.0


@pytest.mark.parametrize("plan", PLANS, ids=plan_name)
def test_forward_backward_on_every_plan(plan):
    kwargs = arch_kwargs(**plan, width=2)
    network = build(kwargs)
    size = input_size(kwargs)
    outputs = network(torch.randn(1, 2, *size))
    grid, grids = list(size), []
    for stride in kwargs["strides"]:
        grid = [n // s for n, s in zip(grid, stride, strict=True)]
        grids.append((1, 3, *grid))
    assert [tuple(o.shape) for o in outputs] == grids
    sum(o.square().mean() for o in outputs).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert without == []
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("plan", PLANS, ids=plan_name)
def test_trained_weights_load_strictly_for_inference(plan):
    kwargs = arch_kwargs(**plan, width=2)
    trained, inference = build(kwargs), build(kwargs, deep_supervision=False)
    inference.load_state_dict(trained.state_dict(), strict=True)
    x = torch.randn(1, 2, *input_size(kwargs))
    with torch.no_grad():
        logits = inference.eval()(x)
        assert isinstance(logits, torch.Tensor)
        assert logits.equal(trained.eval()(x)[0])
        trained.decoder.deep_supervision = False  # the switch nnU-Net flips
        assert logits.equal(trained(x))


@pytest.mark.parametrize("plan", [p for p in PLANS if p["n_stages"] in (3, 5)], ids=plan_name)
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_equals_textbook_in_outputs_and_gradients(plan, norm):
    kwargs = arch_kwargs(**plan, width=4)
    if norm == "batch":
        kwargs["norm_op"] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[plan["dims"]]
    network = build(kwargs).double()
    textbook = TextbookUNet3Plus(network).double()
    textbook.load_state_dict(network.state_dict(), strict=True)
    size = [n - 1 for n in input_size(kwargs, deepest=4)]  # odd sizes on the way down
    x = torch.randn(2, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    ours, expected = network(x), textbook(x)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9 * spread_of(b))
    seeds = [torch.randn_like(o) for o in ours]
    torch.autograd.backward(ours, seeds)
    torch.autograd.backward(expected, seeds)
    theirs = dict(textbook.named_parameters())
    for name, parameter in network.named_parameters():
        gradient = theirs[name].grad
        torch.testing.assert_close(
            parameter.grad, gradient, rtol=0, atol=1e-7 * max(1.0, spread_of(gradient)), msg=name
        )


@pytest.mark.parametrize("encoder", ["plain", "residual"])
@pytest.mark.parametrize(("dims", "size"), [(2, (37, 50)), (3, (17, 21, 35))])
def test_any_input_size(encoder, dims, size):
    network = build(arch_kwargs(dims, encoder, n_stages=4))
    outputs = network(torch.randn(1, 2, *size))
    for level, logits in enumerate(outputs):
        assert tuple(logits.shape[2:]) == tuple(math.ceil(n / 2**level) for n in size)


class TestPaper:
    def test_parameter_counts(self):
        network = unet3plus_paper(input_channels=3, num_classes=1)
        parameters = sum(p.numel() for p in network.parameters())
        side_heads = sum(p.numel() for head in network.decoder.seg_layers[1:] for p in head.parameters())
        assert parameters == 26_989_637
        assert parameters - side_heads == 26_971_777  # the paper's 26.97 M

    def test_outputs_equal_those_of_the_textbook_in_single_precision(self, monkeypatch):
        calls = []
        original = winograd.winograd_conv2d
        monkeypatch.setattr(winograd, "winograd_conv2d", lambda *a: calls.append(1) or original(*a))
        torch.manual_seed(0)
        network = unet3plus_paper(1, 1)
        textbook = TextbookUNet3Plus(network)
        textbook.load_state_dict(network.state_dict(), strict=True)
        x = torch.randn(2, 1, 96, 80)  # large enough for several blocks of rows, and for the Winograd form
        ours = network(x)
        assert calls
        calls.clear()
        for a, b in zip(ours, textbook(x), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-4 * spread_of(b))
        assert not calls

    @pytest.mark.parametrize("always_winograd", [False, True])
    def test_gradients_equal_those_of_the_textbook(self, always_winograd, monkeypatch):
        # in double precision: in single, ReLUs at the verge of zero decide differently for the last digit
        calls = []
        original = winograd.winograd_conv2d
        monkeypatch.setattr(winograd, "winograd_conv2d", lambda *a: calls.append(1) or original(*a))
        if always_winograd:
            monkeypatch.setattr(winograd, "winograd_pays", lambda *_: True)
        torch.manual_seed(0)
        network = unet3plus_paper(1, 1).double()
        textbook = TextbookUNet3Plus(network).double()
        textbook.load_state_dict(network.state_dict(), strict=True)
        x = torch.randn(2, 1, 96, 80, dtype=torch.float64)
        ours = network(x)
        assert len(calls) == always_winograd * len(network.decoder.stages)
        expected = textbook(x)
        seeds = [torch.randn_like(o) for o in ours]
        torch.autograd.backward(ours, seeds)
        torch.autograd.backward(expected, seeds)
        for (name, a), b in zip(network.named_parameters(), textbook.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-9 * max(1.0, spread_of(b.grad)), msg=name)

    def test_maps_are_channels_last(self):
        assert unet3plus_paper(1, 2)(torch.randn(1, 1, 32, 32))[0].is_contiguous(memory_format=torch.channels_last)

    def test_keeps_little_more_than_half_of_the_textbooks_activations(self):
        with torch.device("meta"):
            network = unet3plus_paper(3, 1)
            x = torch.empty(1, 3, 320, 320)
        textbook = TextbookUNet3Plus(network)
        assert saved_bytes(network, x) < 0.55 * saved_bytes(textbook, x)


class TestInNnunet:
    """The constructor takes what plans hold, so nnU-Net's own functions build and load the network."""

    @pytest.mark.parametrize("encoder", ["plain", "residual"])
    def test_class_name_in_plans(self, encoder):
        kwargs = arch_kwargs(2, encoder)
        plans = kwargs | {k: f"{v.__module__}.{v.__name__}" for k, v in kwargs.items() if isinstance(v, type)}
        network = get_network_from_plans(
            "nnunetv2_unet3plus.architectures.unet3plus.UNet3Plus",
            plans,
            ["conv_op", "norm_op", "dropout_op", "nonlin"],
            1,
            2,
            deep_supervision=True,
        )
        assert isinstance(network, UNet3Plus)
        assert network(torch.randn(1, 1, 32, 32))[0].shape == (1, 2, 32, 32)

    @pytest.mark.parametrize(("encoder", "stock_class"), [("plain", PlainConvUNet), ("residual", ResidualEncoderUNet)])
    def test_encoder_is_the_stock_one(self, encoder, stock_class):
        kwargs = arch_kwargs(2, encoder)
        stock = stock_class(2, num_classes=3, **kwargs)
        network = build(kwargs)
        network.encoder.load_state_dict(stock.encoder.state_dict(), strict=True)
        state = network.state_dict()
        assert any(key.startswith(network.key_to_encoder) for key in state)
        assert any(key.startswith(network.key_to_stem) for key in state)
        assert all(f"{key}.weight" in state for key in network.keys_to_in_proj)

    def test_residual_blocks_start_as_identity(self):
        network = build(arch_kwargs(2, "residual"))
        assert network.encoder.stages[1].blocks[0].conv2.norm.weight.count_nonzero() == 0

    @pytest.mark.parametrize("encoder", ["plain", "residual"])
    def test_feature_map_size_counts_conv_outputs(self, encoder):
        # 2 stages on 8 x 8, 8 and 16 channels; plain: 1 and 2 convs
        kwargs = arch_kwargs(2, encoder, n_stages=2)
        network = build(kwargs, cat_channels=4)
        decoder = 2 * (2 * 4) * 64 + 3 * 64 + 3 * 16  # branches, fusion; heads on 8 x 8 and 4 x 4
        assert network.compute_conv_feature_map_size((8, 8)) == decoder + (
            network.encoder.compute_conv_feature_map_size((8, 8))
        )
        if encoder == "plain":
            assert network.compute_conv_feature_map_size((8, 8)) == decoder + 8 * 64 + 2 * 16 * 16

    def test_feature_map_size_of_pooling_encoder(self):
        kwargs = arch_kwargs(2, n_stages=2)
        assert build(kwargs, pool="max").compute_conv_feature_map_size((8, 8)) == build(
            kwargs
        ).compute_conv_feature_map_size((8, 8))

    def test_feature_map_size_wants_spatial_size(self):
        with pytest.raises(ValueError, match="2 numbers"):
            build(arch_kwargs(2)).compute_conv_feature_map_size((1, 1, 32, 32))


class TestWhatPlansMayHold:
    """Arguments that nnU-Net's networks take and its planners rarely write."""

    @pytest.mark.parametrize(
        "change",
        [
            {"norm_op": None, "norm_op_kwargs": None},
            {"dropout_op": nn.Dropout2d, "dropout_op_kwargs": {"p": 0.5}},
            {"nonlin": None, "nonlin_kwargs": None},
            {"nonlin_first": True},
            {"conv_bias": False},
            {"kernel_sizes": 3, "strides": [1, 2, 2, 2, 2], "features_per_stage": 8},
            {"strides": [1, 3, 2, 1, 2]},
            {"norm_op_kwargs": {"affine": False}},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_plain_encoder(self, change):
        kwargs = arch_kwargs(2) | change
        torch.manual_seed(0)
        network = UNet3Plus(1, num_classes=2, deep_supervision=True, **kwargs)
        assert network(torch.randn(2, 1, 48, 48))[0].shape == (2, 2, 48, 48)

    def test_bottleneck_blocks_and_wide_stem(self):
        kwargs = arch_kwargs(2, "residual") | {"block": BottleneckD, "bottleneck_channels": 4, "stem_channels": 6}
        assert build(kwargs)(torch.randn(2, 2, 32, 32))[0].shape == (2, 3, 32, 32)

    def test_nonlin_first_swaps_norm_and_nonlin_in_branches_too(self):
        x = torch.randn(2, 2, 32, 32)
        outputs = [build(arch_kwargs(2) | {"nonlin_first": first})(x)[0] for first in (False, True)]
        assert not outputs[0].allclose(outputs[1])


def test_unsupervised_heads_wait_for_no_gradient():
    """DDP stops when a trainable parameter gets none."""
    heads = build(arch_kwargs(2), deep_supervision=False).decoder.seg_layers
    assert all(p.requires_grad for p in heads[0].parameters())
    assert not any(p.requires_grad for head in heads[1:] for p in head.parameters())
    assert all(p.requires_grad for p in build(arch_kwargs(2)).parameters())


class TestBadInput:
    @pytest.mark.parametrize("width", [0, -1])
    def test_width_of_branches(self, width):
        with pytest.raises(ValueError, match="cat_channels is the width of a branch, at least 1"):
            build(arch_kwargs(2), cat_channels=width)

    def test_unknown_pooling(self):
        with pytest.raises(ValueError, match="'conv', 'max' or 'avg', not 'mean'"):
            build(arch_kwargs(2), pool="mean")

    def test_unknown_kernel(self):
        kwargs = arch_kwargs(2)
        kwargs["kernel_sizes"][1] = [5, 3]
        with pytest.raises(ValueError, match=r"stage 1 has \(5, 3\): change kernel_sizes"):
            build(kwargs)

    def test_strided_first_stage(self):
        kwargs = arch_kwargs(2)
        kwargs["strides"][0] = [2, 2]
        with pytest.raises(ValueError, match=r"set strides\[0\] to 1"):
            build(kwargs)

    def test_one_stage(self):
        with pytest.raises(ValueError, match="at least 2, n_stages is 1"):
            build(arch_kwargs(2, n_stages=1))

    @pytest.mark.parametrize("both", [True, False])
    def test_encoder_must_be_plain_or_residual(self, both):
        kwargs = arch_kwargs(2) | {"n_blocks_per_stage": [1] * 5}
        if not both:
            del kwargs["n_conv_per_stage"], kwargs["n_blocks_per_stage"]
        with pytest.raises(ValueError, match="give one"):
            build(kwargs)

    def test_too_few_entries(self):
        kwargs = arch_kwargs(2)
        kwargs["strides"] = kwargs["strides"][:4]
        with pytest.raises(ValueError, match="5 stages needs 5 entries, not 4"):
            build(kwargs)


@pytest.mark.parametrize(("dims", "size"), [(2, (96, 128)), (3, (40, 48, 40))])
def test_compiles_without_graph_break(dims, size):
    """nnU-Net compiles the network on CUDA, and runs it in training, validation and prediction.

    Without code generation the graph is the same; grids are large enough for several blocks of rows.
    """
    torch._dynamo.reset()
    network = build(arch_kwargs(dims, n_stages=4, width=4))
    x = torch.randn(2, 2, *size)
    expected = network(x)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)  # a graph break is an error
    for a, b in zip(compiled(x), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * spread_of(b))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = compiled(x)
    sum(logits.float().square().mean() for logits in outputs).backward()
    assert all(p.grad is not None for p in network.parameters())
    with torch.no_grad():
        network.eval()
        assert len(compiled(x)) == 4
        network.decoder.deep_supervision = False
        assert compiled(x).shape == (2, 3, *size)
