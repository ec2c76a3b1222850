"""Several sources merged by event time, the same way whenever and however they arrive.

Within a source the order of the log is kept, also for late events: a source advances by the
running maximum of its event times. Between sources the smaller time goes first, ties by the order
in which the sources were named. While a source has nothing buffered it holds the others back,
unless the caller calls it idle (Kafka Streams: ``max.task.idle.ms``).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy.typing as npt

    Int64s = npt.NDArray[np.int64]

__all__ = ["Merged", "Merger"]

_NEVER_MS: Final = -(2**62)


@dataclass(frozen=True, slots=True)
class Merged:
    """Events in merged order. ``applied`` maps each source read so far to its next offset."""

    frame: pl.DataFrame | None
    applied: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Segment:
    frame: pl.DataFrame
    keys: Int64s  # running maximum of the source's times
    offsets: Int64s

    def cut(self, count: int) -> tuple[_Segment, _Segment]:
        return (
            _Segment(self.frame[:count], self.keys[:count], self.offsets[:count]),
            _Segment(self.frame[count:], self.keys[count:], self.offsets[count:]),
        )


@dataclass(slots=True)
class _Source:
    newest_ms: int = _NEVER_MS
    next_offset: int | None = None
    waiting: int = 0
    segments: deque[_Segment] = field(default_factory=deque)

    def up_to(self, bound_ms: int, *, inclusive: bool) -> int:
        """How many waiting events may go, given the first key that may not."""
        first = bound_ms + 1 if inclusive else bound_ms
        return sum(int(np.searchsorted(segment.keys, first)) for segment in self.segments)

    def keys(self, count: int) -> Int64s:
        parts = [segment.keys for segment in self.segments]
        return np.concatenate(parts)[:count] if parts else np.zeros(0, dtype=np.int64)

    def take(self, count: int) -> list[pl.DataFrame]:
        self.waiting -= count
        frames: list[pl.DataFrame] = []
        while count > 0:
            segment = self.segments.popleft()
            if len(segment.keys) > count:
                segment, rest = segment.cut(count)
                self.segments.appendleft(rest)
            frames.append(segment.frame)
            count -= len(segment.keys)
        return frames

    @property
    def applied(self) -> int | None:
        return int(self.segments[0].offsets[0]) if self.segments else self.next_offset


class Merger:
    """Buffers frames of events by source and gives them out merged. Frames have equal columns."""

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources = {name: _Source() for name in sources}

    def waiting(self, source: str) -> int:
        """Events of ``source`` that are buffered."""
        return self._sources[source].waiting

    def push(self, source: str, frame: pl.DataFrame, offsets: Int64s, next_offset: int) -> None:
        """Buffer n events of ``source``; ``next_offset`` is where its reading goes on."""
        buffer = self._sources[source]
        buffer.next_offset = next_offset
        if not len(frame):
            return
        times_ms = np.maximum(frame["time_ms"].to_numpy(), buffer.newest_ms)
        keys = np.maximum.accumulate(times_ms)
        buffer.newest_ms = int(keys[-1])
        buffer.waiting += len(frame)
        buffer.segments.append(_Segment(frame, keys, offsets))

    def take(self, idle: Collection[str], limit: int) -> Merged:
        """Up to ``limit`` events that nothing still to come from a busy source can precede."""
        counts = self._ready(idle)
        names = [name for name, count in counts.items() if count]
        frame: pl.DataFrame | None = None
        if len(names) == 1:
            frame = _concat(self._sources[names[0]].take(min(limit, counts[names[0]])))
        elif names:
            frame = self._merge(names, counts, limit)
        applied = {name: source.applied for name, source in self._sources.items()}
        return Merged(frame, {name: at for name, at in applied.items() if at is not None})

    def _ready(self, idle: Collection[str]) -> dict[str, int]:
        """How many events of each source may go now."""
        busy = [(n, s) for n, s in self._sources.items() if n not in idle]
        if any(not source.waiting for _, source in busy):
            return {}
        order = {name: index for index, name in enumerate(self._sources)}
        ready: dict[str, int] = {}
        for name, source in self._sources.items():
            count = source.waiting
            for other, buffer in busy:
                if other != name:
                    first = order[name] < order[other]
                    count = min(count, source.up_to(buffer.newest_ms, inclusive=first))
            ready[name] = count
        return ready

    def _merge(self, names: list[str], counts: dict[str, int], limit: int) -> pl.DataFrame:
        takes = {name: min(limit, counts[name]) for name in names}
        keys = np.concatenate([self._sources[name].keys(takes[name]) for name in names])
        which = np.repeat(np.arange(len(names)), [takes[name] for name in names])
        order = np.argsort(keys, kind="stable")[:limit]
        used = np.bincount(which[order], minlength=len(names)).tolist()
        frames: list[pl.DataFrame] = []
        starts = np.zeros(len(names), dtype=np.int64)
        for index, name in enumerate(names):
            # What is used of a source is a prefix of it, so positions shift by what is left out.
            starts[index] = sum(takes[n] for n in names[:index]) - sum(used[:index])
            frames += self._sources[name].take(used[index])
        return _concat(frames)[order - starts[which[order]]]


def _concat(frames: list[pl.DataFrame]) -> pl.DataFrame:
    return frames[0] if len(frames) == 1 else pl.concat(frames, rechunk=True)
