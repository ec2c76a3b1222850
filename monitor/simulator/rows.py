"""Planned events as rows of numbers.

Until it is written out an event is one row of a numpy structured array: small codes instead of
words, integers instead of identifiers. Rows are cheap to make, copy, hold back and sort (about
180 bytes each), and whatever is not known or does not apply is -1. ``materialise`` turns rows
into the columns of ``detectors.events``.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from monitor.simulator.vocabulary import TYPE_CODES

__all__ = [
    "EVENT",
    "ORIGIN",
    "Fields",
    "Integers",
    "Rows",
    "blank_rows",
    "fields_of",
    "join_rows",
    "put_rows",
    "rows_from",
    "take_rows",
]

Rows: TypeAlias = NDArray[np.void]
"""A structured array, of ``EVENT`` unless said otherwise."""

Integers: TypeAlias = NDArray[np.int64]

Fields: TypeAlias = dict[str, NDArray[Any]]
"""The fields of rows as contiguous arrays, those of the origin among the others."""

_TRANSPOSED_TOGETHER: Final = 4096

ORIGIN: Final = np.dtype(
    [
        ("user", np.int64),
        ("created_ms", np.int64),
        ("last_active_ms", np.int64),
        ("address", np.int64),
        ("device", np.int64),
        ("session", np.int64),
        ("tier", np.int8),
        ("verified", np.bool_),
        ("country", np.int8),
        ("app_version", np.int8),
    ]
)
"""Who acts, with which account, from where."""

EVENT: Final = np.dtype(
    [
        ("time_ms", np.int64),
        ("type", np.int8),
        ("attack", np.int32),
        ("origin", ORIGIN),
        ("request", np.int64),
        ("prompt", np.int64),
        ("edit", np.int32),
        ("drift_percent", np.int8),
        ("model", np.int8),
        ("duration_s", np.int16),
        ("resolution", np.int8),
        ("guard_decision", np.int8),
        ("guard_category", np.int8),
        ("guard_score", np.float32),
        ("likeness", np.int32),
        ("asset", np.int64),
        ("channel", np.int8),
        ("target", np.int64),
        ("link", np.int64),
        ("visibility", np.int8),
        ("view_count", np.int32),
        ("c2pa_present", np.int8),
        ("c2pa_state", np.int8),
        ("source_type", np.int8),
        ("watermark", np.int8),
        ("subject", np.int64),
        ("reason", np.int8),
        ("verdict", np.int8),
    ]
)
"""One planned event. ``attack`` is the index of the attack it belongs to, -1 for none.

A prompt is a number and an edit of it: edits of one prompt share most of their MinHash
signature, ``drift_percent`` says how much an edit changes.
"""


def _blank() -> Rows:
    blank = np.zeros(1, dtype=EVENT)
    for name in EVENT.names or ():
        if name != "origin":
            blank[name] = -1
    return blank


_BLANK: Final = _blank()


def blank_rows(count: int) -> Rows:
    """``count`` rows in which nothing is known (-1 everywhere)."""
    return np.repeat(_BLANK, count)


def rows_from(origins: Rows, times_ms: Integers, type_name: str, attack: int = -1) -> Rows:
    """Rows of one event type: ``origins`` (of dtype ``ORIGIN``) acting at ``times_ms``."""
    rows = blank_rows(len(times_ms))
    rows["origin"] = origins
    rows["time_ms"] = times_ms
    rows["type"] = TYPE_CODES[type_name]
    rows["attack"] = attack
    return rows


# numpy moves structured rows field by field. Seen as plain bytes they move several times as fast.


def _as_bytes(rows: Rows) -> Rows:
    return np.ascontiguousarray(rows).view(np.dtype((np.void, rows.dtype.itemsize)))


def join_rows(parts: list[Rows]) -> Rows:
    """All parts (of one dtype) one after the other; no parts give no events."""
    if not parts:
        return blank_rows(0)
    joined = np.concatenate([_as_bytes(part) for part in parts])
    return joined.view(parts[0].dtype)


def take_rows(rows: Rows, places: Integers) -> Rows:
    """The rows at ``places``, in that order."""
    return np.take(_as_bytes(rows), places).view(rows.dtype)


def put_rows(rows: Rows, places: Integers, values: Rows) -> None:
    """Set the rows at ``places`` of a contiguous array, each place at most once."""
    assert rows.flags.c_contiguous
    _as_bytes(rows)[places] = _as_bytes(values)


def fields_of(rows: Rows) -> Fields:
    """Every field as a contiguous array, a stretch of rows that fits the cache at a time."""
    count = len(rows)
    sources = {name: rows[name] for name in EVENT.names or () if name != "origin"}
    sources |= {name: rows["origin"][name] for name in ORIGIN.names or ()}
    fields: Fields = {name: np.empty(count, source.dtype) for name, source in sources.items()}
    for start in range(0, count, _TRANSPOSED_TOGETHER):
        stretch = slice(start, start + _TRANSPOSED_TOGETHER)
        for name, source in sources.items():
            fields[name][stretch] = source[stretch]
    return fields
