"""A fast look at raw JSON records for what the decoder does not refuse.

msgspec takes the last of duplicate keys and accepts escaped control characters. Both are ways to
show one value to this monitor and another to somebody else, so both are refused. Looking closely
at every record would cost more than decoding it; this kernel finds the few that deserve it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numba
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["suspicious"]

_QUOTE, _COLON, _BACKSLASH, _SPACE = 0x22, 0x3A, 0x5C, 0x20
_MAX_KEYS: Final = 64
_SLOTS: Final = 256
_PADDING: Final = 16  # so that the 16 bytes before any quote can be read

_ONES: Final = np.uint64(0x0101010101010101)
_HIGH_BITS: Final = np.uint64(0x8080808080808080)
_QUOTES: Final = np.uint64(0x2222222222222222)
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)


def suspicious(records: Sequence[bytes]) -> npt.NDArray[np.bool_]:
    """Which records may have a duplicate key or an escape, shape (n,).

    Exact in one direction, for the keys of our schema: a record that is not marked has neither.
    A record is marked when the name of a key (its last 16 bytes) occurs twice anywhere in it, also
    in different objects, or it has a backslash, over 64 keys, or white space before a colon.
    """
    if not records:
        return np.zeros(0, dtype=np.bool_)
    lengths = np.fromiter(map(len, records), dtype=np.int64, count=len(records))
    data = np.frombuffer(b"".join((b" " * _PADDING, *records)), dtype=np.uint8)
    marks: npt.NDArray[np.bool_] = _scan(data, lengths)
    return marks


@numba.njit(cache=True)
def _scan(data: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    words = _flag(data).view(np.uint64)
    marks = np.zeros(len(lengths), dtype=np.bool_)
    slots = np.zeros(_SLOTS, dtype=np.uint64)
    slot_record = np.full(_SLOTS, -1, dtype=np.int64)
    record = 0
    start, end, count = _PADDING, _PADDING + lengths[0], 0
    for word in range(len(words)):
        flags = words[word]
        while flags != 0:
            lowest = flags & (~flags + np.uint64(1))
            flags ^= lowest
            # Bytes below the lowest flag: its position within the word.
            i = 8 * word + np.int64((((lowest - np.uint64(1)) & _ONES) * _ONES) >> np.uint64(56))
            while i >= end:
                record += 1
                start, end, count = end, end + lengths[record], 0
            if data[i] == _BACKSLASH:
                marks[record] = True
                continue
            if i == start or marks[record]:
                continue
            if data[i - 1] != _QUOTE or count == _MAX_KEYS:
                marks[record] = True
                continue
            # A quote before a colon ends a key (or begins a value such as ":x": then this is an
            # invented key, at worst a needless mark).
            name = _name(data, i - 1)
            slot = np.int64((name * _MIX) >> np.uint64(56))
            while slot_record[slot] == record and slots[slot] != name:
                slot = (slot + 1) % _SLOTS
            marks[record] |= slot_record[slot] == record
            slots[slot] = name
            slot_record[slot] = record
            count += 1
    return marks


@numba.njit(cache=True)
def _flag(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """1 at every backslash and at every colon after a quote or white space, else 0.

    Free of branches, so that the compiler turns it into vector instructions.
    """
    flags = np.zeros(len(data) // 8 * 8 + 8, dtype=np.uint8)
    # Slices that begin at 0: with an index that could be negative nothing is vectorised.
    here, before, flag = data[1:], data[:-1], flags[1:]
    for i in range(len(here)):
        colon = (here[i] == _COLON) & ((before[i] == _QUOTE) | (before[i] <= _SPACE))
        flag[i] = colon | (here[i] == _BACKSLASH)
    return flags


@numba.njit(cache=True)
def _name(data: npt.NDArray[np.uint8], closing: np.int64) -> np.uint64:
    """A number for the key that ends before the quote at ``closing``: of its last 16 bytes."""
    near, ended = _before(data, closing)
    if ended:
        return near
    far, _ = _before(data, closing - 8)
    return near + (far + np.uint64(1)) * _MIX


@numba.njit(cache=True)
def _before(data: npt.NDArray[np.uint8], position: np.int64) -> tuple[np.uint64, bool]:
    """The 8 bytes before a position as one word, cleared up to the last quote among them.

    The classic zero-byte test in a word; it can take the byte after a quote for a quote when that
    is ``#``, which no key of ours has.
    """
    word = np.uint64(0)
    first = np.uint64(
        position - 8
    )  # unsigned: numba then knows that it does not count from the end
    for k in range(8):
        word |= np.uint64(data[first + np.uint64(k)]) << np.uint64(8 * k)
    differs = word ^ _QUOTES
    quotes = (differs - _ONES) & ~differs & _HIGH_BITS
    below = quotes | (quotes >> np.uint64(8))
    below |= below >> np.uint64(16)
    below |= below >> np.uint64(32)
    cleared = (below >> np.uint64(7)) * np.uint64(0xFF)
    return word & ~cleared, quotes != 0
