"""Keys to rows: stable 64-bit hashes of strings, and a bounded table that a flood cannot empty.

A hash is the same on every machine and in every version (checkpoints and traces depend on it):
64-bit FNV-1a over the UTF-8 bytes, finished with MurmurHash3's mixer. Two of a million keys share
a hash with probability 3e-8; they would then share a row. ``0`` stands for "no string".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numba
import numpy as np
import numpy.typing as npt
import polars as pl

from detectors._segments import (
    CLOCK,
    ENTRY,
    EVICTED,
    USED,
    empty_state,
    find_row,
    link_restored,
    touch_keys,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KeyTable", "hash_columns", "hash_string", "hash_strings"]

Hashes: TypeAlias = npt.NDArray[np.uint64]
Rows: TypeAlias = npt.NDArray[np.int32]
Flags: TypeAlias = npt.NDArray[np.bool_]

_FNV_OFFSET: Final = np.uint64(0xCBF29CE484222325)
_FNV_PRIME: Final = np.uint64(0x100000001B3)
_MIX_1: Final = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2: Final = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT: Final = np.uint64(33)

_DEFAULT_BLOCK_ROWS: Final = 512


def hash_strings(strings: pl.Series) -> Hashes:
    """Hash a Series of strings, shape (n,); null and the empty string give 0."""
    return hash_columns(strings.to_frame("strings"))[0]


def hash_columns(frame: pl.DataFrame) -> list[Hashes]:
    """Hash every (string) column of a frame of n rows, each to shape (n,)."""
    if not frame.width:
        return []
    lengths = frame.select(pl.all().str.len_bytes().fill_null(0))
    joined = frame.select(pl.all().str.join(""))
    return [
        _hash_kernel(
            np.frombuffer((joined[name].item() or "").encode(), dtype=np.uint8),
            lengths[name].to_numpy(),
        )
        for name in frame.columns
    ]


def hash_string(string: str) -> int:
    """Hash one string, as ``hash_strings`` does."""
    data = np.frombuffer(string.encode(), dtype=np.uint8)
    return int(_hash_kernel(data, np.array([len(data)], dtype=np.uint32))[0])


@numba.njit(cache=True)
def _hash_kernel(data: npt.NDArray[np.uint8], lengths: npt.NDArray[np.uint32]) -> Hashes:
    hashes = np.zeros(len(lengths), dtype=np.uint64)
    start = 0
    for i in range(len(lengths)):
        length = lengths[i]
        if length == 0:
            continue
        state = _FNV_OFFSET
        for position in range(start, start + length):
            state = (state ^ np.uint64(data[position])) * _FNV_PRIME
        start += length
        state = (state ^ (state >> _SHIFT)) * _MIX_1
        state = (state ^ (state >> _SHIFT)) * _MIX_2
        state ^= state >> _SHIFT
        hashes[i] = state if state != 0 else np.uint64(1)
    return hashes


class KeyTable:
    """Rows for keys, at most ``capacity`` of them: a segmented least-recently-used cache.

    A new key is on *probation*. Touched a second time, it is *protected*: at most 80 % of the
    rows are, and one more sends the longest idle of them back to the head of probation. At
    capacity a new key takes the row of the longest idle key on probation. "Idle" counts events,
    not time. Which row goes is a function of the keys in order, never of how they are batched.

    What this protects: a flood of keys seen once, of any length, passes through the other 20 % of
    the rows; keys seen twice stay. What it does not: keys that the flood touches twice are
    protected like anyone's, and the table is then as good as a plain least-recently-used one. To
    push out a user such a flood needs ``capacity`` new keys, two events each, between two
    events of that user: whoever is active stays, whoever pauses is lost. And while keys that are
    seen once pour in, a new user's second event must come within 20 % of ``capacity`` new
    keys of the first. Both are what ``floodwatch.user-table-pressure`` tells of. Keys that collide
    on purpose cost time, not rows: the hash has no secret (a replay must give the same rows).

    Source: Karedla, Love and Wherry 1994, "Caching strategies to improve disk system performance",
    https://doi.org/10.1109/2.268884 (segmented LRU).

    State is what ``row_arrays`` and ``counters`` hold; ``take_dirty`` tells in which blocks of
    ``block_rows`` rows it changed. Memory is reserved at once but only used as rows fill.
    """

    def __init__(self, capacity: int, block_rows: int = _DEFAULT_BLOCK_ROWS) -> None:
        if capacity < 1:
            raise ValueError(f"capacity {capacity}: at least 1 row is needed")
        if block_rows < 1 or block_rows & (block_rows - 1):
            raise ValueError(f"block_rows {block_rows}: not a power of two")
        self.capacity = capacity
        self.protected_capacity = capacity * 4 // 5
        self.block_rows = block_rows
        self._block_shift = block_rows.bit_length() - 1
        self._slots = np.zeros(1 << max(4, (2 * capacity - 1).bit_length()), dtype=np.int32)
        self._entries = np.zeros(capacity, dtype=ENTRY)
        self._dirty = np.zeros(-(-capacity // block_rows), dtype=np.bool_)
        self._state = empty_state()

    def __len__(self) -> int:
        return int(self._state[USED])

    @property
    def bytes_per_row(self) -> int:
        """Memory of one key when the table is full, bytes."""
        return ENTRY.itemsize + -(-self._slots.nbytes // self.capacity)

    @property
    def evicted(self) -> int:
        """How many keys were evicted so far."""
        return int(self._state[EVICTED])

    @property
    def keys(self) -> Hashes:
        """The hash of each row in use, shape (len(self),)."""
        return self._entries["key"][: len(self)]

    def rows(self, hashes: Hashes) -> tuple[Rows, Flags]:
        """The row of each key, in order, and whether the row starts empty at that position.

        A row can change hands within one call: consumers must apply the batch in order and clear
        a row's state where the flag is set. Rows are filled from 0 on and never freed: of the
        flags set, those beyond the ``capacity - len(self)`` first evicted a key.
        """
        rows = np.empty(len(hashes), dtype=np.int32)
        fresh = np.zeros(len(hashes), dtype=np.bool_)
        touch_keys(
            hashes,
            self._slots,
            self._entries,
            self._state,
            self.protected_capacity,
            self._dirty,
            self._block_shift,
            rows,
            fresh,
        )
        return rows, fresh

    def find(self, key: int) -> int | None:
        """The row of one key without touching it, or None."""
        row = int(find_row(np.uint64(key), self._slots, self._entries))
        return row if row >= 0 else None

    @property
    def row_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The state of each row, as views of shape (capacity,); rows not in use hold 0.

        ``stamp`` is when the row came to the head of its list (see ``counters``' ``clock``),
        times two, plus 1 for the protected list.
        """
        return {"key": self._entries["key"], "stamp": self._entries["stamp"]}

    @property
    def counters(self) -> dict[str, int]:
        """The rest of the state: rows in use, keys evicted so far, the clock of stamps."""
        return {
            "used": len(self),
            "evicted": self.evicted,
            "clock": int(self._state[CLOCK]),
        }

    def restore(
        self, arrays: Mapping[str, npt.NDArray[np.generic]], counters: Mapping[str, int]
    ) -> None:
        """Make this empty table the one of ``row_arrays`` (the rows in use) and ``counters``.

        Its capacity may be another. No block is dirty afterwards, except where a smaller capacity
        protects fewer rows.

        Raises:
            ValueError: what cannot be: more rows than fit, rows that are missing, a key or a
                stamp twice, a stamp of the future. The table is then of no use.
        """
        used, clock = counters["used"], counters["clock"]
        assert len(self) == 0, "a table is restored before it is used"
        if used > self.capacity:
            raise ValueError(f"{used:,} keys do not fit into {self.capacity:,} rows")
        for name, array in arrays.items():
            if array.shape != (used,):
                raise ValueError(f"{name}: shape {array.shape} instead of ({used},)")
        self._entries["key"][:used] = arrays["key"]
        self._entries["stamp"][:used] = arrays["stamp"]
        stamps = self._entries["stamp"][:used]
        order = np.argsort(stamps)
        if used and not 0 <= stamps[order[0]] <= stamps[order[-1]] < 2 * clock:
            raise ValueError(f"stamps beyond the clock of {clock:,}")
        if (np.diff(stamps[order] >> 1) == 0).any():
            raise ValueError("two rows have the same stamp")
        self._state[[USED, EVICTED, CLOCK]] = used, counters["evicted"], clock
        twice = link_restored(
            order,
            self._slots,
            self._entries,
            self._state,
            self.protected_capacity,
            self._dirty,
            self._block_shift,
        )
        if twice >= 0:
            raise ValueError(
                f"row {twice}: key {int(self._entries['key'][twice]):#x} is there twice"
            )

    def take_dirty(self) -> npt.NDArray[np.int64]:
        """The blocks with a row that was touched or changed since the last call, ascending.

        Block b holds the rows from ``b * block_rows``.
        """
        blocks = np.flatnonzero(self._dirty)
        self._dirty[:] = False
        return blocks

    def mark_all_dirty(self) -> None:
        """Have ``take_dirty`` name every block that has rows in use."""
        self._dirty[: -(-len(self) // self.block_rows)] = True
