"""The kernels of the key table: an open-addressed index, and two lists in order of last touch.

Layout: what a touch needs of a row (key, stamp, links) lies together in one entry of 24 bytes, so
that it is one miss of the cache. ``slots`` hold row + 1, 0 where free (linear probing). The
table's integers are in ``state``, at the positions below.

A row's stamp is written whenever the row is put at the head of a list: a clock that never goes
back, times two, plus the list. So both lists can be told from the stamps alone.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

__all__ = [
    "CLOCK",
    "ENTRY",
    "EVICTED",
    "PROTECTED_ROWS",
    "USED",
    "Entries",
    "empty_state",
    "find_row",
    "link_restored",
    "touch_keys",
]

Entries: TypeAlias = npt.NDArray[np.void]
Hashes: TypeAlias = npt.NDArray[np.uint64]
Int32s: TypeAlias = npt.NDArray[np.int32]
Int64s: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

ENTRY: Final = np.dtype([("key", "u8"), ("stamp", "i8"), ("newer", "i4"), ("older", "i4")])

USED, EVICTED, CLOCK, PROTECTED_ROWS = 0, 1, 2, 3
_HEAD, _TAIL = 4, 6  # each plus the list: 0 or 1
_PROBATION, _PROTECTED = 0, 1
_NONE: Final = -1


def empty_state() -> Int64s:
    """The integers of an empty table."""
    return np.array([0, 0, 0, 0, _NONE, _NONE, _NONE, _NONE], dtype=np.int64)


@numba.njit(cache=True)
def touch_keys(
    hashes: Hashes,
    slots: Int32s,
    entries: Entries,
    state: Int64s,
    protected_capacity: int,
    dirty: Flags,
    block_shift: int,
    rows: Int32s,
    fresh: Flags,
) -> None:
    """Touch n keys in order; write their ``rows`` (n,) and which of them start empty (n,)."""
    mask = np.uint64(len(slots) - 1)
    for i in range(len(hashes)):
        key = hashes[i]
        slot = key & mask
        while slots[slot] != 0 and entries[slots[slot] - 1].key != key:
            slot = (slot + np.uint64(1)) & mask
        if slots[slot] != 0:
            row = slots[slot] - 1
            _touch(row, entries, state, protected_capacity, dirty, block_shift)
        else:
            if state[USED] < len(entries):
                row = int(state[USED])
                state[USED] += 1
            else:
                # Protected rows never fill the table: there is one on probation.
                row = int(state[_TAIL + _PROBATION])
                _unlink(row, _PROBATION, entries, state)
                _remove(entries[row].key, slots, entries)
                state[EVICTED] += 1
                slot = key & mask
                while slots[slot] != 0:
                    slot = (slot + np.uint64(1)) & mask
            slots[slot] = row + 1
            entries[row].key = key
            _link(row, _PROBATION, entries, state)
            fresh[i] = True
        dirty[row >> block_shift] = True
        rows[i] = row


@numba.njit(cache=True)
def find_row(key: np.uint64, slots: Int32s, entries: Entries) -> int:
    """The row of a key without touching it, or -1."""
    mask = np.uint64(len(slots) - 1)
    slot = key & mask
    while slots[slot] != 0:
        row = slots[slot] - 1
        if entries[row].key == key:
            return int(row)
        slot = (slot + np.uint64(1)) & mask
    return _NONE


@numba.njit(cache=True)
def link_restored(
    order: Int64s,
    slots: Int32s,
    entries: Entries,
    state: Int64s,
    protected_capacity: int,
    dirty: Flags,
    block_shift: int,
) -> int:
    """Index and link rows that have keys and stamps; ``order`` lists them by ascending stamp.

    Returns a row whose key another row has, or -1. Where fewer rows may be protected than were
    before, the longest idle of them go on probation.
    """
    mask = np.uint64(len(slots) - 1)
    for at in range(len(order)):
        row = int(order[at])
        key = entries[row].key
        slot = key & mask
        while slots[slot] != 0:
            if entries[slots[slot] - 1].key == key:
                return int(row)
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = row + 1
        segment = entries[row].stamp & 1
        _push(row, segment, entries, state)
        state[PROTECTED_ROWS] += segment
    while state[PROTECTED_ROWS] > protected_capacity:
        _demote(entries, state, dirty, block_shift)
    return _NONE


@numba.njit(cache=True)
def _touch(
    row: int,
    entries: Entries,
    state: Int64s,
    protected_capacity: int,
    dirty: Flags,
    block_shift: int,
) -> None:
    segment = entries[row].stamp & 1
    if segment == _PROBATION and protected_capacity > 0:
        _unlink(row, _PROBATION, entries, state)
        _link(row, _PROTECTED, entries, state)
        state[PROTECTED_ROWS] += 1
        if state[PROTECTED_ROWS] > protected_capacity:
            _demote(entries, state, dirty, block_shift)
    elif state[_HEAD + segment] != row:
        _unlink(row, segment, entries, state)
        _link(row, segment, entries, state)


@numba.njit(cache=True)
def _demote(entries: Entries, state: Int64s, dirty: Flags, block_shift: int) -> None:
    """Move the longest idle of the protected rows to the head of probation."""
    row = int(state[_TAIL + _PROTECTED])
    _unlink(row, _PROTECTED, entries, state)
    _link(row, _PROBATION, entries, state)
    state[PROTECTED_ROWS] -= 1
    dirty[row >> block_shift] = True


@numba.njit(cache=True)
def _unlink(row: int, segment: int, entries: Entries, state: Int64s) -> None:
    newer, older = entries[row].newer, entries[row].older
    if newer == _NONE:
        state[_HEAD + segment] = older
    else:
        entries[newer].older = older
    if older == _NONE:
        state[_TAIL + segment] = newer
    else:
        entries[older].newer = newer


@numba.njit(cache=True)
def _link(row: int, segment: int, entries: Entries, state: Int64s) -> None:
    """Put a row at the head of a list, with a new stamp."""
    _push(row, segment, entries, state)
    entries[row].stamp = 2 * state[CLOCK] + segment
    state[CLOCK] += 1


@numba.njit(cache=True)
def _push(row: int, segment: int, entries: Entries, state: Int64s) -> None:
    head = state[_HEAD + segment]
    entries[row].newer = _NONE
    entries[row].older = head
    if head == _NONE:
        state[_TAIL + segment] = row
    else:
        entries[head].newer = row
    state[_HEAD + segment] = row


@numba.njit(cache=True)
def _remove(key: np.uint64, slots: Int32s, entries: Entries) -> None:
    """Take a key out of the open-addressed slots, moving later ones back over the gap."""
    mask = np.uint64(len(slots) - 1)
    one = np.uint64(1)
    gap = key & mask
    while entries[slots[gap] - 1].key != key:
        gap = (gap + one) & mask
    slot = (gap + one) & mask
    while slots[slot] != 0:
        home = entries[slots[slot] - 1].key & mask
        if ((slot - home) & mask) >= ((slot - gap) & mask):
            slots[gap] = slots[slot]
            gap = slot
        slot = (slot + one) & mask
    slots[gap] = 0
