"""Which nodes a decoder has, and which maps each of them concatenates.

Node X(i, j) lies on the grid of encoder stage i, `j` columns to the right of it; X(i, 0) is the encoder's own map. With
L + 1 stages the nodes of i + j = L form the last diagonal, from X(L, 0), the deepest map, up to X(0, L), the result.

The wirings are those the UNet# paper compares (Qian et al., 2022, figure 1). Of the nested ones the nodes of i + j <= l
are again a wiring, of l + 1 stages: what pruning keeps.
"""

from dataclasses import dataclass

Node = tuple[int, int]
"""Row and column."""


@dataclass(frozen=True)
class Wiring:
    """The nodes of a decoder.

    Attributes:
        sources: for every node, in the order in which they can be computed, the nodes it concatenates: finer ones are
            pooled to its grid, coarser ones interpolated.
        branches: nodes with a segmentation head, the result X(0, L) first.
    """

    sources: dict[Node, list[Node]]
    branches: list[Node]


def unet(levels: int) -> Wiring:
    """U-Net: the last diagonal alone, each node of its own skip and the node below."""
    sources = {(row, column): [(row, 0), (row + 1, column - 1)] for row, column in _last_diagonal(levels)}
    return Wiring(sources, [(0, levels)])


def full_scale(levels: int) -> Wiring:
    """UNet 3+ as the UNet# paper builds it: the last diagonal, each node of all finer skips and all coarser nodes."""
    sources = {
        (row, column): [(k, 0) for k in range(row + 1)] + [(k, levels - k) for k in range(row + 1, levels + 1)]
        for row, column in _last_diagonal(levels)
    }
    return Wiring(sources, _diagonal_branches(levels))


def nested(levels: int) -> Wiring:
    """UNet++: each node of all before it in its row and the one below (Zhou et al., 2020, eq. 1)."""
    sources = {
        (row, column): [(row, before) for before in range(column)] + [(row + 1, column - 1)]
        for row, column in _triangle(levels)
    }
    return Wiring(sources, _row_branches(levels))


def sharp(levels: int, diagonal_heads: bool = True) -> Wiring:
    """UNet#: nested, and far edges from every coarser row, X(i + k, j - k) for k = 2..j (Qian et al., 2022, eq. 1)."""
    sources = {
        (row, column): near + [(row + k, column - k) for k in range(2, column + 1)]
        for (row, column), near in nested(levels).sources.items()
    }
    return Wiring(sources, _row_branches(levels) + _diagonal_branches(levels)[1:] * diagonal_heads)


def _last_diagonal(levels: int) -> list[Node]:
    return [(row, levels - row) for row in reversed(range(levels))]


def _triangle(levels: int) -> list[Node]:
    """All nodes but the encoder's, diagonal by diagonal, each from below."""
    return [node for level in range(1, levels + 1) for node in _last_diagonal(level)]


def _row_branches(levels: int) -> list[Node]:
    """All nodes of full resolution, the most columns first."""
    return [(0, column) for column in range(levels, 0, -1)]


def _diagonal_branches(levels: int) -> list[Node]:
    """The last diagonal from the result down to the deepest map."""
    return [(row, levels - row) for row in range(levels + 1)]
