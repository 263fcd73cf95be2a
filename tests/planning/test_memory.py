"""The planner's count against bytes really kept for backward, and what is made of it."""

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

from nnunetv2_unet3plus.architectures.slice_stack import SliceStack
from nnunetv2_unet3plus.building_blocks.recompute import as_compiled
from nnunetv2_unet3plus.planning import saved_tensors
from nnunetv2_unet3plus.planning.memory import (
    MemoryNeed,
    TrainingCost,
    check_patch,
    network_on_meta,
    saved_bytes,
    training_cost,
)
from nnunetv2_unet3plus.planning.networks import NETWORKS
from nnunetv2_unet3plus.planning.slices import stacked_architecture
from tests.architectures.plans import arch_kwargs

# as nnU-Net's planner writes them, in their real width and size
PLANS = {
    "2d": ({"dims": 2, "n_stages": 8}, (512, 512)),
    "2d small": ({"dims": 2, "n_stages": 6}, (256, 224)),
    "2d residual": ({"dims": 2, "n_stages": 7, "encoder": "residual"}, (320, 320)),
    "3d": ({"dims": 3, "n_stages": 6}, (128, 128, 128)),
    "3d shallow": ({"dims": 3, "n_stages": 4}, (40, 56, 40)),
    "3d anisotropic": ({"dims": 3, "n_stages": 5, "anisotropic": True}, (20, 256, 224)),
    "3d residual": ({"dims": 3, "n_stages": 5, "encoder": "residual"}, (64, 96, 96)),
}


def on_meta(name, plan, deep_supervision=True, network_class=None, **options):
    network = NETWORKS[name] if network_class is None else None
    with torch.device("meta"):
        return (network_class or network.network_class)(
            1,
            num_classes=3,
            deep_supervision=deep_supervision,
            **(network.options if network else {}),
            **arch_kwargs(**{"width": 32} | plan),
            **options,
        )


def assert_count_is_what_is_kept(network, patch, batch_size=2):
    x = torch.empty(batch_size, 1, *patch, device="meta")
    values = network.compute_conv_feature_map_size(patch)
    numbers, indices = saved_tensors.saved_bytes_by_kind(as_compiled(network), x)
    assert saved_bytes(values, batch_size, 4) == pytest.approx(numbers + indices, rel=0.15)
    assert saved_bytes(values, batch_size, 2) == pytest.approx(numbers / 2 + indices, rel=0.15)


class TestCountOfValuesKept:
    """Within 15 % of what autograd keeps, in single and in mixed precision."""

    @pytest.mark.parametrize("plan", PLANS)
    @pytest.mark.parametrize("name", ["unet3plus", "unet3plus_lite", "unetplusplus", "unetsharp"])
    def test_networks_on_the_plans_encoder(self, name, plan):
        kwargs, patch = PLANS[plan]
        assert_count_is_what_is_kept(on_meta(name, kwargs), patch)

    @pytest.mark.parametrize("plan", ["2d small", "3d residual"])
    @pytest.mark.parametrize("name", ["unet3plus_cgm", "unetsharp_cgm"])
    def test_networks_with_gates(self, name, plan):
        kwargs, patch = PLANS[plan]
        assert_count_is_what_is_kept(on_meta(name, kwargs), patch)

    @pytest.mark.parametrize("name", [name for name, network in NETWORKS.items() if network.own_encoder])
    def test_networks_on_encoders_of_their_own(self, name):
        for plan in ("2d small",) if NETWORKS[name].planar else ("2d small", "3d anisotropic"):
            kwargs, patch = PLANS[plan]
            assert_count_is_what_is_kept(on_meta(name, kwargs), patch)

    @pytest.mark.parametrize("plan", ["2d small", "3d shallow"])
    @pytest.mark.parametrize("name", ["unet3plus", "unetplusplus", "unetsharp"])
    def test_without_deep_supervision(self, name, plan):
        kwargs, patch = PLANS[plan]
        assert_count_is_what_is_kept(on_meta(name, kwargs, deep_supervision=False), patch)

    @pytest.mark.parametrize("name", ["unet3plus", "unet3plus_cgm", "unetplusplus"])
    def test_stacked_slices(self, name):
        network = NETWORKS[name].network_class
        kwargs = arch_kwargs(dims=2, n_stages=7, width=32)
        kwargs |= {key: [[1, *entry] for entry in kwargs[key]] for key in ("strides", "kernel_sizes")}
        with torch.device("meta"):
            stack = SliceStack(1, 3, True, network_class_name=f"{network.__module__}.{network.__name__}", **kwargs)
        assert_count_is_what_is_kept(stack, (8, 320, 320))

    @pytest.mark.parametrize("plan", PLANS)
    def test_nnunets_own_networks(self, plan):
        kwargs, patch = PLANS[plan]
        stock = ResidualEncoderUNet if kwargs.get("encoder") else PlainConvUNet
        assert_count_is_what_is_kept(on_meta(None, kwargs, network_class=stock), patch)

    @pytest.mark.parametrize("dims", [2, 3])
    @pytest.mark.parametrize("name", [name for name, network in NETWORKS.items() if not network.planar])
    def test_the_meta_device_keeps_what_the_cpu_keeps(self, name, dims):
        kwargs, size = arch_kwargs(dims=dims, n_stages=3), {2: (48, 48), 3: (16, 16, 16)}[dims]
        kept = []
        for device in ("cpu", "meta"):
            with torch.device(device):
                network = NETWORKS[name].network_class(1, num_classes=3, deep_supervision=True, **kwargs)
                kept.append(saved_tensors.saved_bytes(as_compiled(network), torch.zeros(2, 1, *size)))
        assert kept[0] == pytest.approx(kept[1], rel=0.02)  # the CPU computes narrow heads in another order


class TestTrainingCost:
    def test_by_hand(self):
        # 1e9 counts, two half-precision values each: 4 GB a patch, 6 with backward; 14 bytes a parameter
        cost = TrainingCost(stored_values=10**9, parameters=10**8, backward_share=1.5)
        assert cost.gigabytes(0) == pytest.approx(1.9 + 1.4)
        assert cost.gigabytes(2) == pytest.approx(1.9 + 1.4 + 12)
        assert [cost.largest_batch(gb) for gb in (3, 9.2, 9.4, 15.4)] == [0, 0, 1, 2]

    @pytest.mark.parametrize(
        ("stock", "plan", "patch", "published"),
        [
            (PlainConvUNet, {}, (128, 128, 128), 7.7),
            (ResidualEncoderUNet, {"encoder": "residual"}, (128, 128, 128), 9.1),
            (ResidualEncoderUNet, {"encoder": "residual"}, (192, 192, 192), 22.7),
            (ResidualEncoderUNet, {"encoder": "residual"}, (224, 256, 224), 36.6),
        ],
    )
    def test_nnunets_presets_take_what_their_authors_saw(self, stock, plan, patch, published):
        """On LiTS and KiTS, of the six data sets the most memory in one preset and the least in another."""
        plan = {"dims": 3, "n_stages": 6, "width": 32} | plan
        kwargs = arch_kwargs(**plan) | {"features_per_stage": [32, 64, 128, 256, 320, 320]}
        if plan.get("encoder"):
            kwargs["n_blocks_per_stage"] = [1, 3, 4, 6, 6, 6]
        else:
            kwargs["n_conv_per_stage"], kwargs["n_conv_per_stage_decoder"] = [2] * 6, [2] * 5
        with torch.device("meta"):
            network = stock(1, num_classes=3, deep_supervision=True, **kwargs)
        assert training_cost(network, 1, patch).gigabytes(2) == pytest.approx(published, rel=0.1)

    def test_known_share_spares_the_dry_run(self):
        cost = training_cost(on_meta("unet3plus", {"dims": 2, "n_stages": 3}), 1, (32, 32), share=1.25)
        assert cost.backward_share == 1.25

    def test_of_a_plans_architecture(self):
        kwargs = arch_kwargs(2, n_stages=3)
        importable = {k: f"{v.__module__}.{v.__name__}" for k, v in kwargs.items() if isinstance(v, type)}
        architecture = {
            "network_class_name": "nnunetv2_unet3plus.architectures.unet3plus.UNet3Plus",
            "arch_kwargs": kwargs | importable,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }
        flat = training_cost(network_on_meta(architecture, 3, 2), 3, (32, 32))
        stacked = training_cost(network_on_meta(stacked_architecture(architecture), 1, 2), 1, (8, 32, 32))
        assert stacked.stored_values == 8 * flat.stored_values
        assert stacked.parameters == flat.parameters
        assert stacked.backward_share == pytest.approx(flat.backward_share, rel=0.02)


class TestMemoryNeed:
    def test_target_scales_with_the_extra_need(self):
        # twice the plan's own network: to stay within 8 GB, plan for 4
        assert MemoryNeed(network=16, plan_network=8, target=8).target_for(8) == 4

    def test_single_precision_takes_twice_as_much(self):
        need = MemoryNeed(network=16, plan_network=8, target=8)
        assert (need.on("cuda"), need.on("cpu")) == (16, 32)
        assert need.target_for(8, "cpu") == 2
        assert (need.vram_for(8), need.vram_for(8, "cpu")) == (8, 4)

    def test_budget_of_a_plan_made_for_more(self):
        # -gpu_memory_target is not in nnU-Net's plans, the network it allowed is
        assert MemoryNeed(network=30, plan_network=24, target=8).budget == 24
        assert MemoryNeed(network=3, plan_network=2, target=8).budget == 8


def test_one_voxel_in_the_deepest_map_is_refused():
    strides = [(1, 1), (2, 2), (2, 2)]
    check_patch((8, 4), strides)
    with pytest.raises(ValueError, match=r"4 x 4 voxels is too small for 3 stages.*n_stages"):
        check_patch((4, 4), strides)


def test_shortcuts_of_a_residual_encoder_pool_no_less_than_their_window():
    strides = [(1, 1, 1), (2, 2, 2), (2, 2, 2)]
    check_patch((2, 8, 8), strides)
    with pytest.raises(ValueError, match=r"2 x 8 x 8 voxels is too small .* stage 2: 1 x 4 x 4 .* pool by 2 x 2 x 2"):
        check_patch((2, 8, 8), strides, residual=True)
    check_patch((2, 8, 8), [(1, 1, 1), (2, 2, 2), (1, 2, 2)], residual=True)
