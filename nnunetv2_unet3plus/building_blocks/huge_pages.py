"""Large maps in pages of 2 MB.

The C library gives memory of 32 MB and more back as soon as it is freed, so that every such map of every step would
cost a page fault for each of its 4 kB.
"""

import ctypes
import sys
from functools import lru_cache
from typing import Any

from torch import Tensor

LEAST_BYTES = 2**25
PAGE = 2**12
MADV_HUGEPAGE = 14  # of Linux


def in_huge_pages(x: Tensor) -> Tensor:
    """Ask for large pages for a tensor that nobody has written to yet; returns it."""
    has_memory = type(x) is Tensor and x.device.type == "cpu"  # a fake tensor has none
    if has_memory and x.nbytes >= LEAST_BYTES and (madvise := _madvise()) is not None:
        start, stop = -(-x.data_ptr() // PAGE) * PAGE, (x.data_ptr() + x.nbytes) // PAGE * PAGE
        madvise(
            ctypes.c_void_p(start), ctypes.c_size_t(stop - start), MADV_HUGEPAGE
        )  # it may say no: then it is slower
    return x


@lru_cache
def _madvise() -> Any:
    return ctypes.CDLL(None).madvise if sys.platform == "linux" else None
