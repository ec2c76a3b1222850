"""The broker's own book of a consumer group: its generations and every commit, as it wrote them.

The group coordinator keeps both in the internal topic ``__consumer_offsets``. Reading it shows
what was committed when and how often the group rebalanced, without asking the worker anything.
The records' layout: group-coordinator/src/main/resources/common/message in Apache Kafka.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, TypeAlias

__all__ = ["TOPIC", "Commit", "Entry", "Generation", "decode_entry"]

TOPIC: Final = "__consumer_offsets"

_COMMIT_KEYS: Final = (0, 1)
_GROUP_KEY: Final = 2
_FLEXIBLE_COMMIT: Final = 4
"""From this version of the commit's value on strings are compact."""
_LEADER_EPOCH_SINCE: Final = 3


@dataclass(frozen=True, slots=True)
class Commit:
    """An offset that was committed, with its metadata, at ``at_s`` (the broker's Unix time)."""

    group: str
    topic: str
    partition: int
    offset: int
    metadata: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation of a group that came about: ``members`` is how many joined."""

    group: str
    number: int
    members: int
    at_s: float


Entry: TypeAlias = Commit | Generation


def decode_entry(key: bytes | None, value: bytes | None, timestamp_ms: int) -> Entry | None:
    """The entry of a record; None for tombstones and other kinds of records."""
    if key is None or value is None:
        return None
    at_s = timestamp_ms / 1000.0
    fields = _Reader(key)
    kind = fields.int16()
    if kind in _COMMIT_KEYS:
        group, topic, partition = fields.string(), fields.string(), fields.int32()
        fields = _Reader(value)
        version, offset = fields.int16(), fields.int64()
        if version >= _LEADER_EPOCH_SINCE:
            fields.int32()
        metadata = fields.compact_string() if version >= _FLEXIBLE_COMMIT else fields.string()
        return Commit(group, topic, partition, offset, metadata, at_s)
    if kind == _GROUP_KEY:
        return _generation(fields.string(), _Reader(value), at_s)
    return None


def _generation(group: str, fields: _Reader, at_s: float) -> Generation:
    version = fields.int16()
    fields.string()  # the type of the protocol
    number = fields.int32()
    fields.string()  # the protocol
    fields.string()  # the leader
    if version >= 2:
        fields.int64()  # when the group came into its present state
    return Generation(group, number, fields.int32(), at_s)


class _Reader:
    """Kafka's primitive types, one after the other; a null string reads as an empty one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def int16(self) -> int:
        return self._number(">h")

    def int32(self) -> int:
        return self._number(">i")

    def int64(self) -> int:
        return self._number(">q")

    def string(self) -> str:
        return self._text(self.int16())

    def compact_string(self) -> str:
        length = shift = 0
        while True:
            byte = self._number(">B")
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return self._text(length - 1)

    def _number(self, layout: str) -> int:
        (number,) = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return int(number)

    def _text(self, length: int) -> str:
        start = self._at
        self._at += max(length, 0)
        return self._data[start : self._at].decode()
