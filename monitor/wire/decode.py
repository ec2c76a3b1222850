"""Records to events: one decoder call a record, so that a bad record spoils only itself.

Joining a chunk into one JSON array would be a little faster, but a record ``1],[2`` could then
change how its neighbours are read.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import polars as pl

from detectors.events import SCHEMA_VERSION
from monitor.wire.checks import CHECKED_COLUMNS, MAX_AHEAD_MS, Checks, Refusal, time_refusal
from monitor.wire.columns import event_frame
from monitor.wire.letters import MAX_RECORD_BYTES, DeadLetter, Reason
from monitor.wire.scan import suspicious
from monitor.wire.schema import Event

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy.typing as npt

__all__ = ["Decoded", "Decoder"]

_INT64: Final = 2**63
_PIECE: Final = 1_000
_DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError)
_PATH: Final = re.compile(r" - at `([^`]*)`$")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Decoded:
    """n good events as a frame, in order; ``positions`` (n,) within the chunk; the bad ones."""

    frame: pl.DataFrame
    positions: npt.NDArray[np.int64]
    dead: list[DeadLetter]


class _Sly(Exception):
    def __init__(self, reason: Reason, message: str) -> None:
        self.refusal = Refusal(reason, "$", message)
        super().__init__(message)


class Decoder:
    """Decodes chunks of records into the columns ``names``; never raises on bad input."""

    def __init__(self, names: Collection[str], *, max_ahead_ms: int = MAX_AHEAD_MS) -> None:
        self._names = frozenset(names) | CHECKED_COLUMNS
        self._checks = Checks(self._names, max_ahead_ms)
        self._decode = msgspec.json.Decoder(Event).decode

    def decode(
        self,
        source: str,
        values: Sequence[bytes | None],
        offsets: Sequence[int],
        received_ms: Sequence[int],
    ) -> Decoded:
        """Decode a chunk of records from ``source`` (topic or file).

        ``received_ms`` is when each record was received (the log's own time); an event may not be
        further ahead of it than ``max_ahead_ms``.
        """
        refused: dict[int, Refusal] = {}
        frames: list[pl.DataFrame] = []
        kept: list[int] = []
        # A thousand records at a time: what is made of them is gone before it leaves the cache.
        for start in range(0, max(1, len(values)), _PIECE):
            piece = values[start : start + _PIECE]
            frames.append(self._decode_piece(piece, start, kept, refused))
        frame = pl.concat(frames, rechunk=True)
        rows = np.array(kept, dtype=np.int64)
        absurd = self._checks.refusals(frame, np.asarray(received_ms, dtype=np.int64)[rows])
        if absurd:
            refused |= {int(rows[row]): refusal for row, refusal in absurd.items()}
            good = np.ones(len(frame), dtype=np.bool_)
            good[list(absurd)] = False
            frame, rows = frame.filter(pl.Series(good)), rows[good]
        dead = [
            DeadLetter(source, p, offsets[p], r.reason, r.path, r.message, values[p])
            for p, r in sorted(refused.items())
        ]
        return Decoded(frame, rows, dead)

    def _decode_piece(
        self,
        values: Sequence[bytes | None],
        start: int,
        kept: list[int],
        refused: dict[int, Refusal],
    ) -> pl.DataFrame:
        """The events among the records from position ``start`` on, as columns.

        Their positions are added to ``kept``, those of the others to ``refused``.
        """
        decode = self._decode
        bad = _sly_or_large(values)
        events: list[Event] = []
        if not bad:
            with suppress(*_DECODE_ERRORS):
                events = [decode(value) for value in values]  # type: ignore[arg-type]
        if len(events) == len(values):
            positions = list(range(len(values)))
        else:
            events, positions = self._decode_one_by_one(values, bad)
        if not {event.schema_version for event in events} <= {SCHEMA_VERSION}:
            for position, event in zip(positions, events, strict=True):
                if event.schema_version != SCHEMA_VERSION:
                    bad[position] = _unsupported(event.schema_version)
            positions = [position for position in positions if position not in bad]
            events = [event for event in events if event.schema_version == SCHEMA_VERSION]
        try:
            frame = event_frame(events, self._names)
        except (OverflowError, pl.exceptions.PolarsError, TypeError):
            frame = self._frame_of_those_that_fit(events, positions, bad)
        refused |= {start + position: refusal for position, refusal in bad.items()}
        kept += [start + position for position in positions]
        return frame

    def _decode_one_by_one(
        self, values: Sequence[bytes | None], bad: dict[int, Refusal]
    ) -> tuple[list[Event], list[int]]:
        """The events and their positions; what cannot be decoded is added to ``bad``."""
        events: list[Event] = []
        positions: list[int] = []
        for position, value in enumerate(values):
            if position in bad:
                continue
            try:
                events.append(self._decode(value))  # type: ignore[arg-type]  # None is refused
            except _DECODE_ERRORS as error:
                bad[position] = _reading_of(error, value)
            else:
                positions.append(position)
        return events, positions

    def _frame_of_those_that_fit(
        self, events: list[Event], positions: list[int], refused: dict[int, Refusal]
    ) -> pl.DataFrame:
        """Take out the events with a number that no column can hold, one by one."""
        fitting: list[Event] = []
        for position, event in zip(list(positions), events, strict=True):
            try:
                event_frame([event], self._names)
            except (OverflowError, pl.exceptions.PolarsError, TypeError):
                big = not -_INT64 <= event.time < _INT64
                beyond = Refusal(Reason.OUT_OF_RANGE, "$", "a number beyond 64 bits")
                refused[position] = time_refusal(event.time) if big else beyond
                positions.remove(position)
            else:
                fitting.append(event)
        return event_frame(fitting, self._names)


def _sly_or_large(values: Sequence[bytes | None]) -> dict[int, Refusal]:
    """What the decoder would take but nobody should send, and what it should not even try."""
    records = [value or b"" for value in values]
    refused: dict[int, Refusal] = {}
    if max(map(len, records), default=0) > MAX_RECORD_BYTES:
        for position, record in enumerate(records):
            if len(record) > MAX_RECORD_BYTES:
                refused[position] = _too_large(record)
    for position in np.flatnonzero(suspicious(records)).tolist():
        if position not in refused:
            try:
                _look_closely(records[position])
            except _Sly as sly:
                refused[position] = sly.refusal
    return refused


def _too_large(value: bytes) -> Refusal:
    message = f"{len(value)} bytes, {MAX_RECORD_BYTES} at most: send a fingerprint"
    return Refusal(Reason.TOO_LARGE, "$", message)


def _unsupported(version: int) -> Refusal:
    message = f"schema_version {version}; this build reads {SCHEMA_VERSION}"
    return Refusal(Reason.UNSUPPORTED_VERSION, "$.schema_version", message)


def _reading_of(error: Exception, value: bytes | None) -> Refusal:
    """Say in our words what the decoder found."""
    if value is None:
        message = "a record without a value: events are never deleted"
        return Refusal(Reason.TOMBSTONE, "$", message)
    if not value:
        return Refusal(Reason.EMPTY, "$", "an empty record")
    text = str(error)
    path = "$"
    found = _PATH.search(text)
    if found:
        path, text = found.group(1), text[: found.start()]
    if isinstance(error, RecursionError):
        return Refusal(Reason.TOO_DEEP, path, "nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        message = f"not UTF-8: {error.reason} at byte {error.start}"
        return Refusal(Reason.NOT_UTF8, path, message)
    if isinstance(error, msgspec.ValidationError):
        missing = "missing required field" in text
        return Refusal(Reason.MISSING_FIELD if missing else Reason.WRONG_TYPE, path, text)
    return Refusal(Reason.MALFORMED_JSON, path, text)


def _look_closely(value: bytes) -> None:
    """The slow check of a suspicious record: duplicate keys and control characters.

    What is not JSON at all is left to the decoder, whose errors say more.
    """
    with suppress(ValueError, RecursionError):
        json.loads(value, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for index, key in enumerate(names) if key in names[:index])
        raise _Sly(Reason.DUPLICATE_KEY, f"key {twice[:64]!r} occurs twice")
    for key, value in pairs:
        for text in (key, *(value if isinstance(value, list) else (value,))):
            if isinstance(text, str) and _CONTROL.search(text):
                raise _Sly(Reason.CONTROL_CHARACTER, f"control character in or at {key[:64]!r}")
    return found
