"""Maps in channels-last format: the channels of a voxel side by side, as convolutions on the CPU are fastest."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nnunetv2_unet3plus.building_blocks.kept_memory import empty_map

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def rows_of(x: Tensor) -> Tensor:
    """A view ``(B, voxels, C)``."""
    return x.movedim(1, -1).flatten(1, -2)


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a voxel lie side by side."""
    return x.shape[1] == 1 or x.stride(1) == 1


def channels_last(x: Tensor) -> Tensor:
    """``(B, C, *grid)`` in the memory format in which the channels of a voxel lie side by side.

    Said by its strides also where there is a single channel: convolutions go by them. That is no copy.
    """
    memory_format = CHANNELS_LAST[x.ndim]
    if x.shape[1] > 1 or not x.is_contiguous():
        return x.contiguous(memory_format=memory_format)
    return x.as_strided(x.shape, torch.empty_like(x, memory_format=memory_format, device="meta").stride())


def empty_concatenation(maps: Sequence[Tensor], dtype: torch.dtype | None = None) -> Tensor:
    """For the concatenation of maps ``(B, C_k, *grid)``, in the memory format of the first, and in its type or another.

    Returns:
        Map of shape ``(B, sum of C_k, *grid)``, not yet written.
    """
    first = maps[0]
    shape = (first.shape[0], sum(x.shape[1] for x in maps), *first.shape[2:])
    memory_format = CHANNELS_LAST[first.ndim] if is_channels_last(first) else torch.contiguous_format
    return empty_map(shape, first, dtype, memory_format)
