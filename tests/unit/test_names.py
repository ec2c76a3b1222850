"""Names are found again by their hashes, within bounds."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from detectors.keys import hash_strings
from detectors.names import MAX_NAME_BYTES, NameTable


def note(table: NameTable, *names: str) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    series = pl.Series(names, dtype=pl.String)
    hashes = hash_strings(series)
    table.note(hashes, series)
    return hashes


def test_names_are_found_by_their_hashes() -> None:
    table = NameTable(4)
    hashes = note(table, "ann", "bob", "ann")
    stranger = np.array([99], dtype=np.uint64)
    assert table.names(np.concatenate([hashes, stranger])) == ["ann", "bob", "ann", None]
    assert len(table) == 2


def test_the_string_of_a_known_hash_is_not_looked_at() -> None:
    """That is what makes it cheap: most hashes of a batch are known."""
    table = NameTable(4)
    known = note(table, "ann")
    table.note(known, pl.Series(["something else"]))
    assert table.names(known) == ["ann"]


def test_a_row_that_changes_hands_in_a_batch_has_its_last_name() -> None:
    """One row, three names: those that were evicted are not known, and never mixed up."""
    table = NameTable(1)
    hashes = note(table, "a long name", "b", "mid")
    assert table.names(hashes) == [None, None, "mid"]


@pytest.mark.parametrize("name", ["ü" * 64, "ü" * 65, "x" + "ü" * 64, "€" * 50, "n" * 500])
def test_long_names_are_cut_between_characters(name: str) -> None:
    table = NameTable(2)
    [found] = table.names(note(table, name))
    assert found is not None
    assert name.startswith(found)
    # Whatever was cut off begins with a character that did not fit any more.
    assert len(found.encode()) + len(name[len(found) :][:1].encode()) > MAX_NAME_BYTES or (
        found == name
    )


def test_cutting_into_batches_changes_nothing() -> None:
    names = [f"user-{number * number % 23}" for number in range(200)]
    whole, cut = NameTable(7), NameTable(7)
    note(whole, *names)
    for start in range(0, len(names), 9):
        note(cut, *names[start : start + 9])
    for one, other in zip(whole.row_arrays.values(), cut.row_arrays.values(), strict=True):
        assert np.array_equal(one, other)


def test_rows_can_be_cleared() -> None:
    table = NameTable(2)
    hashes = note(table, "ann", "bob")
    table.clear_rows(slice(1, 2))
    assert table.names(hashes) == ["ann", ""]
