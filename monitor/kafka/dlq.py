"""Dead letters: what becomes of a record that cannot be used.

One JSON object per record on ``<topic>-dlq`` with the reason, the JSON path, where the record
was, and its bytes (bounded), so that it can be understood, mended and driven again.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import msgspec

from monitor.kafka.outbound import OutboundMessage

if TYPE_CHECKING:
    from monitor.kafka.topics import TopicNames
    from monitor.wire import DeadLetter

__all__ = [
    "MAX_KEY_BYTES",
    "MAX_RAW_BYTES",
    "DeadLetterRecord",
    "DeadLetterSource",
    "dead_letter_message",
    "decode_dead_letter",
    "raw_bytes",
]

MAX_RAW_BYTES: Final = 64 * 1024
MAX_KEY_BYTES: Final = 1024
_MAX_TEXT_CHARACTERS: Final = 1024

_Partition: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
_Offset: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_TimeMs: TypeAlias = Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]


class DeadLetterSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where the record was; ``timestamp_ms`` is its Kafka timestamp, -1 where it has none."""

    topic: str
    partition: _Partition
    offset: _Offset
    timestamp_ms: _TimeMs


class DeadLetterRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a dead letter.

    ``raw`` is base64 of at most ``MAX_RAW_BYTES``, null for a tombstone; ``raw_size_bytes`` is
    the size of all of it.
    """

    reason: str
    path: str
    message: str
    source: DeadLetterSource
    raw: str | None
    raw_size_bytes: int
    truncated: bool


def dead_letter_message(
    letter: DeadLetter,
    *,
    partition: int,
    timestamp_ms: int,
    key: bytes | None,
    names: TopicNames,
) -> OutboundMessage:
    """The message to publish. The key is the record's own, cut to ``MAX_KEY_BYTES``."""
    raw = letter.raw
    record = DeadLetterRecord(
        reason=letter.reason,
        path=letter.path[:_MAX_TEXT_CHARACTERS],
        message=letter.message[:_MAX_TEXT_CHARACTERS],
        source=DeadLetterSource(
            topic=letter.source,
            partition=partition,
            offset=letter.offset,
            timestamp_ms=timestamp_ms,
        ),
        raw=None if raw is None else b64encode(raw[:MAX_RAW_BYTES]).decode("ascii"),
        raw_size_bytes=0 if raw is None else len(raw),
        truncated=raw is not None and len(raw) > MAX_RAW_BYTES,
    )
    return OutboundMessage(
        topic=names.dead_letters(letter.source),
        key=None if key is None else key[:MAX_KEY_BYTES],
        value=msgspec.json.encode(record),
        headers=(
            ("content-type", b"application/json"),
            ("floodwatch-reason", letter.reason.encode()),
        ),
    )


def decode_dead_letter(value: bytes) -> DeadLetterRecord:
    """Read a dead letter. Raises msgspec.MsgspecError for anything else."""
    return msgspec.json.decode(value, type=DeadLetterRecord)


def raw_bytes(record: DeadLetterRecord) -> bytes | None:
    """The bytes of the record (its beginning, where ``truncated``); None for a tombstone."""
    return None if record.raw is None else b64decode(record.raw, validate=True)
