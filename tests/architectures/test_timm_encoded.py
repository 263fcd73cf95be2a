"""UNet 3+, UNet++ and UNet# on classifiers of timm, and ImageNet's weights."""

import math

import pytest
import timm
import torch
from torch import nn

from nnunetv2_unet3plus.architectures import timm_encoded
from nnunetv2_unet3plus.building_blocks.timm_encoder import TimmEncoder
from tests.architectures.plans import arch_kwargs

ARCHITECTURES = [
    f"{decoder}{encoder}"
    for decoder in ("UNet3Plus", "UNetPlusPlus", "UNetSharp")
    for encoder in ("VGG16", "ResNet101")
]
CHANNELS = {"VGG16": [64, 128, 256, 512, 512], "ResNet101": [64, 64, 256, 512, 1024, 2048]}


def build(name, input_channels=1, **options):
    return getattr(timm_encoded, name)(input_channels, num_classes=2, **arch_kwargs(2, n_stages=3) | options)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_any_size_whatever_the_plans_stages(name):
    with torch.device("meta"):
        network = build(name, deep_supervision=True)
        outputs = network(torch.empty(2, 1, 75, 98))
    assert [[*network.encoder.output_channels]] == [
        channels for encoder, channels in CHANNELS.items() if name.endswith(encoder)
    ]
    for stage, logits in zip(network.decoder.head_stages, outputs, strict=True):
        assert tuple(logits.shape[2:]) == tuple(math.ceil(n / 2**stage) for n in (75, 98))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_parameter_gets_a_gradient_and_weights_load_strictly_for_inference(name):
    torch.manual_seed(0)
    network, x = build(name, deep_supervision=True), torch.randn(2, 1, 64, 64)
    network.apply(network.initialize)
    sum(logits.square().mean() for logits in network(x)).backward()
    assert [parameter for parameter, p in network.named_parameters() if p.grad is None] == []
    inference = build(name)
    inference.load_state_dict(network.state_dict(), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(inference.eval()(x), network.eval()(x)[0])
    inference.train()(x).square().mean().backward()  # trained without deep supervision
    assert all((p.grad is not None) == p.requires_grad for p in inference.parameters())


def test_pruning_drops_the_classifiers_deepest_stages():
    network = build("UNetSharpResNet101", prune_level=2)
    assert network.encoder.output_channels == [64, 64, 256]
    whole = build("UNetSharpResNet101").state_dict()
    network.load_state_dict({name: whole[name] for name in network.state_dict()}, strict=True)


def test_3d_plan():
    with pytest.raises(ValueError, match="vgg16_bn is a 2D encoder: train with the configuration 2d"):
        timm_encoded.UNet3PlusVGG16(1, num_classes=2, **arch_kwargs(3, n_stages=3))


def test_memory_counts_what_convs_return():
    # 32 x 32: two convs of 64 channels; 16 x 16: two of 128
    encoder = TimmEncoder(1, "vgg16_bn", 2, nn.Conv2d)
    assert encoder.compute_conv_feature_map_size((32, 32)) == 2 * 64 * 32 * 32 + 2 * 128 * 16 * 16


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(1)
    network = timm.create_model("resnet18", num_classes=1000)
    file = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(network.state_dict(), file)
    return file, network


class TestImageNetsWeights:
    """From a file made here: the tests need no internet."""

    def encoder(self, input_channels, name="resnet18"):
        torch.manual_seed(0)
        return TimmEncoder(input_channels, name, 4, nn.Conv2d)

    def test_from_a_file(self, weights):
        file, network = weights
        encoder = self.encoder(3)
        encoder.load_imagenet_weights(file)
        x = torch.randn(1, 3, 32, 32)
        expected = network.eval().maxpool(network.act1(network.bn1(network.conv1(x))))
        torch.testing.assert_close(encoder.eval()(x)[2], network.layer1(expected))

    def test_grey_images_get_the_sum_of_the_colours(self, weights):
        file, network = weights
        encoder = self.encoder(1)
        encoder.load_imagenet_weights(file)
        torch.testing.assert_close(encoder.body.conv1.weight, network.conv1.weight.sum(1, keepdim=True))

    def test_neither_grey_nor_coloured(self, weights):
        with pytest.raises(ValueError, match="not of 4: train without ImageNet"):
            self.encoder(4).load_imagenet_weights(weights[0])

    def test_of_another_network(self, weights):
        encoder = self.encoder(3, "resnet34")
        before = {name: p.clone() for name, p in encoder.named_parameters()}
        with pytest.raises(ValueError, match=r"not the weights of resnet34, \d+ of \d+ are missing, such as layer"):
            encoder.load_imagenet_weights(weights[0])
        assert all(p.equal(before[name]) for name, p in encoder.named_parameters())

    def test_damaged_and_missing_file(self, tmp_path):
        (tmp_path / "damaged.pth").write_bytes(b"no weights")
        for name in ("damaged.pth", "missing.pth"):
            with pytest.raises(ValueError, match=f"{name}: no readable weights .* copy the file again"):
                self.encoder(3).load_imagenet_weights(tmp_path / name)

    def test_without_internet(self, monkeypatch):
        def unreachable(*_, pretrained=False, **options):
            if pretrained:
                raise OSError("no route to host")
            return create(*_, **options)

        encoder, create = self.encoder(3), timm.create_model
        monkeypatch.setattr(timm, "create_model", unreachable)
        with pytest.raises(ValueError, match=r"fetch https://huggingface.co/timm/resnet18.*unet3plus_imagenet_weights"):
            encoder.load_imagenet_weights()
