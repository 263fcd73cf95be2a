"""2D networks on stacks of slices: every one of the package, and nnU-Net's own."""

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunetv2_unet3plus.architectures import baselines, papers, timm_encoded
from nnunetv2_unet3plus.architectures.slice_stack import SliceStack, SliceWise
from tests.architectures.plans import arch_kwargs
from tests.architectures.test_every_architecture import ARCHITECTURES, GATED, OTHERS_IN_2D

CHANNELS, CLASSES = 1, 3
STOCK = {"PlainConvUNet": PlainConvUNet, "ResidualEncoderUNet": ResidualEncoderUNet}
FROM_PLANS = {name: network_class for name, (network_class, *_) in ARCHITECTURES.items()} | GATED | STOCK
SIZE = (16, 24)
MUCH_LIKE_OTHERS = ("UNetPlusPlus", "UNetSharp", "DeepLabV3Plus", "unet3plus_paper_", "unetsharp_paper_wide")


def full_name(network_class):
    return f"{network_class.__module__}.{network_class.__qualname__}"


def plan_of(name="UNet3Plus", slices=3, **options):
    """Arguments of SliceStack as our planner writes them, and the 2D ones they are made of."""
    kwargs = arch_kwargs(2, "residual" if name == "ResidualEncoderUNet" else "plain", n_stages=3)
    leading = {key: [[1, *entry] for entry in kwargs[key]] for key in ("strides", "kernel_sizes")}
    return kwargs | leading | {"network_class_name": full_name(FROM_PLANS[name]), "slices": slices} | options


def build(name="UNet3Plus", channels=CHANNELS, deep_supervision=False, **options):
    torch.manual_seed(0)
    network = SliceStack(channels, num_classes=CLASSES, deep_supervision=deep_supervision, **plan_of(name, **options))
    return network.apply(network.initialize)


def wrapped(name):
    """Networks whose stages are their own, without a plan; 32 voxels are enough for the deepest."""
    torch.manual_seed(0)
    if name.islower():
        return SliceWise(getattr(papers, name)(3 * CHANNELS, CLASSES, deep_supervision=False))
    network_class = vars(timm_encoded).get(name) or getattr(baselines, name)
    return SliceWise(network_class(3 * CHANNELS, num_classes=CLASSES, **arch_kwargs(2, n_stages=3)))


def assert_slices_are_segmented_as_by_the_2d_network(network, x, tolerance=1e-5):
    """Interior slices on explicit stacks of three, the first and last on stacks with themselves for a neighbour."""
    network.eval()
    with torch.no_grad():
        logits = network(x)
        assert logits.shape == (len(x), CLASSES, *x.shape[2:])
        for d in range(x.shape[2]):
            below, above = max(d - 1, 0), min(d + 1, x.shape[2] - 1)
            expected = network.network(torch.cat([x[:, :, below], x[:, :, d], x[:, :, above]], dim=1))
            scale = expected.abs().max().item()
            torch.testing.assert_close(logits[:, :, d], expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("name", FROM_PLANS)
def test_slices_are_segmented_as_by_the_2d_network(name):
    assert_slices_are_segmented_as_by_the_2d_network(build(name), torch.randn(2, CHANNELS, 5, *SIZE))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * name.startswith(MUCH_LIKE_OTHERS)) for name in OTHERS_IN_2D],
)
def test_networks_with_stages_of_their_own(name):
    assert_slices_are_segmented_as_by_the_2d_network(wrapped(name), torch.randn(1, CHANNELS, 3, 32, 32))


def test_several_channels():
    assert_slices_are_segmented_as_by_the_2d_network(build(channels=2), torch.randn(2, 2, 4, *SIZE))


def test_other_numbers_of_slices():
    x = torch.randn(1, CHANNELS, 6, *SIZE)
    network = build(slices=5).eval()
    with torch.no_grad():
        expected = network.network(x[:, 0, 1:6])
        torch.testing.assert_close(network(x)[:, :, 3], expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("name", FROM_PLANS)
def test_one_slice(name):
    assert build(name)(torch.randn(2, CHANNELS, 1, *SIZE)).shape == (2, CLASSES, 1, *SIZE)


@pytest.mark.parametrize("name", FROM_PLANS)
def test_heads_of_deep_supervision(name):
    network = build(name, deep_supervision=True)
    x = torch.randn(2, CHANNELS, 4, *SIZE)
    outputs = everything = network(x)
    if name in GATED:
        *outputs, presence = everything
        assert presence.shape == (2, 4 if name == "UNetSharpCGM" else 1, 4, CLASSES - 1, 2)
    stages = range(2) if name in STOCK else network.decoder.head_stages
    assert [tuple(o.shape) for o in outputs] == [(2, CLASSES, 4, SIZE[0] // 2**s, SIZE[1] // 2**s) for s in stages]
    sum(o.square().mean() for o in everything).backward()
    assert [parameter for parameter, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", FROM_PLANS)
def test_trained_weights_load_strictly_for_inference(name):
    trained, inference = build(name, deep_supervision=True).eval(), build(name).eval()
    inference.load_state_dict(trained.state_dict(), strict=True)
    trained.decoder.deep_supervision = False  # the switch nnU-Net flips
    x = torch.randn(1, CHANNELS, 3, *SIZE)
    with torch.no_grad():
        assert inference(x).equal(trained(x))


@pytest.mark.parametrize("slices", [1, 3, 5])
def test_a_slice_sees_its_neighbours_and_no_others(slices):
    x = torch.randn(1, CHANNELS, 8, *SIZE, requires_grad=True)
    build(slices=slices)(x)[:, 1:, 4].square().sum().backward()
    seen = x.grad.abs().amax((0, 1, 3, 4)) > 0
    assert seen.nonzero().flatten().tolist() == list(range(4 - slices // 2, 5 + slices // 2))


@pytest.mark.parametrize("name", FROM_PLANS)
def test_memory_is_that_of_the_2d_network_for_every_slice(name):
    network = build(name, deep_supervision=True)
    assert network.compute_conv_feature_map_size((8, 32, 48)) == 8 * network.network.compute_conv_feature_map_size(
        (32, 48)
    )


def test_gates_answer_for_every_slice():
    network = build("UNet3PlusCGM", deep_supervision=True).eval()
    x = torch.randn(2, CHANNELS, 4, *SIZE)
    with torch.no_grad():
        answers = network.presence_logits(x)
        assert answers.shape == (8, 1, CLASSES - 1, 2)
        assert answers.unflatten(0, (2, 4)).transpose(1, 2).equal(network(x)[-1])


def test_a_gate_clears_the_slices_it_calls_empty():
    network = build("UNet3PlusCGM").eval()
    x = torch.randn(1, CHANNELS, 4, *SIZE)
    with torch.no_grad():
        probability = network.presence_logits(x)[:, 0].softmax(-1)[..., 1]
        lowest = probability.amax(1).argmin().item()  # the slice that is emptied first
        network.gatings[0].thresholds.fill_(probability.amax(1).sort().values[:2].mean().item())
        cleared = (network(x)[:, 1:] == -10).flatten(3).all(3).all(1)[0]
    assert cleared.tolist() == [d == lowest for d in range(4)]


def test_class_name_in_plans():
    plan = plan_of()
    plan |= {key: full_name(value) for key, value in plan.items() if isinstance(value, type)}
    network = get_network_from_plans(
        full_name(SliceStack), plan, ["conv_op", "norm_op", "dropout_op", "nonlin"], 2, CLASSES, deep_supervision=True
    )
    assert network(torch.randn(1, 2, 4, *SIZE))[0].shape == (1, CLASSES, 4, *SIZE)


def test_starts_as_the_2d_network_does():
    """nnU-Net calls `initialize` through `apply`, if there is one."""
    assert build("ResidualEncoderUNet").initialize is ResidualEncoderUNet.initialize
    assert not hasattr(wrapped("PSPNet"), "initialize")


@pytest.mark.parametrize("name", FROM_PLANS)
def test_names_of_what_pretrained_weights_are_loaded_into(name):
    network = build(name)
    assert network.get_submodule(network.key_to_encoder)
    assert network.get_submodule(network.key_to_stem)
    assert {network.get_submodule(key).weight.shape[1] for key in network.keys_to_in_proj} == {3 * CHANNELS}


def test_compiles_without_graph_break():
    torch._dynamo.reset()
    network = build("UNet3PlusCGM", deep_supervision=True)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    x = torch.randn(2, CHANNELS, 4, *SIZE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = compiled(x)
    sum(o.float().square().mean() for o in outputs).backward()
    network.eval()
    with torch.no_grad():
        for a, b in zip(compiled(x), network(x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_compiled_inference_skips_the_same_slices():
    torch._dynamo.reset()
    network = build("UNet3PlusCGM").eval()
    compiled = torch.compile(network, backend="aot_eager")
    x = torch.randn(1, CHANNELS, 6, *SIZE)
    with torch.no_grad():
        presence = network.presence_logits(x)[:, 0].softmax(-1)[..., 1].amax(1).sort().values.tolist()
        for skipped in (0, 2, 3, 6):
            between = sum([0, *presence, 1][skipped : skipped + 2]) / 2
            network.gatings[0].thresholds.fill_(between)
            before = network.gatings[0].count.skipped
            logits = compiled(x)
            assert network.gatings[0].count.skipped - before == skipped
            torch.testing.assert_close(logits, network(x), rtol=1e-3, atol=1e-4)


class TestBadInput:
    @pytest.mark.parametrize("slices", [0, 2, -1, 3.0, True])
    def test_stack_without_a_middle(self, slices):
        with pytest.raises(ValueError, match="slices must be an odd number"):
            build(slices=slices)

    def test_unknown_network(self):
        with pytest.raises(ValueError, match=r"network_class_name 'a\.B'.* cannot be imported"):
            build(network_class_name="a.B")

    @pytest.mark.parametrize("strides", [[[1, 1], [2, 2], [2, 2]], [[1, 1, 1], [2, 2, 2], [1, 2, 2]], [1, 2, 2], 2])
    def test_strides_along_the_slices(self, strides):
        with pytest.raises(ValueError, match="strides of stacked slices has three numbers a stage, 1 for the slices"):
            build(strides=strides)

    def test_images(self):
        with pytest.raises(ValueError, match=r"not \(1, 3, 16, 24\): give patch_size three numbers"):
            build()(torch.randn(1, 3, *SIZE))
