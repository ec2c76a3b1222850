"""Marks: the newest value of each key, and nothing of the key that had its row before."""

from __future__ import annotations

import math

import numpy as np

from detectors.keys import KeyTable
from detectors.marks import Marks


def hashes(*keys: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array(keys, dtype=np.uint64)


def test_the_newest_value_that_is_known_stays() -> None:
    keys = KeyTable(10)
    marks = Marks(keys, "blocked")
    assert math.isnan(marks.mean)
    marks.note(*keys.rows(hashes(1, 2, 1, 1)), np.array([0.0, np.nan, 1.0, np.nan]))
    assert marks.values(hashes(1, 2, 3)).tolist()[0] == 1.0
    assert np.isnan(marks.values(hashes(2, 3))).all()
    assert marks.mean == 1.0
    marks.note(*keys.rows(hashes(2)), np.array([0.0]))
    assert marks.mean == 0.5


def test_a_key_that_takes_the_row_of_another_starts_unknown() -> None:
    """However the batch is cut, also if a row changes hands twice in it."""
    sequence = [(key, float(key % 2) if key % 3 else math.nan) for key in range(1, 40)]
    whole_keys, cut_keys = KeyTable(4), KeyTable(4)
    whole, cut = Marks(whole_keys, "blocked"), Marks(cut_keys, "blocked")
    keys = hashes(*(key for key, _ in sequence))
    values = np.array([value for _, value in sequence])
    whole.note(*whole_keys.rows(keys), values)
    for at in range(len(keys)):
        cut.note(*cut_keys.rows(keys[at : at + 1]), values[at : at + 1])
    np.testing.assert_array_equal(whole.row_arrays["blocked"], cut.row_arrays["blocked"])
    np.testing.assert_array_equal(whole.values(keys), cut.values(keys))
    assert np.isnan(whole.values(hashes(39)))[0]
