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
    from collections.abc import Collection, Mapping, Sequence

    import numpy.typing as npt

    Int64s = npt.NDArray[np.int64]

__all__ = ["Merged", "Merger"]

_NEVER_MS: Final = -(2**62)


@dataclass(frozen=True, slots=True)
class Merged:
    """Events in merged order. ``applied`` maps each source read so far to its next offset.

    ``in_order`` is False where the first of them should have gone before one taken earlier.
    """

    frame: pl.DataFrame | None
    applied: dict[str, int]
    in_order: bool


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
    taken_ms: int = _NEVER_MS
    next_offset: int | None = None
    waiting: int = 0
    segments: deque[_Segment] = field(default_factory=deque)

    def up_to(self, bound_ms: int, *, inclusive: bool) -> int:
        """How many waiting events may go, given the first key that may not."""
        first = bound_ms + 1 if inclusive else bound_ms
        return sum(int(np.searchsorted(segment.keys, first)) for segment in self.segments)

    def before(self, offset: int) -> int:
        """How many waiting events lie before ``offset``."""
        return sum(int(np.searchsorted(segment.offsets, offset)) for segment in self.segments)

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
            self.taken_ms = int(segment.keys[-1])
            count -= len(segment.keys)
        return frames

    @property
    def applied(self) -> int | None:
        return int(self.segments[0].offsets[0]) if self.segments else self.next_offset


class Merger:
    """Buffers frames of events by source and gives them out merged. Frames have equal columns."""

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources = {name: _Source() for name in sources}
        self._last: tuple[int, int] = (_NEVER_MS, 0)

    @property
    def taken_ms(self) -> dict[str, int]:
        """How far each source has come in event time, by what was taken of it."""
        return {n: s.taken_ms for n, s in self._sources.items() if s.taken_ms != _NEVER_MS}

    def start(self, position: Mapping[str, int], taken_ms: Mapping[str, int]) -> None:
        """Go on from ``position``, where another merger had given out ``taken_ms``."""
        for name, offset in position.items():
            self._sources[name].next_offset = offset
        for name, time_ms in taken_ms.items():
            self._sources[name].newest_ms = self._sources[name].taken_ms = time_ms

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

    def take(
        self, idle: Collection[str], limit: int, bound: Mapping[str, int] | None = None
    ) -> Merged:
        """Up to ``limit`` events that nothing still to come from a busy source can precede.

        With a ``bound`` nothing at or beyond it is taken, and a source is busy until it was
        pushed up to there, whatever ``idle`` says: however the sources arrive, what lies before
        the bound comes out as one merge.
        """
        if bound is None:
            counts = self._ready(idle)
        else:
            counts = self._ready(self._complete(bound))
            for name, count in counts.items():
                counts[name] = min(count, self._sources[name].before(bound.get(name, 0)))
        names = [name for name, count in counts.items() if count]
        frame: pl.DataFrame | None = None
        in_order = True
        if names:
            frame, first, last = self._merge(names, counts, limit)
            in_order = first >= self._last
            self._last = last
        return Merged(frame, self._applied(bound), in_order)

    def _applied(self, bound: Mapping[str, int] | None) -> dict[str, int]:
        """By source, where what was not taken begins; no further than the bound."""
        applied = {n: s.applied for n, s in self._sources.items() if s.applied is not None}
        if bound is None:
            return applied
        return {name: min(at, bound[name]) for name, at in applied.items() if name in bound}

    def _complete(self, bound: Mapping[str, int]) -> set[str]:
        """The sources that were pushed up to ``bound``."""
        return {
            name
            for name, source in self._sources.items()
            if name not in bound or (source.next_offset or 0) >= bound[name]
        }

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

    def _merge(
        self, names: list[str], counts: dict[str, int], limit: int
    ) -> tuple[pl.DataFrame, tuple[int, int], tuple[int, int]]:
        """At most ``limit`` events, and the time and source of the first and the last of them."""
        takes = {name: min(limit, counts[name]) for name in names}
        keys = np.concatenate([self._sources[name].keys(takes[name]) for name in names])
        order_of = list(self._sources)
        if len(names) == 1:
            source = order_of.index(names[0])
            frame = _concat(self._sources[names[0]].take(takes[names[0]]))
            return frame, (int(keys[0]), source), (int(keys[-1]), source)
        which = np.repeat(np.arange(len(names)), [takes[name] for name in names])
        order = np.argsort(keys, kind="stable")[:limit]
        used = np.bincount(which[order], minlength=len(names)).tolist()
        frames: list[pl.DataFrame] = []
        starts = np.zeros(len(names), dtype=np.int64)
        for index, name in enumerate(names):
            # What is used of a source is a prefix of it, so positions shift by what is left out.
            starts[index] = sum(takes[n] for n in names[:index]) - sum(used[:index])
            frames += self._sources[name].take(used[index])
        first, last = (
            (int(keys[at]), order_of.index(names[which[at]])) for at in (order[0], order[-1])
        )
        return _concat(frames)[order - starts[which[order]]], first, last


def _concat(frames: list[pl.DataFrame]) -> pl.DataFrame:
    return frames[0] if len(frames) == 1 else pl.concat(frames, rechunk=True)
