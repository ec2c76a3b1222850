"""A chunk: the records of one partition that came out of one fetch, in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Chunk", "Columns", "PartitionPosition", "split_columns"]


@dataclass(frozen=True, slots=True)
class PartitionPosition:
    """Where reading stands: the next offset to fetch and the partition's end, as last told.

    ``end`` is None until the broker has answered a fetch of this partition.
    """

    next_offset: int
    end: int | None

    @property
    def caught_up(self) -> bool:
        """Whether everything the broker told us of has been fetched."""
        return self.end is not None and self.next_offset >= self.end


@dataclass(frozen=True, slots=True)
class Columns:
    """Records as parallel lists, in offset order (with gaps: compaction, markers).

    Timestamps are milliseconds since the Unix epoch, -1 where the record has none.
    """

    offsets: list[int] = field(default_factory=list)
    timestamps_ms: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.offsets)

    def part(self, start: int, stop: int) -> Columns:
        """The records at positions ``start`` to ``stop``, without the latter."""
        if start == 0 and stop == len(self):
            return self
        return Columns(
            self.offsets[start:stop],
            self.timestamps_ms[start:stop],
            self.keys[start:stop],
            self.values[start:stop],
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records of one partition, never empty.

    ``generation`` is the consumer group's generation in which the chunk was fetched.
    ``follows`` is the ``next_offset`` of the chunk before it in that generation, None for the
    first one: whoever receives chunks can prove that none is missing.
    """

    topic: str
    partition: int
    generation: int
    follows: int | None
    next_offset: int
    columns: Columns

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def first_offset(self) -> int:
        """The offset of the first record."""
        return self.columns.offsets[0]

    @property
    def last_offset(self) -> int:
        """The offset of the last record."""
        return self.columns.offsets[-1]

    def from_offset(self, offset: int) -> Chunk | None:
        """The part of the chunk at or after ``offset``; None if there is none."""
        if self.first_offset >= offset:
            return self
        if self.last_offset < offset:
            return None
        start = next(i for i, own in enumerate(self.columns.offsets) if own >= offset)
        part = self.columns.part(start, len(self))
        return Chunk(
            self.topic, self.partition, self.generation, self.follows, self.next_offset, part
        )


def split_columns(
    columns: Columns,
    *,
    topic: str,
    partition: int,
    generation: int,
    follows: int | None,
    next_offset: int,
    max_records: int,
) -> Iterator[Chunk]:
    """Cut the records of one fetch of one partition into chunks of at most ``max_records``.

    ``next_offset`` is where the fetch ended: beyond the last record if markers follow it.
    """
    cuts = [*range(0, len(columns), max_records), len(columns)]
    for start, stop in pairwise(cuts):
        part = columns.part(start, stop)
        end = next_offset if stop == len(columns) else part.offsets[-1] + 1
        yield Chunk(topic, partition, generation, follows, end, part)
        follows = end
