"""Watches a consumer group from outside: its commits, its generations, what it publishes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.chaos.coordinator import TOPIC, Commit, Generation, decode_entry

__all__ = ["Mark", "Watcher"]

_POLL_MS: Final = 100
_UNDER_WAY_S: Final = 0.25
"""What was sent before a kill is with the broker by then."""


@dataclass(slots=True)
class Mark:
    """A moment, and when each partition first moved on after it (seconds since the moment)."""

    at_s: float
    partitions: int
    moved_after_s: dict[int, float] = field(default_factory=dict)

    @property
    def resumed_after_s(self) -> float | None:
        """When the last of the partitions moved on; None while one has not."""
        if len(self.moved_after_s) < self.partitions:
            return None
        return max(self.moved_after_s.values())

    def note(self, partition: int, at_s: float) -> None:
        """A partition moved on at ``at_s``."""
        if at_s > self.at_s + _UNDER_WAY_S:
            self.moved_after_s.setdefault(partition, at_s - self.at_s)


class Watcher:
    """Follows the group's entries in the coordinator's topic, and topics that it publishes to.

    A partition *moves on* when a commit for it differs from the one before, or when something is
    published on the partition of that number of ``published``, topics that are keyed as the
    input is and have as many partitions.
    """

    def __init__(
        self, bootstrap: str, group: str, published: Sequence[str] = (), partitions: int = 0
    ) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._published = tuple(published)
        self._partitions = partitions
        self._marks: list[Mark] = []
        self._newest: dict[tuple[str, int], tuple[int, str]] = {}
        self.generations: list[Generation] = []
        self.commits = 0

    @property
    def members(self) -> int:
        """Of the newest generation."""
        return self.generations[-1].members if self.generations else 0

    @property
    def generation(self) -> int:
        """The newest one; 0 before there is any."""
        return self.generations[-1].number if self.generations else 0

    @property
    def rebalances(self) -> int:
        """Generations that came about with members in them, but for the first."""
        numbers = {entry.number for entry in self.generations if entry.members}
        return max(0, len(numbers) - 1)

    def committed(self, topics: Collection[str]) -> int:
        """The sum of the newest offsets of ``topics``."""
        return sum(at for (topic, _), (at, _) in self._newest.copy().items() if topic in topics)

    def mark(self, at_s: float) -> Mark:
        """A new mark. ``at_s`` is a Unix time not long ago."""
        mark = Mark(at_s, self._partitions)
        self._marks.append(mark)
        return mark

    async def run(self, internal_partitions: int) -> None:
        """Follow until cancelled."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            internal = [TopicPartition(TOPIC, n) for n in range(internal_partitions)]
            own = [TopicPartition(t, n) for t in self._published for n in range(self._partitions)]
            consumer.assign([*internal, *own])
            while True:
                fetched = await consumer.getmany(timeout_ms=_POLL_MS)
                for tp, records in fetched.items():
                    self._take(tp.topic, tp.partition, records)
        finally:
            await consumer.stop()

    def _take(self, topic: str, partition: int, records: Sequence[Any]) -> None:
        if topic != TOPIC:
            for record in records:
                self._note(partition, record.timestamp / 1000.0)
            return
        for record in records:
            entry = decode_entry(record.key, record.value, record.timestamp)
            if entry is None or entry.group != self._group:
                continue
            if isinstance(entry, Generation):
                self.generations.append(entry)
            else:
                self._commit(entry)

    def _commit(self, entry: Commit) -> None:
        tp = (entry.topic, entry.partition)
        before = self._newest.get(tp)
        self._newest[tp] = (entry.offset, entry.metadata)
        self.commits += 1
        if before != self._newest[tp]:
            self._note(entry.partition, entry.at_s)

    def _note(self, partition: int, at_s: float) -> None:
        for mark in self._marks:
            if mark.resumed_after_s is None:
                mark.note(partition, at_s)
