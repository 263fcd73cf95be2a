"""Wirings of four stages, written out by hand from the papers' figures."""

import pytest

from nnunetv2_unet3plus.building_blocks.wiring import full_scale, nested, sharp, unet


def test_unet():
    wiring = unet(3)
    assert wiring.sources == {
        (2, 1): [(2, 0), (3, 0)],
        (1, 2): [(1, 0), (2, 1)],
        (0, 3): [(0, 0), (1, 2)],
    }
    assert wiring.branches == [(0, 3)]


def test_full_scale():
    wiring = full_scale(3)
    assert wiring.sources == {
        (2, 1): [(0, 0), (1, 0), (2, 0), (3, 0)],
        (1, 2): [(0, 0), (1, 0), (2, 1), (3, 0)],
        (0, 3): [(0, 0), (1, 2), (2, 1), (3, 0)],
    }
    assert wiring.branches == [(0, 3), (1, 2), (2, 1), (3, 0)]


NESTED = {
    (0, 1): [(0, 0), (1, 0)],
    (1, 1): [(1, 0), (2, 0)],
    (2, 1): [(2, 0), (3, 0)],
    (0, 2): [(0, 0), (0, 1), (1, 1)],
    (1, 2): [(1, 0), (1, 1), (2, 1)],
    (0, 3): [(0, 0), (0, 1), (0, 2), (1, 2)],
}


def test_nested():
    assert nested(3).sources == NESTED
    assert nested(3).branches == [(0, 3), (0, 2), (0, 1)]


def test_sharp():
    far = {(0, 2): [(2, 0)], (1, 2): [(3, 0)], (0, 3): [(2, 1), (3, 0)]}
    assert sharp(3).sources == {node: sources + far.get(node, []) for node, sources in NESTED.items()}
    assert sharp(3).branches == [(0, 3), (0, 2), (0, 1), (1, 2), (2, 1), (3, 0)]
    assert sharp(3, diagonal_heads=False).branches == [(0, 3), (0, 2), (0, 1)]


@pytest.mark.parametrize("wiring", [unet, full_scale, nested, sharp])
@pytest.mark.parametrize("levels", [1, 2, 8])
def test_nodes_come_after_their_sources(wiring, levels):
    known = {(row, 0) for row in range(levels + 1)}
    for node, sources in wiring(levels).sources.items():
        assert known.issuperset(sources)
        assert len(set(sources)) == len(sources)
        known.add(node)
    assert known.issuperset(wiring(levels).branches)


@pytest.mark.parametrize("wiring", [nested, sharp])
def test_a_wiring_holds_that_of_fewer_levels(wiring):
    whole = wiring(5).sources
    assert wiring(3).sources == {node: sources for node, sources in whole.items() if sum(node) <= 3}
