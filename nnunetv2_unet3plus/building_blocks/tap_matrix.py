"""The matrix of an axis that is interpolated and convolved at once, and products with it.

See `resize_conv`: with ``U`` the 1-D interpolation matrix and ``S_k`` the shift by ``k`` rows that zero padding implies
it is ``[S_-1 U | S_0 U | S_+1 U]``, with its columns ordered by coarse row.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import floor, prod

import torch
from torch import Tensor
from torch.nn import functional

# Output rows are computed in blocks that need about this many coarse rows: the matrices are banded, so the work per
# row stays constant however large the grid. Smaller blocks cost calls, larger ones multiply by zeros; on a GPU calls
# cost more than zeros.
COARSE_ROWS_PER_BLOCK, MOST_ROWS_PER_BLOCK = 8, 64
COARSE_ROWS_PER_BLOCK_ON_GPU = 128

Block = tuple[int, int, int, int]
"""First and last (exclusive) output row, first and last (exclusive) input column that these rows need."""


def tap_matrix(n: int, m: int, taps: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """The matrix that interpolates ``n`` rows to ``m`` and shifts each tap to its place.

    Args:
        n: rows of the coarse axis.
        m: rows of the fine axis.
        taps: kernel size of the axis, 1 or 3.
        dtype: of the result; half precisions are rounded from float32.
        device: of the result.

    Returns:
        Tensor of shape ``(m, n * taps)``; column ``k * taps + t`` belongs to tap ``t`` of coarse row ``k``.
    """
    exact = dtype if dtype in (torch.float32, torch.float64) else torch.float32
    rows = torch.arange(m, dtype=exact, device=device)
    position = ((rows + 0.5) * (n / m) - 0.5).clamp(0, n - 1)
    columns = torch.arange(n, dtype=exact, device=device)
    interpolation = (1 - (position[:, None] - columns).abs()).clamp(min=0)
    if taps == 1:
        return interpolation.to(dtype)
    # tap t looks at fine row p + t - 1; the rows beyond the border are the convolution's zero padding
    padded = functional.pad(interpolation, (0, 0, 1, 1))
    return torch.stack([padded[t : t + m] for t in range(3)], dim=2).reshape(m, 3 * n).to(dtype)


@lru_cache(maxsize=256)  # a network asks for the same few in every step; the largest of a 512 x 512 patch has 1.5 MB
def cached_tap_matrix(n: int, m: int, taps: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`tap_matrix`, made once."""
    with torch.inference_mode(False):  # what prediction has made, training may use
        return tap_matrix(n, m, taps, dtype, device)


def blocks_of_rows(n: int, m: int, taps: int, on_gpu: bool = False) -> list[Block]:
    """Blocks of rows of ``tap_matrix(n, m, taps)`` with the columns outside which the rows are zero."""
    step = COARSE_ROWS_PER_BLOCK_ON_GPU * m // n if on_gpu else min(COARSE_ROWS_PER_BLOCK * m // n, MOST_ROWS_PER_BLOCK)
    step = max(1, step)
    blocks = []
    for start in range(0, m, step):
        stop = min(start + step, m)
        first = max(0, floor((start - 0.5) * n / m - 0.5))  # row start - 1, the farthest a tap reaches back
        last = min(n, floor((stop + 0.5) * n / m - 0.5) + 2)  # row stop, and its upper neighbour
        blocks.append((start, stop, first * taps, last * taps))
    return blocks


def product_by_blocks(x: Tensor, matrix: Tensor, blocks: Sequence[Block]) -> Tensor:
    """`matrix @ x` for `x` of shape `(outer, n * taps, inner)`, block by block."""
    out = x.new_empty(x.shape[0], matrix.shape[0], x.shape[2])
    for start, stop, first, last in blocks:
        band = matrix[start:stop, first:last]
        if x.shape[2] == 1:  # one matrix product instead of many matrix-vector products
            torch.mm(x[:, first:last, 0], band.T, out=out[:, start:stop, 0])
        else:
            torch.bmm(band.expand(x.shape[0], -1, -1), x[:, first:last], out=out[:, start:stop])
    return out


def product_adjoint(g: Tensor, matrix: Tensor, blocks: Sequence[Block]) -> Tensor:
    """`matrix.T @ g` for `g` of shape `(outer, m, inner)`: the same loop, adding into one tensor."""
    out = g.new_zeros(g.shape[0], matrix.shape[1], g.shape[2])
    for start, stop, first, last in blocks:
        band = matrix[start:stop, first:last]
        if g.shape[2] == 1:
            out[:, first:last, 0].addmm_(g[:, start:stop, 0], band)
        else:
            out[:, first:last].baddbmm_(band.T.expand(g.shape[0], -1, -1), g[:, start:stop])
    return out


def work_of_matrices(channels: int, grid: Sequence[int], size: Sequence[int], taps: Sequence[int]) -> int:
    """Multiplications per sample by the matrices of all axes, the last axis first."""
    work, rows = 0, [n * k for n, k in zip(grid, taps, strict=True)]
    for axis in reversed(range(len(grid))):
        n, m, k = grid[axis], size[axis], taps[axis]
        if (n, k) != (m, 1):
            band = sum((stop - start) * (last - first) for start, stop, first, last in blocks_of_rows(n, m, k))
            work += channels * band * prod(rows[:axis] + rows[axis + 1 :])
        rows[axis] = m
    return work
