"""Keep what is dear to compute for the backward pass, compute again what is cheap.

A convolution needs its input for the backward pass. Where that input is a norm and a nonlinearity away from the
convolution before it, keeping it doubles the memory for two operations that cost a few percent of a convolution. Here a
tensor may carry a recipe; within `recomputing` autograd keeps the recipe instead of the tensor, whichever operation
asks, and follows it when the backward pass comes along. The same idea as activation checkpointing (Chen et al., 2016),
but tensor by tensor: at no time is more than one of them back.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn

_ATTRIBUTE = "_recipe"


class Recipe:
    """How to compute a tensor again."""

    def __init__(self, compute: Callable[[], Tensor], version: int) -> None:
        """Keep what is needed for it.

        Args:
            compute: gives the tensor; called without autograd.
            version: of the tensor, which in-place operations raise: then the recipe is no longer true.
        """
        self.compute = compute
        self.version = version
        self._last: Callable[[], Tensor | None] = lambda: None

    def follow(self) -> Tensor:
        """The tensor; computed once as long as somebody holds it."""
        x = self._last()
        if x is None:
            with torch.no_grad():
                x = self.compute()
            self._last = ref(x)
        return x


def give_recipe(x: Tensor, compute: Callable[[], Tensor]) -> Tensor:
    """Let autograd keep `compute` instead of ``x``, where it would keep ``x``; returns ``x``."""
    setattr(x, _ATTRIBUTE, Recipe(compute, x._version))
    return x


def derived(x: Tensor, compute: Callable[..., Tensor], *sources: Tensor) -> Tensor:
    """Say that ``x`` is ``compute(*sources)``, which is cheap; returns ``x``.

    Worth it where the sources are kept for another's sake, or have recipes themselves.
    """
    if is_recomputing() and x.requires_grad:
        kept = [_kept(source) for source in sources]
        give_recipe(x, lambda: compute(*(source() for source in kept)))
    return x


def _kept(x: Tensor) -> Callable[[], Tensor]:
    """What to hold in order to have ``x`` later: its recipe, or the tensor itself."""
    recipe = _recipe_of(x)
    if recipe is not None:
        return recipe.follow
    x, version = x.detach(), x._version

    def unchanged() -> Tensor:
        if x._version != version:
            raise RuntimeError("a map that others are computed from again was modified by an in-place operation")
        return x

    return unchanged


def _recipe_of(x: Tensor) -> Recipe | None:
    recipe: Recipe | None = getattr(x, _ATTRIBUTE, None)
    return recipe if recipe is not None and recipe.version == x._version else None


_ACTIVE = ContextVar("recomputing", default=False)


def is_recomputing() -> bool:
    """Whether to keep as little as can be; never while a compiler looks on, which decides that better itself."""
    return not torch.compiler.is_compiling() and not torch.jit.is_tracing() and _ACTIVE.get()


@contextmanager
def recomputing() -> Iterator[None]:
    """Within, operations keep recipes of the tensors that have one."""

    def pack(x: Tensor) -> Tensor | Recipe:
        recipe = _recipe_of(x)
        return x if recipe is None else recipe

    def unpack(packed: Tensor | Recipe) -> Any:
        return packed.follow() if isinstance(packed, Recipe) else packed

    before = _ACTIVE.set(True)
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            yield
    finally:
        _ACTIVE.reset(before)


def recompute_nothing(network: nn.Module) -> nn.Module:
    """Let all networks of ours in a network keep what PyTorch's operators keep; returns it.

    Memory is planned for this: under torch.compile, the rule on CUDA, the compiler decides what is kept.
    """
    for module in network.modules():
        if hasattr(module, "recompute"):
            setattr(module, "recompute", False)  # noqa: B010 - a plain attribute, no parameter
    return network
