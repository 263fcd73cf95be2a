"""Deep supervision: one loss for every head, each head with the target of its own size."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from .base import SegmentationLoss
from .target import SegmentationTarget

# A head that does not count at all is an unused parameter, and DDP stops with an error on those.
SMALLEST_WEIGHT = 1e-6

# The hybrid loss on five heads of two channels, in one pass against one by one on a CPU: 0.3 of the time at 40 x 40,
# 0.6 at 160 x 160, 0.7 at 320 x 320, 1.1 at 64 x 64 x 64, 1.8 at 128 x 128 x 128, whose maps leave the caches.
LOGITS_AT_ONCE = 2**20

Shape = tuple[int, ...]


class DeepSupervisionLoss(nn.Module):
    """Weighted sum of a loss over the heads of a network, pairing heads and targets by spatial shape.

    Any number of heads may share a target: one full-resolution target serves all full-resolution heads, and where the
    loss is a `SegmentationLoss` it is prepared once for all of them, which go through the loss together while they are
    small.

    Args:
        loss: Any loss called as loss(logits, target), nnU-Net's own included.
        weights: One factor a head, see `halving_weights` and `equal_weights`; below 1e-6 they are raised to it.
        full_scale: Resize every head's logits to the first target's size and compare them there (UNet 3+, section 2.2),
            instead of each at its own size.

    Raises:
        ValueError: If there is no weight, or a negative one.
    """

    def __init__(self, loss: nn.Module, weights: Sequence[float], full_scale: bool = False) -> None:
        super().__init__()
        if len(weights) == 0 or min(weights) < 0:
            raise ValueError(f"weights must be one non-negative number a head, got {list(weights)}")
        self.loss = loss
        self.weights = tuple(max(float(weight), SMALLEST_WEIGHT) for weight in weights)
        self.full_scale = full_scale

    def forward(self, outputs: Sequence[Tensor] | Tensor, targets: Sequence[Tensor] | Tensor) -> Tensor:
        """The summed loss, a scalar.

        Args:
            outputs: Logits of every head, each (B, C, *spatial of that head); a tensor counts as one head.
            targets: nnU-Net's targets, finest first, in any number; a tensor counts as one target.

        Raises:
            ValueError: If the number of heads is not that of the weights, or a head has no target of its shape.
        """
        heads = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        targets = [targets] if isinstance(targets, Tensor) else list(targets)
        if len(heads) != len(self.weights):
            raise ValueError(
                f"{len(heads)} heads but {len(self.weights)} weights: give one weight a head, "
                f"as halving_weights({len(heads)}) does"
            )
        sizes = [_spatial(targets[0] if self.full_scale else head) for head in heads]
        losses: dict[int, Tensor] = {}
        for size, target in self._ready_targets(heads, sizes, targets).items():
            same_size = [index for index, other in enumerate(sizes) if other == size]
            # Many heads at full size would keep about as much for backward as the decoder does. Kept are the logits;
            # the loss of a group at a time is computed again.
            recompute = len(same_size) > 1
            for group in self._groups(same_size, heads, size):
                values = self._losses_of([heads[index] for index in group], size, target, recompute)
                losses.update(zip(group, values, strict=True))
        return torch.stack([weight * losses[index] for index, weight in enumerate(self.weights)]).sum()

    def _ready_targets(
        self, heads: list[Tensor], sizes: list[Shape], targets: list[Tensor]
    ) -> dict[Shape, Tensor | SegmentationTarget]:
        """The target of every size, prepared once if the loss knows how."""
        by_size: dict[Shape, Tensor] = {_spatial(target): target for target in reversed(targets)}
        ready: dict[Shape, Tensor | SegmentationTarget] = {}
        for index, (head, size) in enumerate(zip(heads, sizes, strict=True)):
            if size not in by_size:
                raise ValueError(
                    f"head {index} of shape {size} has no target: there are targets of shape {sorted(by_size)}. "
                    "Add its scale to the trainer's deep supervision scales, or compare all heads at full size "
                    "with full_scale=True"
                )
            if size not in ready:
                ready[size] = self._prepare(by_size[size], head, size)
        return ready

    def _prepare(self, target: Tensor, head: Tensor, size: Shape) -> Tensor | SegmentationTarget:
        if not isinstance(self.loss, SegmentationLoss):
            return target
        return self.loss.prepare(target, head.new_empty(1).expand(*head.shape[:2], *size))  # read for shape and type

    def _groups(self, indices: list[int], heads: list[Tensor], size: Shape) -> list[list[int]]:
        """The heads of one size in groups that go through the loss at once."""
        together = 1
        if isinstance(self.loss, SegmentationLoss):
            together = max(1, LOGITS_AT_ONCE // (heads[indices[0]].shape[:2].numel() * prod(size)))
        return [indices[start : start + together] for start in range(0, len(indices), together)]

    def _losses_of(
        self, heads: list[Tensor], size: Shape, target: Tensor | SegmentationTarget, recompute: bool
    ) -> Sequence[Tensor]:
        """One loss a head."""

        def at_their_size(*heads: Tensor) -> Tensor:
            first, *others = (_resize(logits, size) for logits in heads)
            return self.loss(torch.stack([first, *others]), target) if others else self.loss(first, target)[None]

        if recompute:
            return checkpoint(at_their_size, *heads, use_reentrant=False, preserve_rng_state=False).unbind()
        return at_their_size(*heads).unbind()


def halving_weights(heads: int) -> list[float]:
    """nnU-Net's weights: every head half of the one before, sum 1."""
    return _normalise([0.5**index for index in range(heads)])


def equal_weights(heads: int) -> list[float]:
    """The papers' weights: every head the same, sum 1."""
    return _normalise([1.0] * heads)


def _normalise(weights: list[float]) -> list[float]:
    return [weight / sum(weights) for weight in weights]


def _spatial(tensor: Tensor) -> Shape:
    return tuple(tensor.shape[2:])


def _resize(logits: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(size) == _spatial(logits):
        return logits
    mode = "bilinear" if logits.ndim == 4 else "trilinear"
    return functional.interpolate(logits.to(torch.promote_types(logits.dtype, torch.float32)), list(size), mode=mode)
