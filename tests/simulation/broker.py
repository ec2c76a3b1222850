"""The broker: logs, a compacted changelog, and what was published. It never crashes here.

It keeps what it acknowledged; what may be lost on the way to it is up to ``network``.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from faust.types import TP

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

__all__ = ["Broker", "Changelog", "InputLog", "Published", "Record"]


@dataclass(frozen=True, slots=True)
class Record:
    """A record of an input topic."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


@dataclass(slots=True)
class InputLog:
    """One partition of an input topic. Offsets have gaps, as markers of transactions leave them."""

    start: int
    end: int
    records: list[Record] = field(default_factory=list)

    def append(self, record: Record, end: int) -> None:
        """Add a record; offsets after it up to ``end`` are not records."""
        self.records.append(record)
        self.end = end

    def read(self, offset: int, limit: int) -> tuple[list[Record], int]:
        """At most ``limit`` records from ``offset`` on, and where to go on reading."""
        start = bisect_left(self.records, offset, key=lambda record: record.offset)
        found = self.records[start : start + limit]
        if start + limit >= len(self.records):
            return found, self.end
        return found, found[-1].offset + 1 if found else offset


@dataclass(slots=True)
class Changelog:
    """One partition of a compacted topic: (offset, key, value), a value of None is a tombstone."""

    entries: list[tuple[int, str, bytes | None]] = field(default_factory=list)
    end: int = 0

    def append(self, key: str, value: bytes | None) -> int:
        """Add a record; returns its offset."""
        self.entries.append((self.end, key, value))
        self.end += 1
        return self.end - 1

    def compact(self, rng: random.Random) -> None:
        """As the log cleaner: up to some offset keep the last record of a key.

        Tombstones that were the last of their key go too, sooner or later.
        """
        dirty_from = rng.randint(0, self.end)
        last = {key: offset for offset, key, _ in self.entries}
        self.entries = [
            (offset, key, value)
            for offset, key, value in self.entries
            if offset >= dirty_from
            or (last[key] == offset and (value is not None or rng.random() < 0.5))
        ]

    def read(self, offset: int) -> list[tuple[int, str, bytes | None]]:
        """What there is from ``offset`` on."""
        return self.entries[bisect_left(self.entries, offset, key=lambda entry: entry[0]) :]


@dataclass(frozen=True, slots=True)
class Published:
    """A message on an output topic, and the process that it came from."""

    topic: str
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    by: str


class Broker:
    """All topics of a run but for the changelogs, of which each stage has its own."""

    def __init__(self) -> None:
        self.inputs: dict[TP, InputLog] = {}
        self.published: list[Published] = []

    def ends(self, partition: int) -> Mapping[str, int]:
        """By input topic, the end of its ``partition``."""
        return {tp.topic: log.end for tp, log in self.inputs.items() if tp.partition == partition}

    def tell_next_stage(self, tp: TP, value: bytes, timestamp_ms: int) -> int:
        """Append what one stage says to another; returns its offset."""
        log = self.inputs[tp]
        log.append(Record(log.end, timestamp_ms, None, value), log.end + 1)
        return log.end - 1
