"""How the C library's allocator keeps large arrays."""

from __future__ import annotations

import ctypes
from typing import Final

__all__ = ["LARGE_BYTES", "map_large_arrays"]

LARGE_BYTES: Final = 1 << 20
"""What a pipeline's tables have at least; what comes and goes with a batch is smaller."""
_MMAP_THRESHOLD: Final = -3
"""``M_MMAP_THRESHOLD`` of mallopt(3)."""


def map_large_arrays() -> bool:
    """Have glibc map arrays of ``LARGE_BYTES`` one by one; False where there is no such setting.

    So the system takes them back when they are freed, and gives them when they are touched: a
    table for many users takes the memory of those there are. By itself glibc moves the threshold
    up to 32 MiB as mapped arrays are freed. After a few rebalances the tables of new pipelines
    then come from its heap, which is not empty and has to be zeroed as a whole.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGE_BYTES))
