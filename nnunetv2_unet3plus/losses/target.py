"""What a segmentation target means, worked out once and shared by every loss and every head."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@dataclass(eq=False)
class SegmentationTarget:
    """Ground truth in the one form all losses read.

    Build it with `from_labels` or `from_regions`, which take nnU-Net's targets as they come from its data loader.

    Attributes:
        one_hot: Ground truth, (B, C, *spatial), floating point, 0 in every channel of an ignored voxel.
        valid: True where the loss counts, (B, 1, *spatial) bool; None if every voxel does.
        regions: Channels are independent regions (sigmoid), not exclusive labels with background first (softmax).
    """

    one_hot: Tensor
    valid: Tensor | None
    regions: bool
    _memory: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_labels(cls, labels: Tensor, logits: Tensor, ignore_label: int | None = None) -> "SegmentationTarget":
        """Target of exclusive labels, as nnU-Net's `DC_and_CE_loss` takes it.

        Args:
            labels: Label map, (B, 1, *spatial), of any integer or floating point type.
            logits: The (B, C, *spatial) output to be compared; only its shape and type are read.
            ignore_label: Voxels of this label do not count.

        Raises:
            ValueError: If the shapes do not fit or there is no foreground channel.
        """
        if logits.shape[1] < 2:
            raise ValueError(
                f"softmax over labels needs a background and a foreground channel, got logits {tuple(logits.shape)}; "
                "for independent sigmoid channels use regions=True"
            )
        _require_shape(labels, logits, 1, "a label map (for one channel a region use regions=True)")
        index = labels.long()
        valid = None
        if ignore_label is not None:
            valid = index != ignore_label
            index = index * valid
        one_hot = torch.zeros(logits.shape, dtype=_float_type(logits), device=labels.device)
        one_hot.scatter_(1, index, 1.0 if valid is None else valid.to(one_hot.dtype))
        return cls(one_hot, valid, regions=False)

    @classmethod
    def from_regions(cls, regions: Tensor, logits: Tensor, has_ignore: bool = False) -> "SegmentationTarget":
        """Target of overlapping regions, as nnU-Net's `DC_and_BCE_loss` takes it.

        Args:
            regions: One channel a region, (B, R, *spatial), bool or 0/1 numbers; with `has_ignore` one channel more,
                the last, which is 1 where the voxel does not count.
            logits: The (B, R, *spatial) output to be compared; only its shape and type are read.
            has_ignore: Whether that last channel is there.

        Raises:
            ValueError: If the shapes do not fit.
        """
        expected = "one channel a region" + (" and the ignore mask last" if has_ignore else "")
        _require_shape(regions, logits, logits.shape[1] + has_ignore, expected)
        if not has_ignore:
            return cls(regions.to(_float_type(logits)), None, regions=True)
        valid = ~regions[:, -1:].bool()
        return cls(regions[:, :-1].to(_float_type(logits)) * valid, valid, regions=True)

    @property
    def foreground(self) -> Tensor:
        """The channels overlap is measured on: all regions, or all labels but the background."""
        return self.one_hot if self.regions else self.one_hot[:, 1:]

    @property
    def channels(self) -> int:
        """The axis of channels counted from the end, where predictions of several heads have it, too."""
        return 1 - self.one_hot.ndim

    def remember(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What `compute` returned the first time it was asked for under `key`.

        Several heads meet the same target, so what depends on the target alone is worth keeping.
        """
        if key not in self._memory:
            self._memory[key] = compute()
        return self._memory[key]


def _float_type(logits: Tensor) -> torch.dtype:
    """Half precision is promoted, float64 is kept (numerical gradient checks need it)."""
    return torch.promote_types(logits.dtype, torch.float32)


def _require_shape(target: Tensor, logits: Tensor, channels: int, meaning: str) -> None:
    expected = (logits.shape[0], channels, *logits.shape[2:])
    if tuple(target.shape) != expected:
        raise ValueError(
            f"target {tuple(target.shape)} does not fit logits {tuple(logits.shape)}: expected {expected}, {meaning}"
        )
