"""Encoders of timm, which keeps the classifiers of ImageNet: VGG-16 and ResNet-101 of the papers. 2D."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn

from nnunetv2_unet3plus.building_blocks.conv_outputs import count_conv_outputs
from nnunetv2_unet3plus.errors import ConfigurationError

RGB_OR_GREY = (1, 3)


class TimmEncoder(nn.Module):
    """The first stages of a classifier, each at half the resolution of the one before.

    Where the classifier starts at half the images' resolution a conv block of our own comes before it, as wide as its
    first stage: the segmentation is made at full resolution.
    """

    def __init__(
        self,
        input_channels: int,
        name: str,
        n_stages: int,
        conv_op: type[nn.Module],
        norm_op: type[nn.Module] | None = None,
        norm_op_kwargs: dict[str, Any] | None = None,
        dropout_op: type[nn.Module] | None = None,
        dropout_op_kwargs: dict[str, Any] | None = None,
        nonlin: type[nn.Module] | None = None,
        nonlin_kwargs: dict[str, Any] | None = None,
        conv_bias: bool = False,
        nonlin_first: bool = False,
        **_not_used: Any,
    ) -> None:
        """Build the encoder, weights at random; most arguments are for the decoder.

        Args:
            input_channels: channels of the images.
            name: of the classifier in timm.
            n_stages: of which the conv block of our own is one.
            conv_op: `nn.Conv2d`.
            norm_op: of the decoder and the conv block, as what follows.
            norm_op_kwargs: see `plan_encoder`.
            dropout_op: see `plan_encoder`.
            dropout_op_kwargs: see `plan_encoder`.
            nonlin: see `plan_encoder`.
            nonlin_kwargs: see `plan_encoder`.
            conv_bias: see `plan_encoder`.
            nonlin_first: see `plan_encoder`.

        Raises:
            ValueError: for a 3D plan.
        """
        super().__init__()
        if conv_op is not nn.Conv2d:
            raise ConfigurationError(
                f"{name} is a 2D encoder: train with the configuration 2d, or a network of another encoder."
            )
        self.name = name
        self.conv_op, self.conv_bias = conv_op, conv_bias
        self.norm_op, self.norm_op_kwargs = norm_op, norm_op_kwargs
        self.dropout_op, self.dropout_op_kwargs = dropout_op, dropout_op_kwargs
        self.nonlin, self.nonlin_kwargs = nonlin, nonlin_kwargs

        halves_at_once = _body(name, input_channels, (0,)).feature_info.reduction()[0] > 1
        self.out_indices = tuple(range(n_stages - halves_at_once))
        self.body = _body(name, input_channels, self.out_indices)
        channels = self.body.feature_info.channels()
        self.stem: nn.Module | None = None
        if halves_at_once:
            self.stem = ConvDropoutNormReLU(
                conv_op, input_channels, channels[0], 3, 1, conv_bias, norm_op, norm_op_kwargs, dropout_op,
                dropout_op_kwargs, nonlin, nonlin_kwargs, nonlin_first,
            )  # fmt: skip
            channels = [channels[0], *channels]
        self.output_channels = channels
        self.strides = [[1, 1]] + [[2, 2]] * (n_stages - 1)
        self.kernel_sizes = [[3, 3]] * n_stages

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps of all stages, finest first, for images ``(B, input_channels, *size)``."""
        return [*([] if self.stem is None else [self.stem(x)]), *self.body(x)]

    def load_imagenet_weights(self, file: Path | None = None) -> None:
        """Replace the classifier's weights by those trained on ImageNet.

        Args:
            file: what timm would download; None to download it.

        Raises:
            ValueError: if the images have neither one channel nor three, or the weights are not to be had.
        """
        input_channels = next(self.body.parameters()).shape[1]
        if input_channels not in RGB_OR_GREY:
            raise ConfigurationError(
                f"ImageNet's weights are for images of 3 channels, or of 1 as their sum, not of {input_channels}: "
                "train without ImageNet."
            )
        options: dict[str, Any] = {"pretrained": True}
        if file is not None:
            self._check(file)
            options["pretrained_cfg_overlay"] = {"file": str(file)}
        try:
            body = _body(self.name, input_channels, self.out_indices, **options)
        except Exception as error:  # what a download can raise is not for us to list
            raise ConfigurationError(
                f"The ImageNet weights of {self.name} could not be loaded ({type(error).__name__}): where there is no "
                f"internet, fetch https://huggingface.co/timm/{_full_name(self.name)} (model.safetensors) elsewhere "
                "and set unet3plus_imagenet_weights to the file."
            ) from error
        self.body.load_state_dict(body.state_dict())

    def _check(self, file: Path) -> None:
        """Timm would say nothing of weights that a file lacks."""
        try:
            held = timm.models.load_state_dict(str(file))
        except Exception as error:  # a missing, truncated or foreign file, each with an exception of its own
            raise ConfigurationError(
                f"{file}: no readable weights ({type(error).__name__}); copy the file again."
            ) from error
        wanted = {name.replace("features_", "features.") for name, _ in self.body.named_parameters()}
        if missing := wanted - set(held):
            raise ConfigurationError(
                f"{file}: these are not the weights of {self.name}, {len(missing)} of {len(wanted)} are missing, such "
                f"as {min(missing)}; fetch model.safetensors of https://huggingface.co/timm/{_full_name(self.name)}."
            )

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """Values that convs return, in nnU-Net's unit: one conv block's output counts once.

        Args:
            input_size: spatial size of the patch.
        """
        return count_conv_outputs(self, next(self.body.parameters()).shape[1], input_size)


def _body(name: str, input_channels: int, out_indices: tuple[int, ...], **options: Any) -> Any:
    body = timm.create_model(name, features_only=True, out_indices=out_indices, in_chans=input_channels, **options)
    for module in body.modules():
        if isinstance(module, nn.MaxPool2d) and module.kernel_size == module.stride:
            module.ceil_mode = True  # a last, incomplete window counts: any input size works
    return body


def _full_name(name: str) -> str:
    """With the recipe of the weights."""
    weights: Any = timm.get_pretrained_cfg(name)
    return weights.hf_hub_id.removeprefix("timm/")
