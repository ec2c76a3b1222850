"""What the key table refuses to restore, and whom it keeps in a flood."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.keys import KeyTable


def numbered(*keys: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array(keys, dtype=np.uint64)


def saved() -> tuple[dict[str, np.ndarray[tuple[int], np.dtype[np.generic]]], dict[str, int]]:
    """Arrays and counters of a table of three keys, one of them protected."""
    table = KeyTable(5)
    table.rows(numbered(7, 8, 9, 8))
    return {name: array[:3].copy() for name, array in table.row_arrays.items()}, table.counters


def test_a_flood_of_keys_seen_once_leaves_those_seen_twice() -> None:
    """However long the flood: it passes through the rows on probation."""
    table = KeyTable(10)
    rows, _ = table.rows(numbered(1, 2, 1, 2))
    table.rows(np.arange(100, 10_100, dtype=np.uint64))
    assert [table.find(1), table.find(2)] == rows[:2].tolist()
    assert (len(table), table.evicted) == (10, 9_992)


def test_keys_that_come_twice_need_a_whole_table_between_two_events() -> None:
    """The limit that the docstring tells: as good as a plain LRU, not better."""
    table = KeyTable(10)
    table.rows(numbered(1, 1))
    table.rows(np.repeat(np.arange(100, 109, dtype=np.uint64), 2))
    assert table.find(1) is not None
    table.rows(np.repeat(np.arange(109, 111, dtype=np.uint64), 2))
    assert table.find(1) is None


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("key", numbered(7, 8, 8), "row 1: key 0x8 is there twice"),
        ("key", numbered(7, 8), r"key: shape \(2,\) instead of \(3,\)"),
        ("stamp", np.array([0, 7, 0]), "two rows have the same stamp"),
        ("stamp", np.array([0, 6, 7]), "two rows have the same stamp"),
        ("stamp", np.array([0, 7, 8]), "stamps beyond the clock of 4"),
        ("stamp", np.array([0, 7, -2]), "stamps beyond the clock of 4"),
    ],
)
def test_what_cannot_be_is_not_restored(
    name: str, values: np.ndarray[tuple[int], np.dtype[np.generic]], message: str
) -> None:
    """Each message names what is wrong."""
    arrays, counters = saved()
    KeyTable(3).restore(arrays, counters)
    arrays[name] = values
    with pytest.raises(ValueError, match=message):
        KeyTable(5).restore(arrays, counters)


def test_more_keys_than_rows_are_refused() -> None:
    arrays, counters = saved()
    with pytest.raises(ValueError, match="3 keys do not fit into 2 rows"):
        KeyTable(2).restore(arrays, counters)


@pytest.mark.parametrize(("capacity", "block_rows"), [(0, 512), (5, 0), (5, 24)])
def test_impossible_sizes_are_refused(capacity: int, block_rows: int) -> None:
    with pytest.raises(ValueError, match=r"at least 1 row|not a power of two"):
        KeyTable(capacity, block_rows)


def test_bytes_per_row_is_what_a_full_table_takes() -> None:
    """24 bytes an entry and 2 to 4 slots of 4 bytes."""
    assert KeyTable(1 << 18).bytes_per_row == 32
    assert KeyTable((1 << 18) + 1).bytes_per_row == 40
