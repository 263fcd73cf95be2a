"""The matrices of minimal filtering, F(4 x 4, 3 x 3), which Winograd's form of a convolution is made of.

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, after Winograd 1980. A tile of 6 x 6 input
pixels and a 3 x 3 kernel become 36 values each; their products, summed over the channels, become 4 x 4 output pixels.

The interpolation points decide the accuracy. With those used here the root mean square error is about ten float32
roundings of the result's spread, half that of the usual points 0, 1, -1, 2, -2; PyTorch's own convolution has two to
ten, depending on memory format and direction.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)  # and infinity
OUTPUT_SIDE, KERNEL_SIDE = 4, 3
INPUT_SIDE = OUTPUT_SIDE + KERNEL_SIDE - 1


@lru_cache
def minimal_filtering(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The matrices of F(4, 3), which act on each axis of a tile (Toom-Cook at `POINTS` and infinity).

    Args:
        dtype: of the result; computed in float64.

    Returns:
        Of the input ``(6, 6)``, of the kernel ``(6, 3)``, and of the output ``(4, 6)``.
    """
    # what prediction has made, training may use, and what a network on another device has made, one on the CPU
    with torch.inference_mode(False), torch.device("cpu"):
        points = torch.tensor(POINTS, dtype=torch.float64)
        apart = points[:, None] - points + torch.eye(len(points), dtype=torch.float64)
        of_input = torch.zeros(INPUT_SIDE, INPUT_SIDE, dtype=torch.float64)
        for row in range(len(POINTS)):
            of_input[row, :-1] = _polynomial(POINTS[:row] + POINTS[row + 1 :])
        of_input[-1] = _polynomial(POINTS)
        of_kernel = functional.pad(_powers(points, KERNEL_SIDE) / apart.prod(1), (0, 1))
        of_output = functional.pad(_powers(points, OUTPUT_SIDE), (0, 1))
        of_kernel[-1, -1] = of_output[-1, -1] = 1  # infinity sees the highest power alone
        return of_input.to(dtype), of_kernel.T.to(dtype), of_output.to(dtype)


def _powers(points: Tensor, count: int) -> Tensor:
    return torch.stack([points**power for power in range(count)])


def _polynomial(roots: tuple[float, ...]) -> Tensor:
    """Coefficients of the product of ``(x - root)``, lowest power first."""
    coefficients = torch.ones(1, dtype=torch.float64)
    for root in roots:
        coefficients = functional.pad(coefficients, (1, 0)) - root * functional.pad(coefficients, (0, 1))
    return coefficients
