from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

IGNORE = 3


class Case(NamedTuple):
    """Logits of three channels, a target with a blob a class, and the constructor arguments that go with them."""

    logits: Tensor
    target: Tensor
    kwargs: dict[str, Any]
    ignored: Tensor | None

    @property
    def one_hot(self) -> Tensor:
        if self.kwargs["regions"]:
            return self.target[:, :3].float()
        return torch.cat([(self.target == label).float() for label in range(3)], 1)

    def logits_of(self, scale: float) -> Tensor:
        """Logits that are right everywhere (or wrong, with a negative scale)."""
        return scale * (2 * self.one_hot - 1)


def build_case(regions: bool, ignore: bool, spatial: tuple[int, ...], batch: int = 2) -> Case:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, 3, *spatial, generator=generator)
    labels = torch.zeros(batch, 1, *spatial)
    labels[(slice(None), slice(None), *(slice(n // 4, 3 * n // 4 + 1) for n in spatial))] = 1
    labels[(slice(None), slice(None), *(slice(n // 3, n // 2 + 1) for n in spatial))] = 2
    ignored = None
    if ignore:
        ignored = torch.rand(labels.shape, generator=generator) < 0.2
    if not regions:
        target = labels if ignored is None else labels.masked_fill(ignored, IGNORE)
    else:
        target = torch.cat([labels >= 1, labels == 2, labels == 1], 1).float()
        if ignored is not None:
            target = torch.cat([target, ignored.float()], 1)
    return Case(logits, target, {"regions": regions, "ignore_label": IGNORE if ignore else None}, ignored)


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """On tensors this small a second thread only costs, a great deal where others use the processor too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_case() -> Callable[..., Case]:
    return build_case
