"""The key table against a plain model of a segmented LRU; the hashes against their definition."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.keys import KeyTable, hash_string, hash_strings

STRIDES = st.sampled_from([1, 64, 0x9E3779B97F4A7C15])  # Keys far apart, and keys that collide.
CAPACITIES = st.integers(1, 40)
KEYS = st.lists(st.integers(1, 60), max_size=400)


@dataclass(slots=True)
class Model:
    """A segmented LRU in words; each dictionary goes from the longest idle to the newest."""

    capacity: int
    evicted: int = 0
    probation: OrderedDict[int, int] = field(default_factory=OrderedDict)
    protected: OrderedDict[int, int] = field(default_factory=OrderedDict)

    def touch(self, key: int) -> tuple[int, bool]:
        """The row of a key and whether it starts empty."""
        most_protected = self.capacity * 4 // 5
        if key in self.protected:
            self.protected.move_to_end(key)
            return self.protected[key], False
        if key in self.probation and most_protected == 0:
            self.probation.move_to_end(key)
            return self.probation[key], False
        if key in self.probation:
            self.protected[key] = self.probation.pop(key)
            if len(self.protected) > most_protected:
                demoted, row = self.protected.popitem(last=False)
                self.probation[demoted] = row
            return self.protected[key], False
        row = len(self.probation) + len(self.protected)
        if row == self.capacity:
            _, row = self.probation.popitem(last=False)
            self.evicted += 1
        self.probation[key] = row
        return row, True

    @property
    def rows(self) -> dict[int, int]:
        return {**self.probation, **self.protected}


def spread(keys: list[int], stride: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array([(key * stride) % 2**64 for key in keys], dtype=np.uint64)


@given(
    capacity=CAPACITIES,
    keys=KEYS,
    cuts=st.lists(st.integers(0, 400), max_size=5),
    stride=STRIDES,
)
@settings(max_examples=200, deadline=None)
def test_rows_are_those_of_a_segmented_lru(
    capacity: int, keys: list[int], cuts: list[int], stride: int
) -> None:
    """Same rows, same evictions in the same order, whatever the cuts and however keys collide."""
    table = KeyTable(capacity)
    model = Model(capacity)
    for part in np.split(spread(keys, stride), sorted(cut for cut in cuts if cut <= len(keys))):
        rows, fresh = table.rows(part)
        assert list(zip(rows.tolist(), fresh.tolist(), strict=True)) == [
            model.touch(key) for key in part.tolist()
        ]
    assert (table.evicted, len(table)) == (model.evicted, len(model.rows))
    assert all(table.find(key) == row for key, row in model.rows.items())
    assert table.find(12_345_678_901) is None


@given(capacity=CAPACITIES, keys=KEYS, more=KEYS, stride=STRIDES)
@settings(max_examples=200, deadline=None)
def test_a_restored_table_goes_on_as_if_nothing_had_happened(
    capacity: int, keys: list[int], more: list[int], stride: int
) -> None:
    """Per-row arrays and counters are the whole state: both lists and the index come back."""
    table = KeyTable(capacity)
    table.rows(spread(keys, stride))
    used = len(table)
    saved = {name: array[:used].copy() for name, array in table.row_arrays.items()}
    restored = KeyTable(capacity)
    restored.restore(saved, table.counters)
    assert restored.take_dirty().tolist() == []
    for one, other in zip(
        table.rows(spread(more, stride)), restored.rows(spread(more, stride)), strict=True
    ):
        assert one.tolist() == other.tolist()
    assert restored.counters == table.counters
    for name, array in table.row_arrays.items():
        assert array.tolist() == restored.row_arrays[name].tolist()


@given(capacity=st.integers(1, 30), grown=st.integers(1, 60), keys=KEYS, more=KEYS)
@settings(max_examples=100, deadline=None)
def test_another_capacity_takes_the_rows_if_they_fit(
    capacity: int, grown: int, keys: list[int], more: list[int]
) -> None:
    """All keys keep their rows; at most 80 % of the new capacity stays protected."""
    table = KeyTable(capacity)
    table.rows(spread(keys, 1))
    used = len(table)
    saved = {name: array[:used].copy() for name, array in table.row_arrays.items()}
    other = KeyTable(grown)
    if used > grown:
        with pytest.raises(ValueError, match=f"{used} keys do not fit into {grown} rows"):
            other.restore(saved, table.counters)
        return
    other.restore(saved, table.counters)
    assert other.keys.tolist() == table.keys.tolist()
    assert (other.row_arrays["stamp"][:used].astype(np.int64) & 1).sum() <= grown * 4 // 5
    other.rows(spread(more, 1))
    assert len(other) <= grown


@given(
    capacity=CAPACITIES,
    block_rows=st.sampled_from([1, 2, 8]),
    parts=st.lists(st.lists(st.integers(1, 60), max_size=20), max_size=20),
)
@settings(max_examples=200, deadline=None)
def test_dirty_blocks_are_those_that_were_touched_or_changed(
    capacity: int, block_rows: int, parts: list[list[int]]
) -> None:
    """No change goes unnoticed; and a block is dirty only for a touch or a change in it."""
    table = KeyTable(capacity, block_rows)
    for part in parts:
        before = {name: array.copy() for name, array in table.row_arrays.items()}
        rows, _ = table.rows(spread(part, 1))
        touched = set(rows.tolist())
        for name, array in table.row_arrays.items():
            touched.update(np.flatnonzero(array != before[name]).tolist())
        assert table.take_dirty().tolist() == sorted({row // block_rows for row in touched})
        assert table.take_dirty().tolist() == []
    table.mark_all_dirty()
    assert table.take_dirty().tolist() == list(range(-(-len(table) // block_rows)))


@given(st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"])))))
def test_hashes_do_not_depend_on_neighbours(strings: list[str | None]) -> None:
    """A column hashes to what its strings hash to one by one; nothing hashes to 0."""
    expected = [hash_string(string) if string else 0 for string in strings]
    assert hash_strings(pl.Series(strings, dtype=pl.String)).tolist() == expected
    assert all(bool(string) == bool(value) for string, value in zip(strings, expected, strict=True))


def test_hashes_never_change() -> None:
    """Checkpoints and traces hold them: this fails if someone changes the function."""
    assert hash_string("user-1") == 0x41A2FCA5C68401C5
    assert hash_string("ünïcode ✓") == 0x901FEEB273457F6A
