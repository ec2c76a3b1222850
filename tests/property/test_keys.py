"""The key table against an ordered dictionary, and the hashes against their definition."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.keys import KeyTable, hash_string, hash_strings


@given(
    capacity=st.integers(1, 40),
    keys=st.lists(st.integers(1, 60), max_size=400),
    cuts=st.lists(st.integers(0, 400), max_size=5),
    stride=st.sampled_from([1, 64, 0x9E3779B97F4A7C15]),
)
@settings(max_examples=200, deadline=None)
def test_rows_are_those_of_a_least_recently_used_cache(
    capacity: int, keys: list[int], cuts: list[int], stride: int
) -> None:
    """Same rows, same evictions in the same order, whatever the cuts and however keys collide."""
    hashes = np.array([(key * stride) % 2**64 for key in keys], dtype=np.uint64)
    table = KeyTable(capacity)
    model: OrderedDict[int, int] = OrderedDict()
    evicted = 0
    for part in np.split(hashes, sorted(cut for cut in cuts if cut <= len(keys))):
        rows, fresh = table.rows(part)
        for key, row, is_fresh in zip(part.tolist(), rows.tolist(), fresh.tolist(), strict=True):
            assert is_fresh == (key not in model)
            if is_fresh and len(model) == capacity:
                _, freed = model.popitem(last=False)
                model[key] = freed
                evicted += 1
            model.setdefault(key, row)
            model.move_to_end(key)
            assert row == model[key]
    assert (table.evicted, len(table)) == (evicted, len(model))
    assert all(table.find(key) == row for key, row in model.items())
    assert table.find(12_345_678_901) is None


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
