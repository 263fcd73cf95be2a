"""Keep what is dear to compute for the backward pass, compute again what is cheap.

A convolution needs its input for the backward pass. Where that input is a norm and a nonlinearity away from the
convolution before it, keeping it doubles the memory for two operations that cost a few percent of a convolution. Here a
tensor may carry a recipe; within `own_operators` autograd keeps the recipe instead of the tensor, whichever operation
asks, and follows it when the backward pass comes along. The same idea as activation checkpointing (Chen et al., 2016),
but tensor by tensor: only what one operation needs is back at a time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from weakref import ref

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

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
    if own_operators_apply() and x.requires_grad:
        kept = [_kept(source) for source in sources]
        give_recipe(x, lambda: compute(*(source() for source in kept)))
    return x


def _kept(x: Tensor) -> Callable[[], Tensor]:
    """What to hold in order to have ``x`` later: its recipe, or the tensor itself."""
    recipe = _recipe_of(x)
    if recipe is not None:
        return recipe.follow
    x, version = x.detach(), x._version

    def unchanged() -> Tensor:  # PyTorch's own check knows nothing of tensors that hooks have kept
        if x._version != version:
            raise RuntimeError(
                "a tensor that the backward pass needs has been modified by an in-place operation since the forward "
                "pass: call backward before that"
            )
        return x

    return unchanged


def _recipe_of(x: Tensor) -> Recipe | None:
    recipe: Recipe | None = getattr(x, _ATTRIBUTE, None)
    return recipe if recipe is not None and recipe.version == x._version else None


_ACTIVE = ContextVar("own_operators", default=False)


def own_operators_apply() -> bool:
    """Whether operators of ours replace PyTorch's; never while a compiler looks on, which does all that itself."""
    return not torch.compiler.is_compiling() and not torch.jit.is_tracing() and _ACTIVE.get()


@contextmanager
def own_operators(recompute: bool = True) -> Iterator[None]:
    """Within, operators of ours replace PyTorch's, and autograd keeps recipes of the tensors that have one.

    Args:
        recompute: False to keep the tensors: the same numbers, bit for bit, from more memory.
    """
    before = _ACTIVE.set(True)
    try:
        with saved_tensors_hooks(_kept, lambda kept: kept()) if recompute else nullcontext():
            yield
    finally:
        _ACTIVE.reset(before)


def as_compiled(network: nn.Module) -> nn.Module:
    """Let all networks of ours in a network compute with PyTorch's operators, as under torch.compile; returns it.

    That is the rule on CUDA, where the compiler decides what is kept: memory is planned for what PyTorch's would keep.
    """
    for module in network.modules():
        if hasattr(module, "own_operators"):
            setattr(module, "own_operators", False)  # noqa: B010 - a plain attribute, no parameter
    return network
