"""Dead letters keep what is needed to understand a record and drive it again, and no more."""

from __future__ import annotations

from monitor.kafka.dlq import (
    MAX_KEY_BYTES,
    MAX_RAW_BYTES,
    DeadLetterRecord,
    dead_letter_message,
    decode_dead_letter,
    raw_bytes,
)
from monitor.kafka.outbound import OutboundMessage
from monitor.kafka.topics import TopicNames
from monitor.wire import DeadLetter, Reason


def _message(
    raw: bytes | None, *, key: bytes | None = b"u1", path: str = "$.time"
) -> OutboundMessage:
    letter = DeadLetter(
        "generation-events", 3, 42, Reason.WRONG_TYPE, path, "expected an integer", raw
    )
    return dead_letter_message(
        letter, partition=5, timestamp_ms=1_700_000_000_000, key=key, names=TopicNames()
    )


def _record(message: OutboundMessage) -> DeadLetterRecord:
    return decode_dead_letter(message.value or b"")


def test_a_dead_letter_says_what_where_and_why() -> None:
    message = _message(b'{"time": "yesterday"}')
    record = _record(message)
    assert message.topic == "generation-events-dlq"
    assert message.key == b"u1"
    assert dict(message.headers)["floodwatch-reason"] == b"wrong_type"
    assert (record.reason, record.path, record.message) == (
        "wrong_type",
        "$.time",
        "expected an integer",
    )
    source = record.source
    assert (source.topic, source.partition, source.offset) == ("generation-events", 5, 42)
    assert source.timestamp_ms == 1_700_000_000_000
    assert raw_bytes(record) == b'{"time": "yesterday"}'
    assert not record.truncated


def test_bytes_that_are_no_text_come_back_as_they_were() -> None:
    raw = bytes(range(256))
    assert raw_bytes(_record(_message(raw))) == raw


def test_a_tombstone_has_no_bytes() -> None:
    record = _record(_message(None, key=None))
    assert raw_bytes(record) is None
    assert (record.raw_size_bytes, record.truncated) == (0, False)


def test_everything_is_bounded() -> None:
    raw = b"x" * (MAX_RAW_BYTES + 1)
    message = _message(raw, key=b"k" * 5_000, path="$" + ".a" * 100_000)
    record = _record(message)
    assert raw_bytes(record) == raw[:MAX_RAW_BYTES]
    assert (record.raw_size_bytes, record.truncated) == (MAX_RAW_BYTES + 1, True)
    assert message.key == b"k" * MAX_KEY_BYTES
    assert len(record.path) == 1024
    assert len(message.value or b"") < 100_000, "far below the broker's limit of a million bytes"
