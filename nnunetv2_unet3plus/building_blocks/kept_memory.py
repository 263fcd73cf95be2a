"""Memory for large maps on the CPU: kept for the next map when one is freed, and in pages of 2 MB.

The C library gives the memory of a large map back to the system as soon as it is freed. But every training step needs
maps of the same sizes as the one before: each of their pages would be asked for, and filled with zeros, once more.
"""

import mmap
import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock
from weakref import finalize

import torch
from torch import Tensor

LEAST_BYTES = 2**22  # of a map: two pages
PAGE = 2**21
SLACK = 1.25  # a map may take memory that is larger by this factor


def empty_map(
    shape: Sequence[int],
    like: Tensor,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """A tensor that nobody has written to yet; no view, so that autograd can add to it in place.

    Args:
        shape: of the tensor.
        like: a tensor whose device, and type unless another is given, it has.
        dtype: another type.
        memory_format: of the tensor, as `torch.empty` takes it.
    """
    dtype = dtype or like.dtype
    if type(like) is Tensor and like.device.type == "cpu":  # a fake tensor has no memory
        size, stride, needed = _layout(shape, dtype, memory_format)
        memory = KEPT.lend(needed) if needed >= LEAST_BYTES else None
        if memory is not None:
            # of the tensor, not of its storage: one that Python has seen autograd takes for held by others
            x = torch.empty(0, dtype=dtype, device="cpu")
            return x.set_(memory.view(dtype), 0, size, stride)  # type: ignore[call-overload]  # unknown to the stubs
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=memory_format)


def _layout(
    shape: Sequence[int], dtype: torch.dtype, memory_format: torch.memory_format
) -> tuple[torch.Size, tuple[int, ...], int]:
    """Size, strides and bytes of what `torch.empty` would make."""
    x = torch.empty(shape, dtype=dtype, device="meta", memory_format=memory_format)
    return x.shape, x.stride(), x.nbytes


class KeptMemory:
    """Blocks of memory, each lent to one tensor at a time.

    There are never more bytes of blocks than were lent at once at some time; a block is a tensor's size rounded up to
    whole pages, or up to `SLACK` times that. Of Linux alone: elsewhere none is lent.
    """

    def __init__(self) -> None:
        """With no block yet."""
        self._free: list[mmap.mmap] = []  # longest free first
        self._returned: deque[mmap.mmap] = deque()
        self._lent = self._most_lent = 0
        self._lock = Lock()

    def lend(self, size: int) -> Tensor | None:
        """So many bytes, which come back by themselves when no tensor has them any more.

        Returns:
            Of type uint8; None where there is no memory, or another thread is being served.
        """
        if not self._lock.acquire(blocking=False):  # a signal's handler would wait for what it has interrupted
            return None
        try:
            self._take_back()
            block = self._fitting(size) or self._new(-(-size // PAGE) * PAGE)
            if block is None:
                return None
            self._lent += len(block)
            self._most_lent = max(self._most_lent, self._lent)
        finally:
            self._lock.release()
        lease = memoryview(block)[:size]  # the tensor holds it
        # A tensor can be freed anywhere, also by the garbage collector while the lock is held: so nothing but this.
        finalize(lease, self._returned.append, block).atexit = False
        return torch.frombuffer(lease, dtype=torch.uint8)

    def nbytes(self) -> int:
        """Of all blocks, lent or free."""
        with self._lock:
            self._take_back()
            return self._lent + sum(map(len, self._free))

    def drop_free(self) -> None:
        """Give what is not lent back to the system; for a forked process, which would make the other copy it."""
        self._lock = Lock()  # that of the other process may be held by a thread that is not here
        self._take_back()
        self._free.clear()

    def _take_back(self) -> None:
        while self._returned:
            block = self._returned.popleft()
            self._lent -= len(block)
            self._free.append(block)

    def _fitting(self, size: int) -> mmap.mmap | None:
        """The smallest free block that is not much too large, no longer free."""
        fitting = [block for block in self._free if size <= len(block) <= SLACK * size]
        if not fitting:
            return None
        block = min(fitting, key=len)
        self._free.remove(block)
        return block

    def _new(self, size: int) -> mmap.mmap | None:
        """A new block, after those that are free too long have gone back to the system."""
        if not hasattr(mmap, "MADV_HUGEPAGE"):
            return None
        most = max(self._most_lent, self._lent + size)
        while self._free and self._lent + size + sum(map(len, self._free)) > most:
            self._free.pop(0)
        try:
            block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError:  # PyTorch's own allocator is asked next, and says so if there is too little
            self._free.clear()
            return None
        with suppress(OSError):  # of a system without large pages: then it is slower
            block.madvise(mmap.MADV_HUGEPAGE)
        return block


KEPT = KeptMemory()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=KEPT.drop_free)
