"""Recipes instead of tensors: the same gradients, less kept."""

import pytest
import torch
from torch import nn

from nnunetv2_unet3plus.building_blocks.recompute import (
    Recipe,
    as_compiled,
    derived,
    give_recipe,
    own_operators,
    own_operators_apply,
)
from nnunetv2_unet3plus.planning.dry_run import LiveBytes


def doubled(x, calls):
    def compute():
        calls.append(1)
        return 2 * x.detach()

    return give_recipe(2 * x, compute)


def test_follows_the_recipe_instead_of_keeping_the_tensor():
    x, weight, calls = torch.randn(5, requires_grad=True), torch.randn(5, requires_grad=True), []
    with own_operators():
        y = doubled(x, calls) * weight
    assert calls == []
    y.sum().backward()
    assert calls == [1]
    torch.testing.assert_close(weight.grad, 2 * x.detach())
    torch.testing.assert_close(x.grad, 2 * weight.detach())


def test_outside_tensors_are_kept():
    x, weight, calls = torch.randn(5, requires_grad=True), torch.randn(5, requires_grad=True), []
    (doubled(x, calls) * weight).sum().backward()
    assert calls == []


def test_computes_once_while_somebody_holds_it():
    x, calls = torch.randn(3), []
    recipe = Recipe(lambda: calls.append(1) or 2 * x, version=0)
    first = recipe.follow()
    assert recipe.follow() is first
    assert calls == [1]
    del first
    torch.testing.assert_close(recipe.follow(), 2 * x)
    assert calls == [1, 1]


def test_what_changed_in_place_is_kept_itself():
    """The recipe tells of the tensor before the change."""
    x, weight, calls = torch.ones(3), torch.randn(3, requires_grad=True), []
    with own_operators():
        y = doubled(x, calls)
        y += 5
        (y * weight).sum().backward()
    assert calls == []
    torch.testing.assert_close(weight.grad, torch.full((3,), 7.0))


def test_memory_is_free_until_the_backward_pass():
    x, weight = torch.randn(1000, requires_grad=True), torch.randn(1000, requires_grad=True)
    bytes_kept = {}
    for name, context in (("kept", torch.enable_grad()), ("recomputed", own_operators())):
        with LiveBytes([x, weight]) as live, context:
            y = (doubled(x, []) * weight).sum()
        bytes_kept[name] = live.now
        del y
    assert bytes_kept["kept"] - bytes_kept["recomputed"] == 4000


class TestDerived:
    """A concatenation of a map with a recipe and one without."""

    def joined(self, x, calls):
        def cat(*maps):
            return torch.cat(maps)

        doubled_x = doubled(x, calls)
        return derived(cat(doubled_x, x), cat, doubled_x, x)

    def test_keeps_what_it_is_made_of(self):
        x, weight, calls = torch.randn(500, requires_grad=True), torch.randn(1000, requires_grad=True), []
        with LiveBytes([x, weight]) as live, own_operators():
            y = (self.joined(x, calls) * weight).sum()
        assert live.now < 1000  # of 4000 bytes that the concatenation has, 2000 that the doubled map has
        assert calls == []
        y.backward()
        assert calls == [1]
        torch.testing.assert_close(weight.grad, torch.cat([2 * x, x]).detach())
        torch.testing.assert_close(x.grad, (2 * weight[:500] + weight[500:]).detach())

    def test_outside_it_is_kept(self):
        x, weight, calls = torch.randn(5, requires_grad=True), torch.randn(10, requires_grad=True), []
        (self.joined(x, calls) * weight).sum().backward()
        assert calls == []

    def test_refuses_what_changed_in_place(self):
        x, weight = torch.randn(5, requires_grad=True), torch.randn(10, requires_grad=True)
        with own_operators():
            y = (self.joined(x, []) * weight).sum()
        with torch.no_grad():
            x += 1
        with pytest.raises(RuntimeError, match="modified by an in-place operation since"):
            y.backward()


def test_refuses_a_parameter_that_was_stepped():
    """As PyTorch does of what it keeps itself."""
    x, weight = torch.randn(5, requires_grad=True), torch.randn(5, requires_grad=True)
    with own_operators():
        y = (x * weight).sum()
    with torch.no_grad():
        weight += 1
    with pytest.raises(RuntimeError, match="modified by an in-place operation since"):
        y.backward()


def test_can_keep_the_tensors():
    x, weight, calls = torch.randn(5, requires_grad=True), torch.randn(5, requires_grad=True), []
    with own_operators(recompute=False):
        assert own_operators_apply()
        y = doubled(x, calls) * weight
    y.sum().backward()
    assert calls == []


def test_is_told_by_the_context_alone():
    assert not own_operators_apply()
    with own_operators():
        assert own_operators_apply()
        with own_operators():
            pass
        assert own_operators_apply()
    assert not own_operators_apply()
    with pytest.raises(RuntimeError, match="inside"), own_operators():
        raise RuntimeError("inside")
    assert not own_operators_apply()


def test_can_be_switched_off_in_networks_of_networks():
    inner = nn.Module()
    inner.own_operators = True
    outer = as_compiled(nn.Sequential(inner, nn.ReLU()))
    assert outer[0] is inner
    assert not inner.own_operators
    assert not hasattr(outer[1], "own_operators")
