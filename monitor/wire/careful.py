"""The decoder that knows every case: one msgspec call a record, with reasons for what is refused.

It takes a record apart twice, which costs thirty times as much as ``reader``. Joining records
into one JSON array would be a little faster, but a record ``1],[2`` could then change how its
neighbours are read.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import polars as pl

from detectors.events import SCHEMA_VERSION
from monitor.wire.checks import Refusal, time_refusal
from monitor.wire.columns import beyond_64_bits, event_frame
from monitor.wire.letters import MAX_RECORD_BYTES, Reason
from monitor.wire.schema import Event

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["CarefulDecoder", "CarefullyDecoded"]

_INT64: Final = 2**63
_PIECE: Final = 1_000
_DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError)
_PATH: Final = re.compile(r" - at `([^`]*)`$")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class CarefullyDecoded:
    """The events among n records as a frame, in order, their positions; the others' refusals."""

    frame: pl.DataFrame
    positions: list[int]
    refused: dict[int, Refusal]


class _Sly(Exception):
    def __init__(self, reason: Reason, message: str) -> None:
        self.refusal = Refusal(reason, "$", message)
        super().__init__(message)


class CarefulDecoder:
    """Decodes records into the columns ``names``; never raises on bad input."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._decode = msgspec.json.Decoder(Event).decode

    def decode(self, values: Sequence[bytes | None]) -> CarefullyDecoded:
        """Decode records; see ``CarefullyDecoded``."""
        frames: list[pl.DataFrame] = []
        kept: list[int] = []
        refused: dict[int, Refusal] = {}
        # A thousand records at a time: what is made of them is gone before it leaves the cache.
        for start in range(0, max(1, len(values)), _PIECE):
            piece = values[start : start + _PIECE]
            frames.append(self._decode_piece(piece, start, kept, refused))
        return CarefullyDecoded(pl.concat(frames, rechunk=True), kept, refused)

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
        except (
            OverflowError,
            TypeError,
            pl.exceptions.PolarsError,
        ):  # which one depends on the size
            beyond = beyond_64_bits(events, self._names)
            bad |= {positions[row]: _beyond(events[row]) for row in beyond}
            events = [event for row, event in enumerate(events) if row not in beyond]
            positions = [place for row, place in enumerate(positions) if row not in beyond]
            frame = event_frame(events, self._names)
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


def _beyond(event: Event) -> Refusal:
    """Say that an event has a number beyond 64 bits."""
    if not -_INT64 <= event.time < _INT64:
        return time_refusal(event.time)
    return Refusal(Reason.OUT_OF_RANGE, "$", "a number beyond 64 bits")


def _sly_or_large(values: Sequence[bytes | None]) -> dict[int, Refusal]:
    """What the decoder would take but nobody should send, and what it should not even try."""
    refused: dict[int, Refusal] = {}
    for position, value in enumerate(values):
        if value is None:
            continue
        if len(value) > MAX_RECORD_BYTES:
            refused[position] = _too_large(value)
            continue
        try:
            _look_closely(value)
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
    """Find duplicate keys and control characters.

    msgspec takes the last of duplicate keys and accepts control characters (escaped, or DEL). Both
    are ways to show one value to this monitor and another to somebody else. What is not JSON at all
    is left to the decoder, whose errors say more.
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
