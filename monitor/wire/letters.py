"""Dead letters: records that could not become events, with the reason."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

__all__ = ["MAX_RECORD_BYTES", "DeadLetter", "Reason"]

MAX_RECORD_BYTES = 65_536
"""Larger records are refused unread: an event is about half a kilobyte."""


class Reason(StrEnum):
    """Why a record was refused; label of the metrics and key of the counts."""

    TOMBSTONE = "tombstone"
    EMPTY = "empty"
    TOO_LARGE = "too_large"
    NOT_UTF8 = "not_utf8"
    MALFORMED_JSON = "malformed_json"
    TOO_DEEP = "too_deep"
    WRONG_TYPE = "wrong_type"
    MISSING_FIELD = "missing_field"
    DUPLICATE_KEY = "duplicate_key"
    CONTROL_CHARACTER = "control_character"
    UNSUPPORTED_VERSION = "unsupported_version"
    UNKNOWN_TYPE = "unknown_type"
    MISSING_BODY = "missing_body"
    MISSING_ID = "missing_id"
    TOO_LONG = "too_long"
    TIME_OUT_OF_RANGE = "time_out_of_range"
    TIME_IN_FUTURE = "time_in_future"
    OUT_OF_RANGE = "out_of_range"
    NOT_TRACES = "not_traces"


class DeadLetter(Struct, frozen=True):
    """A refused record.

    Where it was (``position`` in its chunk, ``offset`` in its source), why (``reason``, JSON
    ``path``, ``message`` that says what to do) and its ``raw`` bytes.
    """

    source: str
    position: int
    offset: int
    reason: Reason
    path: str
    message: str
    raw: bytes | None
