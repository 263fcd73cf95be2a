"""V-Net's encoder: the paper's stages, any plan, any size."""

import math

import pytest
import torch
from torch import nn

from nnunetv2_unet3plus.building_blocks.vnet_encoder import VNetEncoder, convs_per_stage
from tests.architectures.plans import arch_kwargs


@pytest.mark.parametrize(
    ("n_stages", "convs"),
    [(2, [1, 1]), (3, [1, 1, 2]), (4, [1, 1, 2, 2]), (5, [1, 1, 2, 3, 2]), (6, [1, 1, 2, 3, 3, 2])],
)
def test_convs_per_stage(n_stages, convs):
    assert convs_per_stage(n_stages) == convs


def test_parameters_of_the_papers_encoder():
    with torch.device("meta"):
        encoder = VNetEncoder(
            1, 5, (16, 32, 64, 128, 256), nn.Conv3d, 3, (1, 2, 2, 2, 2), convs_per_stage(5), True, nn.BatchNorm3d
        )
    assert sum(p.numel() for p in encoder.parameters()) == 24_036_848


@pytest.mark.parametrize("anisotropic", [False, True])
@pytest.mark.parametrize(("dims", "size"), [(2, (21, 32)), (3, (9, 14, 21))])
def test_grids_are_those_of_the_plan(dims, size, anisotropic):
    kwargs = arch_kwargs(dims, n_stages=4, anisotropic=anisotropic)
    maps = VNetEncoder(2, **kwargs)(torch.randn(1, 2, *size))
    for x, stride, channels in zip(maps, kwargs["strides"], kwargs["features_per_stage"], strict=True):
        size = tuple(math.ceil(n / s) for n, s in zip(size, stride, strict=True))
        assert x.shape == (1, channels, *size)


def test_kernels_are_wide_where_the_plan_has_taps():
    encoder = VNetEncoder(1, **arch_kwargs(3, n_stages=3, anisotropic=True))
    assert [stage.convs[0].conv.kernel_size for stage in encoder.stages] == [(1, 5, 5), (1, 5, 5), (5, 5, 5)]
    assert [stage.down.conv.kernel_size for stage in encoder.stages[1:]] == [(1, 2, 2), (1, 2, 2)]


def test_a_stage_carries_its_input_around_its_convs():
    encoder = VNetEncoder(3, **arch_kwargs(2, n_stages=2))
    for parameter in encoder.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(encoder.stages[0](x), x.mean(1, keepdim=True).expand(-1, 8, -1, -1))


def test_feature_map_size_counts_half_the_maps_kept():
    # 8 x 8 with 8 channels: one block of three maps; 4 x 4 with 16: two blocks and the last PReLU's input; 2 x 2 with
    # 32: three blocks and the same
    encoder = VNetEncoder(1, **arch_kwargs(2, n_stages=3) | {"n_conv_per_stage": convs_per_stage(3)})
    assert encoder.compute_conv_feature_map_size((8, 8)) == (3 * 8 * 64 + 7 * 16 * 16 + 10 * 32 * 4) / 2
