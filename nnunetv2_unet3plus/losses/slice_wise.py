"""Losses of 2D networks that see patches slice by slice."""

from collections.abc import Sequence

from torch import Tensor, nn

from nnunetv2_unet3plus.building_blocks.slice_stack import slices_to_batch


class SliceWiseLoss(nn.Module):
    """A 2D loss on every slice of a patch.

    The papers' network segments the middle slice of a stack, and is compared with it in 2D. Windows of structural
    similarity would not fit the few slices of a patch anyway, whose distance is not that of the pixels.

    Args:
        loss: Called as loss(outputs, targets), each a tensor or a list of them, with (B * D, C, H, W) for (B, C, D, H,
            W).
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, outputs: Sequence[Tensor] | Tensor, targets: Sequence[Tensor] | Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            outputs: What `SliceWise` returns, (B, C, D, *size).
            targets: nnU-Net's targets, (B, C, D, H, W).
        """
        return self.loss(_images(outputs), _images(targets))


def _images(patches: Sequence[Tensor] | Tensor) -> list[Tensor] | Tensor:
    return slices_to_batch(patches) if isinstance(patches, Tensor) else [slices_to_batch(x) for x in patches]
