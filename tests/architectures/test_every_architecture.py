"""What holds for all architectures: on every kind of plan, against the textbook form, in nnU-Net's hands."""

import math

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from dynamic_network_architectures.building_blocks.residual import BottleneckD
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from nnunetv2_unet3plus.architectures import baselines, papers, timm_encoded
from nnunetv2_unet3plus.architectures.unet import UNet
from nnunetv2_unet3plus.architectures.unet3plus import UNet3Plus
from nnunetv2_unet3plus.architectures.unet3plus_cgm import UNet3PlusCGM
from nnunetv2_unet3plus.architectures.unet3plus_lite import UNet3PlusLite, UNet3PlusLiteCGM
from nnunetv2_unet3plus.architectures.unet3plus_raw import UNet3PlusRaw
from nnunetv2_unet3plus.architectures.unetplusplus import UNetPlusPlus
from nnunetv2_unet3plus.architectures.unetsharp import UNetSharp
from nnunetv2_unet3plus.architectures.unetsharp_cgm import UNetSharpCGM
from nnunetv2_unet3plus.architectures.vnet import VNet, VNet3Plus, VNetEncoded, VNetPlusPlus, VNetSharp
from nnunetv2_unet3plus.planning.saved_tensors import saved_bytes
from tests.architectures.plans import arch_kwargs, input_size, plan_name, spread_of
from tests.textbook import (
    TextbookFullScaleUNet,
    TextbookNestedUNet,
    TextbookPlainUNet,
    TextbookUNet3Plus,
    TextbookUNet3PlusLite,
)

PLANS = [
    {"dims": dims, "encoder": encoder, "n_stages": n_stages, "anisotropic": anisotropic}
    for dims in (2, 3)
    for encoder in ("plain", "residual")
    for n_stages in (3, 5, 7)
    for anisotropic in (False, True)
] + [{"dims": 2, "encoder": "plain", "n_stages": 9, "anisotropic": True}]


def one_head(n):
    return [0]


def one_a_stage(n):
    return list(range(n))


def one_a_level(n):
    return [0] * (n - 1)


def one_a_level_and_a_stage(n):
    return [0] * (n - 1) + list(range(1, n))


# class, its options, its textbook form, the stage of every head in a network of n stages
ARCHITECTURES = {
    "UNet3Plus": (UNet3Plus, {}, TextbookUNet3Plus, one_a_stage),
    "UNet3PlusLite": (UNet3PlusLite, {}, TextbookUNet3PlusLite, one_a_stage),
    "UNetPlusPlus": (UNetPlusPlus, {}, TextbookNestedUNet, one_a_level),
    "UNetSharp": (UNetSharp, {}, TextbookNestedUNet, one_a_level_and_a_stage),
    "UNetSharp-raw": (UNetSharp, {"far_edges": "raw"}, TextbookNestedUNet, one_a_level_and_a_stage),
    "UNet": (UNet, {}, TextbookPlainUNet, one_head),
    "UNet3PlusRaw": (UNet3PlusRaw, {}, TextbookFullScaleUNet, one_a_stage),
    "VNet": (VNet, {}, TextbookPlainUNet, one_head),
    "VNetPlusPlus": (VNetPlusPlus, {}, TextbookNestedUNet, one_a_level),
    "VNet3Plus": (VNet3Plus, {}, TextbookFullScaleUNet, one_a_stage),
    "VNetSharp": (VNetSharp, {}, TextbookNestedUNet, one_a_level_and_a_stage),
}
HAS_OWN_ENCODER = [
    name for name, (network_class, *_) in ARCHITECTURES.items() if issubclass(network_class, VNetEncoded)
]
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
with_stock_encoder = pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in HAS_OWN_ENCODER])


GATED = {"UNet3PlusCGM": UNet3PlusCGM, "UNet3PlusLiteCGM": UNet3PlusLiteCGM, "UNetSharpCGM": UNetSharpCGM}


def on_every(plans, architectures=ARCHITECTURES):
    """All pairs of architecture and plan; to an encoder of its own plain and residual plans are the same."""
    pairs = [
        pytest.param(name, plan, id=f"{name}-{plan_name(plan)}")
        for name in architectures
        for plan in plans
        if plan["encoder"] == "plain" or name not in HAS_OWN_ENCODER
    ]
    return pytest.mark.parametrize(("name", "plan"), pairs)


def build(name, kwargs, deep_supervision=True, num_classes=3, **options):
    torch.manual_seed(0)
    network_class, own_options, _, _ = ARCHITECTURES[name]
    options = own_options | options
    network = network_class(2, num_classes=num_classes, deep_supervision=deep_supervision, **kwargs, **options)
    network.apply(network.initialize)
    return network


@on_every(PLANS)
def test_forward_backward_on_every_plan(plan, name):
    kwargs = arch_kwargs(**plan, width=2)
    network = build(name, kwargs)
    size = input_size(kwargs)
    outputs = network(torch.randn(1, 2, *size))
    grid, grids = list(size), []
    for stride in kwargs["strides"]:
        grid = [math.ceil(n / s) for n, s in zip(grid, stride, strict=True)]
        grids.append((1, 3, *grid))
    stages = ARCHITECTURES[name][3](plan["n_stages"])
    assert network.decoder.head_stages == stages
    assert [tuple(o.shape) for o in outputs] == [grids[stage] for stage in stages]
    sum(o.square().mean() for o in outputs).backward()
    without = [parameter for parameter, p in network.named_parameters() if p.grad is None]
    assert without == []
    assert all(p.grad.isfinite().all() for p in network.parameters())

    alone = build(name, kwargs, deep_supervision=False)
    logits = alone(torch.randn(1, 2, *size))
    assert tuple(logits.shape) == grids[0]
    logits.square().mean().backward()
    assert all((p.grad is not None) == p.requires_grad for p in alone.parameters())


@on_every([plan for plan in PLANS if plan["n_stages"] == 3])
def test_recomputing_changes_no_bit_and_keeps_less(plan, name):
    """Of outputs and gradients, in whatever form the operators are taken."""
    kwargs = arch_kwargs(**plan, width=8)
    x, results, kept = torch.randn(2, 2, *input_size(kwargs)), [], []
    for recompute in (True, False):
        network = build(name, kwargs, recompute=recompute)
        outputs = network(x)
        sum(o.square().mean() for o in outputs).backward()
        results.append([*outputs, *(p.grad for p in network.parameters())])
        kept.append(saved_bytes(network, x))
    assert all(a.equal(b) for a, b in zip(*results, strict=True))
    assert kept[0] < kept[1]


@on_every(PLANS)
def test_trained_weights_load_strictly_for_inference(plan, name):
    kwargs = arch_kwargs(**plan, width=2)
    trained, inference = build(name, kwargs), build(name, kwargs, deep_supervision=False)
    inference.load_state_dict(trained.state_dict(), strict=True)
    x = torch.randn(1, 2, *input_size(kwargs))
    with torch.no_grad():
        logits = inference.eval()(x)
        assert isinstance(logits, torch.Tensor)
        assert logits.equal(trained.eval()(x)[0])
        trained.decoder.deep_supervision = False  # the switch nnU-Net flips
        assert logits.equal(trained(x))


@on_every([plan for plan in PLANS if plan["n_stages"] in (3, 5)])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_equals_textbook_in_outputs_and_gradients(plan, norm, name):
    kwargs = arch_kwargs(**plan, width=4)
    if norm == "batch":
        kwargs["norm_op"] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[plan["dims"]]
    network = build(name, kwargs).double()
    textbook = ARCHITECTURES[name][2](network).double()
    textbook.load_state_dict(network.state_dict(), strict=True)
    size = input_size(kwargs, others=21)  # odd sizes on the way down
    x = torch.randn(2, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    ours, expected = network(x), textbook(x)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9 * spread_of(b))
    seeds = [torch.randn_like(o) for o in ours]
    torch.autograd.backward(ours, seeds)
    torch.autograd.backward(expected, seeds)
    theirs = dict(textbook.named_parameters())
    for parameter_name, parameter in network.named_parameters():
        gradient = theirs[parameter_name].grad
        tolerance = 1e-7 * max(1.0, spread_of(gradient))
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=tolerance, msg=parameter_name)


@every_architecture
@pytest.mark.parametrize("encoder", ["plain", "residual"])
@pytest.mark.parametrize(("dims", "size"), [(2, (37, 50)), (3, (17, 21, 35))])
def test_any_input_size(encoder, dims, size, name):
    network = build(name, arch_kwargs(dims, encoder, n_stages=4))
    outputs = network(torch.randn(1, 2, *size))
    for stage, logits in zip(network.decoder.head_stages, outputs, strict=True):
        assert tuple(logits.shape[2:]) == tuple(math.ceil(n / 2**stage) for n in size)


@on_every(PLANS, GATED)
def test_gated_networks_on_every_plan(plan, name):
    kwargs = arch_kwargs(**plan, width=2)
    torch.manual_seed(0)
    network = GATED[name](2, num_classes=3, deep_supervision=True, **kwargs)
    network.apply(network.initialize)
    x = torch.randn(2, 2, *input_size(kwargs))
    *heads, presence = network(x)
    assert len(heads) == len(network.decoder.head_stages)
    assert presence.shape == (2, len(heads) if name == "UNetSharpCGM" else 1, 2, 2)
    sum(o.square().mean() for o in (*heads, presence)).backward()
    assert [parameter for parameter, p in network.named_parameters() if p.grad is None] == []
    inference = GATED[name](2, num_classes=3, **kwargs)
    inference.load_state_dict(network.state_dict(), strict=True)
    with torch.no_grad():
        assert inference.eval()(x).shape == heads[0].shape


def network_for_inference(name, dims):
    """Any network of the package on a plan of three stages, two channels to three classes."""
    kwargs = arch_kwargs(dims, n_stages=3)
    if name in ARCHITECTURES:
        return build(name, kwargs, deep_supervision=False)
    torch.manual_seed(0)
    if name.islower():
        return getattr(papers, name)(2, 3, deep_supervision=False)
    network_class = GATED.get(name) or vars(timm_encoded).get(name) or getattr(baselines, name)
    return network_class(2, num_classes=3, **kwargs)


OTHERS_IN_2D = [
    *(f"{decoder}VGG16" for decoder in ("UNet3Plus", "UNetPlusPlus", "UNetSharp")),
    *(f"{decoder}ResNet101" for decoder in ("UNet3Plus", "UNetPlusPlus", "UNetSharp")),
    *("PSPNet", "DeepLabV3", "DeepLabV3Plus", "AttentionUNet"),
    *("unet3plus_paper", "unet3plus_paper_cgm", "unet3plus_paper_unet", "unetsharp_paper", "unetsharp_paper_wide_unet"),
]


@pytest.mark.parametrize(
    ("name", "dims"),
    [(name, dims) for name in (*ARCHITECTURES, *GATED) for dims in (2, 3)] + [(name, 2) for name in OTHERS_IN_2D],
)
def test_stock_sliding_window(name, dims):
    """Where tiles do not overlap, each is what the network says of it; where they do, nnU-Net averages."""
    network = network_for_inference(name, dims).eval()
    tile = (32,) * dims if name in OTHERS_IN_2D else (16,) * dims

    class Plan:
        patch_size = tile

    class Labels:
        num_segmentation_heads = 3

    predictor = nnUNetPredictor(
        tile_step_size=1.0, use_gaussian=False, use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.network, predictor.configuration_manager, predictor.label_manager = network, Plan, Labels
    scan = torch.randn(2, *([1] if dims == 2 else []), *tile[:-1], 2 * tile[-1])  # 2d plans see a scan slice by slice
    logits = predictor.predict_sliding_window_return_logits(scan)
    assert logits.shape == (3, *scan.shape[1:])
    with torch.no_grad():
        batch = scan.movedim(1, 0) if dims == 2 else scan[None]
        expected = torch.cat([network(half) for half in batch.split(tile[-1], dim=-1)], dim=-1)
    torch.testing.assert_close(logits.float().reshape(expected.shape), expected, rtol=0.02, atol=0.02)


@every_architecture
class TestInNnunet:
    """The constructor takes what plans hold, so nnU-Net's own functions build and load the network."""

    @pytest.mark.parametrize("encoder", ["plain", "residual"])
    def test_class_name_in_plans(self, encoder, name):
        network_class = ARCHITECTURES[name][0]
        kwargs = arch_kwargs(2, encoder)
        plans = kwargs | {k: f"{v.__module__}.{v.__name__}" for k, v in kwargs.items() if isinstance(v, type)}
        network = get_network_from_plans(
            f"{network_class.__module__}.{network_class.__name__}",
            plans,
            ["conv_op", "norm_op", "dropout_op", "nonlin"],
            1,
            2,
            deep_supervision=True,
        )
        assert isinstance(network, network_class)
        assert network(torch.randn(1, 1, 32, 32))[0].shape == (1, 2, 32, 32)

    def test_feature_map_size_wants_spatial_size(self, name):
        with pytest.raises(ValueError, match="2 numbers"):
            build(name, arch_kwargs(2)).compute_conv_feature_map_size((1, 1, 32, 32))

    def test_names_of_what_pretrained_weights_are_loaded_into(self, name):
        network = build(name, arch_kwargs(2))
        state = network.state_dict()
        assert any(key.startswith(network.key_to_encoder) for key in state)
        assert any(key.startswith(network.key_to_stem) for key in state)
        assert {state[f"{key}.weight"].shape[1] for key in network.keys_to_in_proj} == {2}


@with_stock_encoder
class TestStockEncoder:
    @pytest.mark.parametrize(("encoder", "stock_class"), [("plain", PlainConvUNet), ("residual", ResidualEncoderUNet)])
    def test_encoder_is_the_stock_one(self, encoder, stock_class, name):
        kwargs = arch_kwargs(2, encoder)
        stock = stock_class(2, num_classes=3, **kwargs)
        network = build(name, kwargs)
        network.encoder.load_state_dict(stock.encoder.state_dict(), strict=True)
        assert network.key_to_stem == stock.key_to_stem
        assert set(network.keys_to_in_proj) == set(stock.keys_to_in_proj)

    def test_bottleneck_blocks_and_wide_stem(self, name):
        kwargs = arch_kwargs(2, "residual") | {"block": BottleneckD, "bottleneck_channels": 4, "stem_channels": 6}
        assert build(name, kwargs)(torch.randn(2, 2, 32, 32))[0].shape == (2, 3, 32, 32)

    def test_unknown_pooling(self, name):
        with pytest.raises(ValueError, match="'conv', 'max' or 'avg', not 'mean'"):
            build(name, arch_kwargs(2), pool="mean")

    @pytest.mark.parametrize("both", [True, False])
    def test_encoder_must_be_plain_or_residual(self, both, name):
        kwargs = arch_kwargs(2) | {"n_blocks_per_stage": [1] * 5}
        if not both:
            del kwargs["n_conv_per_stage"], kwargs["n_blocks_per_stage"]
        with pytest.raises(ValueError, match="give one"):
            build(name, kwargs)

    def test_residual_blocks_start_as_identity(self, name):
        network = build(name, arch_kwargs(2, "residual"))
        assert network.encoder.stages[1].blocks[0].conv2.norm.weight.count_nonzero() == 0


@every_architecture
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
    def test_plain_encoder(self, change, name):
        kwargs = arch_kwargs(2) | change
        assert build(name, kwargs)(torch.randn(2, 2, 48, 48))[0].shape == (2, 3, 48, 48)

    def test_nonlin_first_swaps_norm_and_nonlin_in_the_decoder_too(self, name):
        x = torch.randn(2, 2, 32, 32)
        outputs = [build(name, arch_kwargs(2) | {"nonlin_first": first})(x)[0] for first in (False, True)]
        assert not outputs[0].allclose(outputs[1])


@every_architecture
def test_unsupervised_heads_wait_for_no_gradient(name):
    """DDP stops when a trainable parameter gets none."""
    heads = build(name, arch_kwargs(2), deep_supervision=False).decoder.seg_layers
    first, *others = heads.values() if isinstance(heads, nn.ModuleDict) else heads
    assert all(p.requires_grad for p in first.parameters())
    assert not any(p.requires_grad for head in others for p in head.parameters())
    assert all(p.requires_grad for p in build(name, arch_kwargs(2)).parameters())


@every_architecture
class TestBadInput:
    def test_unknown_kernel(self, name):
        kwargs = arch_kwargs(2)
        kwargs["kernel_sizes"][1] = [5, 3]
        with pytest.raises(ValueError, match=r"stage 1 has \(5, 3\): change kernel_sizes"):
            build(name, kwargs)

    def test_strided_first_stage(self, name):
        kwargs = arch_kwargs(2)
        kwargs["strides"][0] = [2, 2]
        with pytest.raises(ValueError, match=r"set strides\[0\] to 1"):
            build(name, kwargs)

    def test_one_stage(self, name):
        with pytest.raises(ValueError, match="at least 2, n_stages is 1"):
            build(name, arch_kwargs(2, n_stages=1))

    def test_too_few_entries(self, name):
        kwargs = arch_kwargs(2)
        kwargs["strides"] = kwargs["strides"][:4]
        with pytest.raises(ValueError, match="5 stages needs 5 entries, not 4"):
            build(name, kwargs)


@every_architecture
@pytest.mark.parametrize(("dims", "size"), [(2, (96, 128)), (3, (40, 48, 40))])
def test_compiles_without_graph_break(dims, size, name):
    """nnU-Net compiles the network on CUDA, and runs it in training, validation and prediction.

    Without code generation the graph is the same; grids are large enough for several blocks of rows.
    """
    torch._dynamo.reset()
    network = build(name, arch_kwargs(dims, n_stages=4, width=4))
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
        assert len(compiled(x)) == len(network.decoder.head_stages)
        network.decoder.deep_supervision = False
        assert compiled(x).shape == (2, 3, *size)
