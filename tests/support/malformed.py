"""Malformed records of every kind, each refused for the reason it is listed under."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["KINDS", "malformed_records"]

_TIME_MS: Final = 1_780_000_000_000


def _event(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - anything, that is the point
    event: dict[str, Any] = {
        "event_id": "evt-malformed",
        "type": "generation.requested",
        "time": _TIME_MS,
        "user_id": "user-malformed",
        "account": {"created_at": _TIME_MS - 10**9, "tier": "free"},
        "client": {"ip": "192.0.2.1"},
        "generation": {"request_id": "req-malformed"},
    }
    return {name: value for name, value in (event | changes).items() if value is not ...}


def _bytes(**changes: Any) -> bytes:  # noqa: ANN401
    return json.dumps(_event(**changes)).encode()


_TEXT = json.dumps(_event())

KINDS: Final[dict[str, tuple[str, bytes | None]]] = {
    "tombstone": ("tombstone", None),
    "empty message": ("empty", b""),
    "cut short": ("malformed_json", _TEXT[:-20].encode()),
    "not JSON": ("malformed_json", b"hello"),
    "two objects": ("malformed_json", (_TEXT + _TEXT).encode()),
    "a closing bracket": ("malformed_json", (_TEXT + "]").encode()),
    "NaN": ("malformed_json", _TEXT.replace(str(_TIME_MS), "NaN").encode()),
    "raw control character": ("malformed_json", _TEXT.replace("evt-", "evt-\n").encode()),
    "array": ("wrong_type", b"[]"),
    "null": ("wrong_type", b"null"),
    "text for time": ("wrong_type", _bytes(time=str(_TIME_MS))),
    "half a millisecond": ("wrong_type", _bytes(time=_TIME_MS + 0.5)),
    "number for user": ("wrong_type", _bytes(user_id=17)),
    "null account": ("wrong_type", _bytes(account=None)),
    "list for client": ("wrong_type", _bytes(client=[])),
    "no user": ("missing_field", _bytes(user_id=...)),
    "no event id": ("missing_field", _bytes(event_id=...)),
    "no time": ("missing_field", _bytes(time=...)),
    "no tier": ("missing_field", _bytes(account={"created_at": 1})),
    "empty user": ("missing_id", _bytes(user_id="")),
    "empty event id": ("missing_id", _bytes(event_id="")),
    "no body": ("missing_body", _bytes(generation=...)),
    "another body": ("missing_body", _bytes(generation=..., share={"asset_id": "a"})),
    "unknown type": ("unknown_type", _bytes(type="video.liked")),
    "seconds": ("time_out_of_range", _bytes(time=_TIME_MS // 1000)),
    "microseconds": ("time_out_of_range", _bytes(time=_TIME_MS * 1000)),
    "negative time": ("time_out_of_range", _bytes(time=-1)),
    "astronomical time": ("time_out_of_range", _bytes(time=10**30)),
    "far future": ("time_in_future", _bytes(time=4_000_000_000_000)),
    "negative cost": (
        "out_of_range",
        _bytes(generation={"request_id": "r", "cost": -1.0}),
    ),
    "a number beyond 64 bits": (
        "out_of_range",
        _bytes(account={"created_at": 10**30, "tier": "free"}),
    ),
    "long user": ("too_long", _bytes(user_id="u" * 1_000)),
    "1 MB string": ("too_large", _bytes(user_id="u" * 1_000_000)),
    "NUL in user": ("control_character", _bytes(user_id="user\0")),
    "escape in user": ("control_character", _bytes(user_id="user\x1b[31m")),
    "duplicate key": (
        "duplicate_key",
        _TEXT.replace('"type"', '"user_id": "somebody-else", "type"').encode(),
    ),
    "invalid UTF-8": ("not_utf8", _TEXT.encode().replace(b"user-", b"\xff\xfe")),
    "lone surrogate": ("malformed_json", _TEXT.replace("user-", "\\ud800").encode()),
    "nested bomb": ("too_deep", b'{"x":' * 8_000 + b"1" + b"}" * 8_000),
    "array bomb": ("too_deep", b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    "future version": ("unsupported_version", _bytes(schema_version=2)),
}
"""What it is: the reason that it must be refused for, and the record."""


def malformed_records(count: int) -> Iterator[bytes | None]:
    """``count`` records, every kind in turn; large ones seldom, so that it stays quick."""
    small = [record for _, record in KINDS.values() if len(record or b"") < 100_000]
    large = [record for _, record in KINDS.values() if len(record or b"") >= 100_000]
    for number in range(count):
        if number % 1_000 == 999:
            yield large[number // 1_000 % len(large)]
        else:
            yield small[number % len(small)]
