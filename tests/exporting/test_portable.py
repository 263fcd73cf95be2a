"""Every architecture as a program of PyTorch's own operators, read back where this package is not imported."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from nnunetv2_unet3plus.building_blocks.resize_conv import ResizeConv2d, interpolate_taps
from nnunetv2_unet3plus.building_blocks.resize_conv_tiles import tiles_apply
from nnunetv2_unet3plus.building_blocks.winograd import WideConv2d, winograd_pays
from nnunetv2_unet3plus.errors import UserError
from nnunetv2_unet3plus.exporting.portable import _interpolate_taps, export_network
from tests.architectures.test_every_architecture import ARCHITECTURES, GATED, OTHERS_IN_2D, network_for_inference

READER = """
import sys
import torch

for stem in sys.argv[1:]:
    patch, expected = torch.load(f"{stem}.pt")
    with torch.no_grad():
        logits = torch.export.load(f"{stem}.pt2").module()(patch)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
assert not [name for name in sys.modules if name.startswith("nnunetv2_unet3plus.")]
print("equal")
"""


def write(network, patch, stem):
    """The file of a program, and beside it a patch and the network's answer."""
    with torch.no_grad():
        expected = network(patch)
    assert expected.abs().max() > 0
    torch.export.save(export_network(network, patch), f"{stem}.pt2")
    torch.save((patch, expected), f"{stem}.pt")
    return str(stem)


def read_in_a_fresh_process(stems):
    finished = subprocess.run([sys.executable, "-W", "ignore", "-c", READER, *stems], capture_output=True, text=True)
    assert finished.stdout == "equal\n", finished.stderr


def write_architecture(name, dims, folder):
    size = [32] * dims if name in OTHERS_IN_2D else [8, 16, 21][-dims:]
    network = network_for_inference(name, dims).eval()
    return write(network, torch.randn(1, 2, *size), folder / f"{name}_{dims}")


def test_main_architectures(tmp_path):
    main = [("UNet3Plus", 3), ("UNet3PlusCGM", 2), ("UNetSharp", 2)]
    read_in_a_fresh_process([write_architecture(*which, tmp_path) for which in main])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dims"),
    [(name, dims) for name in (*ARCHITECTURES, *GATED) for dims in (2, 3)] + [(name, 2) for name in OTHERS_IN_2D],
)
def test_every_architecture(name, dims, tmp_path):
    read_in_a_fresh_process([write_architecture(name, dims, tmp_path)])


@pytest.mark.parametrize("name", GATED)
@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_gate_is_part_of_the_program(name, threshold):
    """Called absent everywhere, a patch is background, whatever has been decoded."""
    network = network_for_inference(name, 2).eval()
    for gating in network.gatings:
        gating.thresholds.fill_(threshold)
    patch = torch.randn(1, 2, 16, 16)
    with torch.no_grad():
        logits, expected = export_network(network, patch).module()(patch), network(patch)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert (logits.argmax(1) == 0).all() == (threshold == 1)


@pytest.mark.parametrize(
    ("grid", "size", "taps"),
    [
        ((40, 24), (80, 96), (3, 3)),
        ((3, 40, 5), (3, 80, 10), (1, 3, 3)),
        ((5, 7), (5, 7), (3, 1)),
        ((6, 1), (9, 2), (1, 3)),
    ],
)
def test_interpolation_is_the_operators(grid, size, taps):
    """Grids of several bands, axes that are resized, that have taps, and that have neither."""
    y = torch.randn(2, 4 * torch.tensor(taps).prod(), *grid, dtype=torch.float64)
    found, expected = _interpolate_taps(y, size, taps), interpolate_taps(y, size, taps)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_wide_convolution(tmp_path):
    x = torch.randn(1, 128, 48, 48).to(memory_format=torch.channels_last)
    network = WideConv2d(128, 128, 3, padding=1).eval()
    assert winograd_pays(x, network.weight)
    read_in_a_fresh_process([write(network, x, tmp_path / "wide")])


def test_resized_convolution(tmp_path):
    x = torch.randn(1, 32, 12, 16).to(memory_format=torch.channels_last)
    network = Doubled(32, 8, (3, 3)).eval()
    assert tiles_apply(x, network.weight)
    read_in_a_fresh_process([write(network, x, tmp_path / "resized")])


class Doubled(ResizeConv2d):
    def forward(self, x):
        return super().forward(x, [2 * n for n in x.shape[2:]])


def test_operators_of_another_library():
    @torch.library.custom_op("elsewhere::double", mutates_args=())
    def double(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @double.register_fake
    def _(x):
        return torch.empty_like(x)

    class Network(nn.Module):
        def forward(self, x):
            return double(x)

    with pytest.raises(UserError, match="Network computes with operators of elsewhere"):
        export_network(Network(), torch.zeros(1))
