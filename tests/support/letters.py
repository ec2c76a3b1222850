"""Dead letters for tests: of any record, as the worker writes them."""

from __future__ import annotations

import json
from typing import Any, Final

from monitor.kafka.dead_letters import Letter, Position, read_letter
from monitor.kafka.dlq import dead_letter_message
from monitor.kafka.log_reader import LogRecord
from monitor.kafka.outbound import OutboundMessage
from monitor.kafka.topics import TopicNames
from monitor.wire import DeadLetter, Reason

__all__ = ["LETTER_MS", "event_bytes", "letter", "letter_message"]

LETTER_MS: Final = 1_780_000_000_000
"""When the records of these letters were received, if nothing else is said."""


def event_bytes(**changes: Any) -> bytes:  # noqa: ANN401 - anything, also what is wrong
    """A good event, but for the changes."""
    event = {
        "event_id": "evt-1",
        "type": "share.created",
        "time": LETTER_MS,
        "user_id": "user-1",
        "account": {"created_at": LETTER_MS - 10**9, "tier": "free"},
        "client": {"ip": "192.0.2.1"},
        "share": {"asset_id": "asset-1"},
    }
    return json.dumps(event | changes).encode()


def letter_message(
    raw: bytes | None,
    *,
    offset: int = 7,
    partition: int = 0,
    reason: Reason = Reason.WRONG_TYPE,
    path: str = "$.time",
    message: str = "Expected `int`, got `str`",
    key: bytes | None = b"user-1",
    received_ms: int = LETTER_MS,
    names: TopicNames | None = None,
    source: str = "",
) -> OutboundMessage:
    """The message that the worker publishes about a record of ``source`` (generation events)."""
    names = names or TopicNames()
    return dead_letter_message(
        DeadLetter(source or names.generation_events, 0, offset, reason, path, message, raw),
        partition=partition,
        timestamp_ms=received_ms,
        key=key,
        names=names,
    )


def letter(
    raw: bytes | None,
    *,
    written_ms: int = LETTER_MS,
    at: int = 0,
    **options: Any,  # noqa: ANN401 - those of letter_message
) -> Letter:
    """The letter as it is read back from offset ``at``."""
    message = letter_message(raw, **options)
    record = LogRecord(
        message.topic, 0, at, written_ms, False, message.key, message.value, message.headers
    )
    found = read_letter(record)
    assert isinstance(found, Letter)
    assert found.at == Position(message.topic, 0, at)
    return found
