"""UNet 3+ with the classification-guided module (Huang et al., ICASSP 2020, section 2.3)."""

from typing import Any

from torch import Tensor, nn

from nnunetv2_unet3plus.architectures.unet3plus import UNet3Plus
from nnunetv2_unet3plus.building_blocks.classification_gate import DeepestMapGate
from nnunetv2_unet3plus.building_blocks.gating import Gating, Mode


class UNet3PlusCGM(UNet3Plus):
    """UNet 3+ that first says which classes a patch holds, and segments only those.

    In training and with deep supervision nothing is gated, and the gate's logits are the last output. At inference
    (evaluation mode without deep supervision) the gate guides the segmentation, see `Gating`, and a patch that holds
    nothing never reaches the decoder.
    """

    def __init__(self, *args: Any, regions: bool = False, gating: Mode = "hard", **kwargs: Any) -> None:
        """Build the network; arguments not named here are those of `UNet3Plus`.

        Args:
            *args: see `UNet3Plus`.
            regions: outputs are independent regions, not exclusive labels with background first.
            gating: "hard" or "soft", see `Gating`.
            **kwargs: see `UNet3Plus`.

        Raises:
            ValueError: without a foreground class, for an unknown gating, and as `UNet3Plus`.
        """
        super().__init__(*args, **kwargs)
        classes = self.decoder.num_classes - (not regions)
        self.gate = DeepestMapGate(self.encoder.conv_op, self.encoder.output_channels[-1], classes)
        self.gatings = nn.ModuleList([Gating(classes, regions, gating)])

    def segment(self, x: Tensor) -> Tensor | list[Tensor]:
        """Segment.

        Args:
            x: images of shape `(B, input_channels, *size)`, any size.

        Returns:
            Logits `(B, num_classes, *size)`, gated in evaluation mode; with deep supervision a list, ungated logits of
            full resolution first, then one coarser each, and last the gate's logits `(B, 1, classes, 2)`.
        """
        skips = self.encoder(x)
        if self.decoder.deep_supervision:
            return [*self.decoder(skips), self.gate(skips[-1]).unsqueeze(1)]
        if self.training:
            return self.decoder(skips)
        return self.gatings[0](
            self.gate(skips[-1]), x.shape[2:], lambda patches: self.decoder([skip[patches] for skip in skips])
        )

    def presence_logits(self, x: Tensor) -> Tensor:
        """The gate's answer `(B, 1, classes, 2)` alone, at the price of the encoder."""
        return self.sparingly(lambda x: self.gate(self.encoder(x)[-1]).unsqueeze(1), x)
