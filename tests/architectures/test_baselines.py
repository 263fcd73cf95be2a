"""The libraries' networks: any size, logits at full size, every parameter trained; what they refuse."""

import pytest
import torch

from nnunetv2_unet3plus.architectures import baselines
from nnunetv2_unet3plus.errors import ConfigurationError
from tests.architectures.plans import arch_kwargs

NETWORKS = ["PSPNet", "DeepLabV3", "DeepLabV3Plus", "AttentionUNet"]


def build(name, dims=2, **options):
    return getattr(baselines, name)(1, num_classes=3, **arch_kwargs(dims), **options)


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_at_full_size_and_a_gradient_for_every_parameter(name):
    torch.manual_seed(0)
    network = build(name)
    logits = network(torch.randn(2, 1, 75, 50))
    assert logits.shape == (2, 3, 75, 50)
    logits.square().mean().backward()
    assert [parameter for parameter, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ["DeepLabV3", "DeepLabV3Plus"])
def test_batch_of_one(name):
    network = build(name)
    with pytest.raises(ConfigurationError, match=f"{name} needs two patches or more"):
        network(torch.randn(1, 1, 32, 32))
    assert network.eval()(torch.randn(1, 1, 32, 32)).shape == (1, 3, 32, 32)


@pytest.mark.parametrize("name", NETWORKS)
def test_memory_is_counted(name):
    with torch.device("meta"):
        assert build(name).compute_conv_feature_map_size((64, 64)) > 64 * 64


@pytest.mark.parametrize("name", NETWORKS)
def test_3d_plan(name):
    with pytest.raises(ValueError, match=f"{name} is a 2D network: train it with the configuration 2d"):
        build(name, dims=3)


def test_deep_supervision():
    with pytest.raises(ValueError, match="train it without deep supervision"):
        build("PSPNet", deep_supervision=True)


@pytest.mark.parametrize(("name", "library"), [("PSPNet", "segmentation_models_pytorch"), ("AttentionUNet", "monai")])
def test_library_that_is_not_installed(name, library, monkeypatch):
    def missing(module):
        raise ModuleNotFoundError(module)

    monkeypatch.setattr(baselines, "import_module", missing)
    with pytest.raises(ConfigurationError, match=rf"{library} is not installed: pip install 'nnunetv2-unet3plus\[base"):
        build(name)
