"""Memory that is lent, comes back and is lent again."""

import gc
import mmap
import os
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nnunetv2_unet3plus.building_blocks import kept_memory, winograd
from nnunetv2_unet3plus.building_blocks.kept_memory import LEAST_BYTES, PAGE, KeptMemory, empty_map
from nnunetv2_unet3plus.building_blocks.norm_nonlin import InstanceNormNonlin2d
from nnunetv2_unet3plus.building_blocks.recompute import own_operators
from nnunetv2_unet3plus.planning.dry_run import LiveBytes

pytestmark = pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="memory is kept on Linux alone")

LARGE = (2, 16, 256, 256)  # 8 MB of single precision


def lend(kept: KeptMemory, pages: int) -> Tensor:
    memory = kept.lend(pages * PAGE)
    assert memory is not None
    assert memory.nbytes == pages * PAGE
    return memory


def test_freed_memory_is_lent_again() -> None:
    kept = KeptMemory()
    address = lend(kept, 4).data_ptr()  # and freed at once
    assert lend(kept, 4).data_ptr() == address
    assert kept.nbytes() == 4 * PAGE


def test_memory_in_use_is_not_lent_again() -> None:
    kept = KeptMemory()
    first, second = lend(kept, 4), lend(kept, 4)
    assert abs(first.data_ptr() - second.data_ptr()) >= 4 * PAGE
    assert kept.nbytes() == 8 * PAGE


@pytest.mark.parametrize(("pages", "same"), [(10, True), (8, True), (7, False), (11, False)])
def test_a_block_is_lent_for_a_little_less_than_it_holds(pages: int, same: bool) -> None:
    kept = KeptMemory()
    first, held = lend(kept, 10), lend(kept, 20)
    del first
    again = lend(kept, pages)
    expected = 10 if same else pages  # the block that does not fit goes: 30 pages were lent at once, no more
    assert kept.nbytes() == (20 + expected) * PAGE
    assert held.nbytes + again.nbytes == (20 + pages) * PAGE


def test_the_smallest_block_that_fits_is_lent() -> None:
    kept = KeptMemory()
    blocks = [lend(kept, pages) for pages in (12, 10, 11)]
    addresses = [block.data_ptr() for block in blocks]
    blocks.clear()
    assert lend(kept, 10).data_ptr() == addresses[1]


def test_what_is_free_longest_goes_first() -> None:
    kept = KeptMemory()
    first, second = lend(kept, 4), lend(kept, 6)
    address = second.data_ptr()
    del first, second
    new = lend(kept, 1)  # 11 pages, but ten were lent at once
    assert kept.nbytes() == (6 + 1) * PAGE
    assert lend(kept, 6).data_ptr() == address
    assert new.nbytes == PAGE


def test_there_is_never_more_than_was_lent_at_once() -> None:
    kept, order = KeptMemory(), random.Random(0)
    held: list[Tensor] = []
    most = 0
    for _ in range(500):
        if held and order.random() < 0.5:
            held.pop(order.randrange(len(held)))
        else:
            held.append(lend(kept, order.choice((1, 2, 4, 8))))  # far enough apart that none serves for another
        most = max(most, sum(memory.nbytes for memory in held))
        assert kept.nbytes() <= most
    assert kept.nbytes() > most / 2


def test_part_of_a_page_is_rounded_up() -> None:
    kept = KeptMemory()
    memory = kept.lend(PAGE + 1)
    assert memory is not None
    assert memory.nbytes == PAGE + 1
    assert kept.nbytes() == 2 * PAGE


def test_memory_comes_back_from_another_thread_and_from_the_garbage_collector() -> None:
    kept = KeptMemory()
    held = [lend(kept, 4)]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    cycle: list[Any] = [lend(kept, 4)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    memory = lend(kept, 4)
    assert kept.nbytes() == memory.nbytes == 4 * PAGE


def test_memory_comes_back_while_another_is_served() -> None:
    kept = KeptMemory()
    held = [lend(kept, 4)]
    with kept._lock:
        thread = threading.Thread(target=held.clear, daemon=True)
        thread.start()
        thread.join(timeout=30)
        assert not thread.is_alive()
        assert kept.lend(4 * PAGE) is None  # nobody waits
    lend(kept, 4)
    assert kept.nbytes() == 4 * PAGE


def exit_code_in_a_fork(function: Callable[[], bool]) -> int:
    child = os.fork()
    if child == 0:
        os._exit(0 if function() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_memory_is_not_shared_with_processes_forked_later() -> None:
    x = empty_map(LARGE, torch.empty(0))
    x[0, 0, 0, 0] = 1

    def write() -> bool:
        x[0, 0, 0, 0] = 2
        return x[0, 0, 0, 0].item() == 2

    assert exit_code_in_a_fork(write) == 0
    assert x[0, 0, 0, 0] == 1


def test_a_forked_process_keeps_none_of_the_free_blocks_and_waits_for_no_lock() -> None:
    empty_map(LARGE, torch.empty(0))
    free = kept_memory.KEPT.nbytes()
    assert free >= 2 * LEAST_BYTES
    with kept_memory.KEPT._lock:
        assert exit_code_in_a_fork(lambda: kept_memory.KEPT.nbytes() == kept_memory.KEPT._lent) == 0
    assert kept_memory.KEPT.nbytes() == free


def test_without_memory_to_have_pytorch_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*args: Any, **kwargs: Any) -> Any:
        raise OSError(12, "Cannot allocate memory")

    kept = KeptMemory()
    monkeypatch.setattr(mmap, "mmap", none_left)
    monkeypatch.setattr(kept_memory, "KEPT", kept)
    assert empty_map(LARGE, torch.empty(0)).shape == LARGE
    assert kept.nbytes() == 0


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [LARGE, (1, 2, 3, 5), (1, 1, 2048, 1024), (0, 2, 3, 3)])
@pytest.mark.parametrize("dtype", [None, torch.float64, torch.bfloat16])
def test_a_map_is_as_pytorch_makes_it(
    shape: tuple[int, ...], dtype: torch.dtype | None, memory_format: torch.memory_format
) -> None:
    like = torch.empty(1, dtype=torch.float32)
    x = empty_map(shape, like, dtype, memory_format)
    oracle = torch.empty(shape, dtype=dtype or torch.float32, memory_format=memory_format)
    assert (x.shape, x.stride(), x.dtype, x.device) == (oracle.shape, oracle.stride(), oracle.dtype, oracle.device)
    assert x.untyped_storage().nbytes() == oracle.untyped_storage().nbytes()
    assert not x._is_view()


def test_only_large_maps_on_the_cpu_take_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptMemory()
    monkeypatch.setattr(kept_memory, "KEPT", kept)
    small = empty_map((LEAST_BYTES - 1,), torch.empty(0, dtype=torch.uint8))
    on_meta = empty_map(LARGE, torch.empty(0, device="meta"))
    with FakeTensorMode():
        fake = empty_map(LARGE, torch.empty(0))
    assert kept.nbytes() == 0
    large = empty_map((LEAST_BYTES,), torch.empty(0, dtype=torch.uint8))
    assert kept.nbytes() == LEAST_BYTES
    assert [x.device.type for x in (small, on_meta, fake, large)] == ["cpu", "meta", "cpu", "cpu"]


def test_only_the_map_itself_counts_as_made() -> None:
    like = torch.empty(0)
    with LiveBytes() as live:
        x = empty_map(LARGE, like)
    assert live.peak == live.now == x.nbytes


def test_autograd_adds_gradients_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a map that several convolutions take, the gradient is a sum: made in the memory of one of its parts."""
    x = torch.randn(1, 32, 256, 256).contiguous(memory_format=torch.channels_last).requires_grad_()
    weights = [torch.randn(32, 32, 3, 3) for _ in range(3)]
    parts: list[int] = []

    def watched(*args: Any, **kwargs: Any) -> Tensor:
        part = empty_map(*args, **kwargs)
        parts.append(part.data_ptr())
        return part

    loss = torch.stack([winograd.winograd_conv2d(x, weight, None).sum() for weight in weights]).sum()
    monkeypatch.setattr(winograd, "empty_map", watched)
    loss.backward()
    assert x.grad is not None
    assert len(parts) == len(weights)
    assert x.grad.data_ptr() in parts


def test_values_stay_while_others_come_and_go() -> None:
    like = torch.empty(0)
    x = empty_map(LARGE, like).fill_(1)
    for value in range(2, 6):
        empty_map(LARGE, like).fill_(value)
    assert (x == 1).all()


def test_a_second_step_asks_the_system_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptMemory()
    monkeypatch.setattr(kept_memory, "KEPT", kept)
    norm, weight = InstanceNormNonlin2d(32, affine=True), torch.randn(32, 32, 3, 3, requires_grad=True)
    norm.nonlin = nn.ReLU()
    x = torch.randn(1, 32, 256, 256).contiguous(memory_format=torch.channels_last).requires_grad_()

    def step() -> None:
        with own_operators():
            norm(winograd.conv(x, weight, None)).square().sum().backward()

    step()
    x.grad = None
    step()
    new: list[int] = []
    take_new = kept._new
    monkeypatch.setattr(kept, "_new", lambda size: new.append(size) or take_new(size))
    x.grad = None
    step()
    assert kept.nbytes() >= 2 * x.nbytes
    assert new == []
