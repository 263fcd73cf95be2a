"""The matrix of an interpolated axis, by hand, and the blocks its products are computed in."""

import pytest
import torch

from nnunetv2_unet3plus.building_blocks.tap_matrix import (
    blocks_of_rows,
    product_adjoint,
    product_by_blocks,
    tap_matrix,
)

SIZES = [(4, 8, 3), (16, 37, 3), (100, 200, 3), (50, 300, 1), (9, 4, 3), (3, 512, 3)]


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize(("n", "m", "taps"), [*SIZES, (300, 600, 3)])
def test_blocks_leave_out_only_zeros(n, m, taps, on_gpu):
    matrix = tap_matrix(n, m, taps, torch.float64)
    covered = torch.zeros_like(matrix, dtype=torch.bool)
    for start, stop, first, last in blocks_of_rows(n, m, taps, on_gpu):
        covered[start:stop, first:last] = True
    assert (matrix[~covered] == 0).all()
    assert matrix[covered].count_nonzero() == matrix.count_nonzero()


def test_tap_matrix_by_hand():
    # Two coarse rows a, b to four: a, 3a/4 + b/4, a/4 + 3b/4, b. The middle tap sees them in place,
    # the first tap one row later (zero padding first), the third one row earlier (zero padding last).
    matrix = tap_matrix(2, 4, 3, torch.float64).view(4, 2, 3)
    rows = torch.tensor([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]], dtype=torch.float64)
    zero = torch.zeros(1, 2, dtype=torch.float64)
    assert matrix[:, :, 1].equal(rows)
    assert matrix[:, :, 0].equal(torch.cat([zero, rows[:3]]))
    assert matrix[:, :, 2].equal(torch.cat([rows[1:], zero]))


@pytest.mark.parametrize("inner", [1, 4])
@pytest.mark.parametrize(("n", "m", "taps"), SIZES)
def test_products_are_those_of_the_whole_matrix(n, m, taps, inner):
    matrix, blocks = tap_matrix(n, m, taps, torch.float64), blocks_of_rows(n, m, taps)
    x, g = (torch.randn(2, rows, inner, dtype=torch.float64) for rows in (n * taps, m))
    torch.testing.assert_close(product_by_blocks(x, matrix, blocks), matrix @ x)
    torch.testing.assert_close(product_adjoint(g, matrix, blocks), matrix.T @ g)
