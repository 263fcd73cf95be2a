"""The classification-guided module (CGM): does the patch hold the class at all?

UNet 3+ (Huang et al., ICASSP 2020, section 2.3) asks its deepest encoder map; UNet# asks the map of each of its
branches. A gate answers with two logits a class, (absent, present).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from nnunetv2_unet3plus.errors import ConfigurationError


class DeepestMapGate(nn.Module):
    """UNet 3+'s gate: dropout, 1x1 convolution to two logits a class, global max pooling.

    The map is divided by the root of its channels first, which the weights can undo: it makes the steps of gradient
    descent smaller. At nnU-Net's learning rate and momentum hundreds of channels of one sign drive the logits to and
    fro, and the loss stays far above that of a constant answer.
    """

    def __init__(self, conv_op: type[nn.Module], channels: int, classes: int) -> None:
        """Build the gate.

        Args:
            conv_op: `nn.Conv2d` or `nn.Conv3d`.
            channels: of the deepest encoder map.
            classes: gated classes: all foreground labels, or all regions.

        Raises:
            ValueError: if there is no class to gate.
        """
        super().__init__()
        _require_classes(classes)
        self.dropout = nn.Dropout(0.5)
        self.conv = conv_op(channels, 2 * classes, kernel_size=1)
        self.scale = channels**-0.5

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(B, classes, 2)`, absent and present, for a map `(B, channels, *grid)`."""
        return self.conv(self.dropout(x) * self.scale).flatten(2).amax(2).unflatten(1, (-1, 2))


class PooledGate(nn.Module):
    """UNet#'s gate: global average and max pooling side by side, then one linear layer, or two for the deepest maps.

    Each behind a batch norm, so training needs batches of two patches or more.
    """

    def __init__(self, channels: int, classes: int, hidden: int | None = None) -> None:
        """Build the gate.

        Args:
            channels: of the map.
            classes: gated classes: all foreground labels, or all regions.
            hidden: width of the first of two linear layers; None for a single one.

        Raises:
            ValueError: if there is no class to gate.
        """
        super().__init__()
        _require_classes(classes)
        widths = [2 * channels, *([hidden] if hidden else []), 2 * classes]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [*([nn.ReLU()] if layers else []), nn.BatchNorm1d(before), nn.Dropout(0.5)]
            layers.append(nn.Linear(before, after))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(B, classes, 2)`, absent and present, for a map `(B, channels, *grid)`.

        Raises:
            ValueError: for a single patch in training.
        """
        if self.training and len(x) < 2:
            raise ConfigurationError(
                "The batch norm of UNet#'s gates needs two patches or more on each GPU: raise batch_size in the plans, "
                "or train without CGM."
            )
        x = x.flatten(2)
        return self.layers(torch.cat([x.mean(2), x.amax(2)], dim=1)).unflatten(1, (-1, 2))


def presence_probability(gate_logits: Tensor) -> Tensor:
    """`P(present)` of every class, in float32: the softmax over its two logits.

    It is 0.5 where the paper's argmax changes from absent to present.

    Args:
        gate_logits: `(B, ..., classes, 2)`.

    Returns:
        Probabilities `(B, ..., classes)`.
    """
    gate_logits = gate_logits.float()
    return torch.sigmoid(gate_logits[..., 1] - gate_logits[..., 0])


def _require_classes(classes: int) -> None:
    if classes < 1:
        raise ConfigurationError(
            "A classification gate needs a foreground class to say present or absent about, and there is none: "
            "use a trainer without CGM or add a foreground label to dataset.json."
        )
