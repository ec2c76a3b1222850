"""What a partition task knows of one of its sources: what came, what waits, what is done."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from faust.types import TP

    from monitor.kafka.chunks import Chunk

__all__ = ["Origin", "SourceBuffer"]


@dataclass(frozen=True, slots=True)
class Origin:
    """What a record brought besides its value: for its dead letter."""

    timestamp_ms: int
    key: bytes | None


@dataclass(slots=True)
class SourceBuffer:
    """One input partition of a task: chunks not yet decoded, and how far it has come.

    ``received_to`` and ``applied_to`` are next offsets, None before the first chunk.
    ``arrived_s`` is the clock's time of the newest chunk, or of the beginning.
    """

    tp: TP
    arrived_s: float
    received_to: int | None = None
    applied_to: int | None = None
    held: bool = False
    inbox: deque[Chunk] = field(default_factory=deque)
    inbox_records: int = 0
    _unapplied: deque[tuple[float, Chunk]] = field(default_factory=deque)

    def start(self, next_offset: int) -> None:
        """Everything below ``next_offset`` was done before."""
        self.received_to = self.applied_to = next_offset

    def misses_before(self, chunk: Chunk) -> bool:
        """Whether records between this chunk and the last were fetched but never arrived.

        The first chunk of a generation begins where the consumer stood, which should be where the
        state was restored. Read again from there it says what it follows, gap or not.
        """
        if chunk.follows is None:
            return self.received_to is not None and self.received_to < chunk.first_offset
        return self.received_to is None or self.received_to < chunk.follows

    def receive(self, chunk: Chunk, now_s: float) -> None:
        """Take a chunk; records that came before are left out.

        Raises ValueError when it ``misses_before`` the chunk: its records would be skipped.
        """
        if self.misses_before(chunk):
            raise ValueError(
                f"{self.tp.topic}[{self.tp.partition}]: the chunk follows {chunk.follows}, "
                f"received was up to {self.received_to}"
            )
        fresh = chunk if self.received_to is None else chunk.from_offset(self.received_to)
        self.received_to = max(chunk.next_offset, self.received_to or 0)
        self.arrived_s = now_s
        if fresh is not None:
            if self.applied_to is None:
                self.applied_to = fresh.first_offset
            self.inbox.append(fresh)
            self.inbox_records += len(fresh)
            self._unapplied.append((now_s, fresh))

    def take(self) -> Chunk:
        """The oldest chunk not yet taken. Raises IndexError if there is none."""
        chunk = self.inbox.popleft()
        self.inbox_records -= len(chunk)
        return chunk

    def applied(self, next_offset: int) -> bool:
        """Note that everything below ``next_offset`` is done; whether that is news."""
        if self.applied_to is not None and next_offset <= self.applied_to:
            return False
        self.applied_to = next_offset
        while self._unapplied and self._unapplied[0][1].last_offset < next_offset:
            self._unapplied.popleft()
        return True

    def received_ms(self, next_offset: int) -> list[int]:
        """When the log received what is not done and lies below ``next_offset``, -1: unknown."""
        found: list[int] = []
        for _, chunk in self._unapplied:
            columns = chunk.columns
            start = bisect_left(columns.offsets, self.applied_to or 0)
            stop = bisect_left(columns.offsets, next_offset)
            found += columns.timestamps_ms[start:stop]
            if stop < len(columns.offsets):
                break
        return found

    def waits_since_s(self) -> float | None:
        """When the oldest chunk that is not done arrived; None if all are done."""
        return self._unapplied[0][0] if self._unapplied else None

    def origin(self, offset: int) -> Origin:
        """Where the record at ``offset`` came from; call it before ``applied`` passes it.

        Raises KeyError for an offset that is not waiting.
        """
        for _, chunk in self._unapplied:
            if offset <= chunk.last_offset:
                columns = chunk.columns
                index = bisect_left(columns.offsets, offset)
                if columns.offsets[index] == offset:
                    return Origin(columns.timestamps_ms[index], columns.keys[index])
                break
        raise KeyError(f"{self.tp.topic}[{self.tp.partition}] offset {offset}")
