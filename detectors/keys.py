"""Keys to rows: stable 64-bit hashes of strings, and a bounded table that evicts the longest idle.

A hash is the same on every machine and in every version (checkpoints and traces depend on it):
64-bit FNV-1a over the UTF-8 bytes, finished with MurmurHash3's mixer. Two of a million keys share
a hash with probability 3e-8; they would then share a row. ``0`` stands for "no string".
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numba
import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["KeyTable", "hash_columns", "hash_string", "hash_strings"]

Hashes: TypeAlias = npt.NDArray[np.uint64]
Rows: TypeAlias = npt.NDArray[np.int32]
Flags: TypeAlias = npt.NDArray[np.bool_]

_FNV_OFFSET: Final = np.uint64(0xCBF29CE484222325)
_FNV_PRIME: Final = np.uint64(0x100000001B3)
_MIX_1: Final = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2: Final = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT: Final = np.uint64(33)

_NONE: Final = -1
# Positions in the table's small integer state (kept in an array so that the kernel can change it).
_USED, _HEAD, _TAIL, _EVICTED = 0, 1, 2, 3


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
    """Rows for keys, at most ``capacity`` of them; a new key beyond that evicts the longest idle.

    "Idle" counts events, not time: the key that was not touched for the most events goes first.
    Memory is reserved at once but only used as rows fill (about 24 bytes a row).
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity {capacity}: at least 1 row is needed")
        slots = 1 << max(4, (2 * capacity - 1).bit_length())
        self.capacity = capacity
        self._slots = np.zeros(slots, dtype=np.int32)  # row + 1, 0 where free
        self._keys = np.zeros(capacity, dtype=np.uint64)
        self._newer = np.zeros(capacity, dtype=np.int32)
        self._older = np.zeros(capacity, dtype=np.int32)
        self._state = np.array([0, _NONE, _NONE, 0], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._state[_USED])

    @property
    def evicted(self) -> int:
        """How many keys were evicted so far."""
        return int(self._state[_EVICTED])

    @property
    def keys(self) -> Hashes:
        """The hash of each row in use, shape (len(self),)."""
        return self._keys[: len(self)]

    def rows(self, hashes: Hashes) -> tuple[Rows, Flags]:
        """The row of each key, in order, and whether the row starts empty at that position.

        A row can change hands within one call: consumers must apply the batch in order and clear
        a row's state where the flag is set.
        """
        rows = np.empty(len(hashes), dtype=np.int32)
        fresh = np.zeros(len(hashes), dtype=np.bool_)
        _rows_kernel(
            hashes, self._slots, self._keys, self._newer, self._older, self._state, rows, fresh
        )
        return rows, fresh

    def find(self, key: int) -> int | None:
        """The row of one key without touching it, or None."""
        mask = len(self._slots) - 1
        slot = key & mask
        while self._slots[slot]:
            row = int(self._slots[slot]) - 1
            if int(self._keys[row]) == key:
                return row
            slot = (slot + 1) & mask
        return None


@numba.njit(cache=True)
def _rows_kernel(
    hashes: Hashes,
    slots: npt.NDArray[np.int32],
    keys: Hashes,
    newer: Rows,
    older: Rows,
    state: npt.NDArray[np.int64],
    rows: Rows,
    fresh: Flags,
) -> None:
    mask = np.uint64(len(slots) - 1)
    for i in range(len(hashes)):
        key = hashes[i]
        slot = key & mask
        while slots[slot] != 0 and keys[slots[slot] - 1] != key:
            slot = (slot + np.uint64(1)) & mask
        if slots[slot] != 0:
            row = slots[slot] - 1
            if state[_HEAD] != row:
                _unlink(row, newer, older, state)
                _link(row, newer, older, state)
        else:
            if state[_USED] < len(keys):
                row = state[_USED]
                state[_USED] += 1
            else:
                row = state[_TAIL]
                _unlink(row, newer, older, state)
                _remove(keys[row], slots, keys)
                state[_EVICTED] += 1
                slot = key & mask
                while slots[slot] != 0:
                    slot = (slot + np.uint64(1)) & mask
            slots[slot] = row + 1
            keys[row] = key
            _link(row, newer, older, state)
            fresh[i] = True
        rows[i] = row


@numba.njit(cache=True)
def _unlink(row: int, newer: Rows, older: Rows, state: npt.NDArray[np.int64]) -> None:
    if newer[row] == _NONE:
        state[_HEAD] = older[row]
    else:
        older[newer[row]] = older[row]
    if older[row] == _NONE:
        state[_TAIL] = newer[row]
    else:
        newer[older[row]] = newer[row]


@numba.njit(cache=True)
def _link(row: int, newer: Rows, older: Rows, state: npt.NDArray[np.int64]) -> None:
    newer[row] = _NONE
    older[row] = state[_HEAD]
    if state[_HEAD] != _NONE:
        newer[state[_HEAD]] = row
    state[_HEAD] = row
    if state[_TAIL] == _NONE:
        state[_TAIL] = row


@numba.njit(cache=True)
def _remove(key: np.uint64, slots: npt.NDArray[np.int32], keys: Hashes) -> None:
    """Take a key out of the open-addressed slots, moving later ones back over the gap."""
    mask = np.uint64(len(slots) - 1)
    one = np.uint64(1)
    gap = key & mask
    while keys[slots[gap] - 1] != key:
        gap = (gap + one) & mask
    slot = (gap + one) & mask
    while slots[slot] != 0:
        home = keys[slots[slot] - 1] & mask
        if ((slot - home) & mask) >= ((slot - gap) & mask):
            slots[gap] = slots[slot]
            gap = slot
        slot = (slot + one) & mask
    slots[gap] = 0
