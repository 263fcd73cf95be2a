"""The planner's count against bytes really kept for backward."""

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

from benchmarks.measure import saved_bytes
from nnunetv2_unet3plus.architectures.unet3plus import UNet3Plus
from nnunetv2_unet3plus.planning.memory import MemoryNeed, check_patch, training_gigabytes
from tests.architectures.plans import arch_kwargs

PLANS = [
    ({"dims": 2, "n_stages": 6, "width": 32}, (256, 256)),
    ({"dims": 2, "n_stages": 8, "width": 32}, (512, 512)),
    ({"dims": 2, "n_stages": 6, "width": 32, "encoder": "residual"}, (256, 256)),
    ({"dims": 3, "n_stages": 5, "width": 32}, (64, 96, 96)),
    ({"dims": 3, "n_stages": 5, "width": 32, "anisotropic": True}, (32, 128, 128)),
    ({"dims": 3, "n_stages": 5, "width": 32, "encoder": "residual"}, (64, 64, 64)),
]


@pytest.mark.parametrize("classes", [3, 16])
@pytest.mark.parametrize(("plan", "patch"), PLANS)
def test_counted_values_follow_saved_bytes(plan, patch, classes):
    """Against nnU-Net's own network, whose count the planner's budget is calibrated with.

    The full-scale loss keeps nothing more for backward, see tests/losses/test_deep_supervision.py.
    """
    kwargs = arch_kwargs(**plan)
    stock_class = {"plain": PlainConvUNet, "residual": ResidualEncoderUNet}[plan.get("encoder", "plain")]
    with torch.device("meta"):
        stock = stock_class(1, num_classes=classes, deep_supervision=True, **kwargs)
        ours = UNet3Plus(1, num_classes=classes, deep_supervision=True, **kwargs)
        x = torch.empty(1, 1, *patch)
    counted = ours.compute_conv_feature_map_size(patch) / stock.compute_conv_feature_map_size(patch)
    measured = saved_bytes(ours, x) / saved_bytes(stock, x)
    assert counted == pytest.approx(measured, rel=0.15)


def test_gigabytes_by_hand():
    # 85e6 values a patch, 12 patches: the training nnU-Net's planner calls 8 GB; half the patches, half of it
    assert training_gigabytes(85_000_000, 12, dims=2, residual=False) == 8
    assert training_gigabytes(85_000_000, 6, dims=2, residual=False) == 4
    assert training_gigabytes(680_000_000, 1, dims=3, residual=True) == 4


def test_target_scales_with_the_extra_need():
    # twice the plan's own network: to stay within 8 GB, plan for 4
    assert MemoryNeed(network=16, plan_network=8, target=8).target_for(8) == 4


def test_single_precision_takes_twice_as_much():
    need = MemoryNeed(network=16, plan_network=8, target=8)
    assert (need.on("cuda"), need.on("cpu")) == (16, 32)
    assert need.target_for(8, "cpu") == 2


def test_budget_of_a_plan_made_for_more():
    # -gpu_memory_target is not in the plans, the network it allowed is
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
