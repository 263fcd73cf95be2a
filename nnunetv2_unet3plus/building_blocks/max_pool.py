"""Max pooling to a coarser stage's grid."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

_MAX_POOL = {2: functional.max_pool2d, 3: functional.max_pool3d}


def max_pool(x: Tensor, stride: Sequence[int]) -> Tensor:
    """Non-overlapping max pooling; a last, incomplete window counts (ceil mode), so that no row of ``x`` is lost.

    Args:
        x: map of shape ``(B, C, *grid)``.
        stride: window and stride an axis.

    Returns:
        Map of shape ``(B, C, *ceil(grid / stride))``, the grid a strided convolution with same padding gives.
    """
    if all(s == 1 for s in stride):
        return x
    return _MAX_POOL[len(stride)](x, tuple(stride), tuple(stride), ceil_mode=True)
