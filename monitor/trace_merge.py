"""Traces of several source partitions in one order, a function of the messages and nothing else.

Sources are merged by ``order_ms``, each source's running maximum of event times, so that the order
does not depend on who was faster. A trace waits until every source has come further than it. A
source that said it is idle, or of which nothing was heard yet, is waited for as well, but not
longer than ``HOLD_MS`` by the clock of the log: after a pause all sources wake up, one before the
other. When all are idle, nothing waits. What a source says again after a crash is dropped trace by
trace; a stretch that never came is noticed.
"""

from __future__ import annotations

import io
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from detectors.state import StateBlock, json_array, json_value
from detectors.state.blocks import checked_array
from detectors.traces import SEGMENTS
from monitor.checkpoint.codec import generation_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from monitor.trace_messages import TraceMessage

__all__ = ["HOLD_MS", "TraceMerge"]

_log = logging.getLogger(__name__)

HOLD_MS: Final = 15_000
"""How long a trace may wait for sources that are idle, or that nothing was heard of."""

_OWN: Final = ("source", "received_ms")
_MAX_WAITING: Final = 200_000
_UNKNOWN: Final = 255
"""The number of a key space that is not known here; a pack has at most 64."""


@dataclass(slots=True)
class _Source:
    """How far a source partition has come: its next trace, its newest event time."""

    lineage: str
    next: int
    newest_ms: int
    idle: bool


class TraceMerge:
    """Buffers traces by source and gives them out merged.

    ``schema`` is what the stage reads, ``spaces`` its key spaces in their order: what a sender with
    another pack does not send is null, keys of spaces that are unknown here are left out.
    ``repeated`` and ``missing`` count traces of all targets that came twice or not at all,
    ``forced`` those given out early since too many were waiting.
    """

    name: Final = "sources"
    """What the block of its state is called."""

    def __init__(self, schema: Mapping[str, pl.DataType], spaces: Sequence[str]) -> None:
        self._schema = dict(schema)
        self._spaces = tuple(spaces)
        self._sources: dict[int, _Source] = {}
        self._waiting: list[pl.DataFrame] = []
        self._rows = 0
        self._least_ms = 0
        self._of = 0
        self._now_ms = 0
        self.repeated = self.missing = self.forced = 0

    def add(self, message: TraceMessage, received_ms: int) -> None:
        """Take a message in that the log received then; traces that are known are left out."""
        self._now_ms = max(self._now_ms, received_ms)
        self._of = message.sources
        source = self._source(message)
        if source is None:
            self.repeated += message.end - message.start
            return
        self.repeated += max(0, min(message.end, source.next) - message.start)
        if message.start > source.next:
            self.missing += message.start - source.next
            _log.error(
                "source partition %d: traces %d to %d never came",
                message.source,
                source.next,
                message.start,
            )
        if message.frame is not None:
            frame = message.frame.filter(pl.col("ordinal") >= source.next)
            if len(frame):
                own = (
                    pl.lit(message.source, dtype=pl.Int32).alias("source"),
                    pl.lit(self._now_ms, dtype=pl.Int64).alias("received_ms"),
                )
                self._wait(frame.with_columns(own), message.spaces)
        if message.end >= source.next:
            source.next = message.end
            source.newest_ms = max(source.newest_ms, message.newest_ms)
            source.idle = message.idle

    def take(self) -> pl.DataFrame | None:
        """All traces that nothing still to come can precede, in order; None if there are none."""
        if not self._waiting:
            return None
        busy = [source.newest_ms for source in self._sources.values() if not source.idle]
        if busy and self._rows <= _MAX_WAITING and self._least_ms >= min(busy):
            return None  # without looking at all that waits, for every message
        together = self._waiting[0] if len(self._waiting) == 1 else pl.concat(self._waiting)
        ready = np.ones(len(together), dtype=np.bool_)
        if self._rows > _MAX_WAITING:
            self.forced += self._rows
        else:
            if busy:
                ready = together["order_ms"].to_numpy() < min(busy)
            unheard = len(self._sources) < self._of
            if unheard or 0 < len(busy) < len(self._sources):
                ready &= together["received_ms"].to_numpy() <= self._now_ms - HOLD_MS
        out, rest = np.flatnonzero(ready), np.flatnonzero(~ready)
        self._waiting = [together[rest]] if len(rest) else []
        self._rows = len(rest)
        self._note_least()
        if not len(out):
            return None
        order = np.lexsort(
            [together[name].to_numpy()[out] for name in ("ordinal", "source", "order_ms")]
        )
        return together[out[order]].drop("source", "received_ms")

    @property
    def newest_ms(self) -> int:
        """How far all sources have come: nothing from before that is still to come."""
        busy = [source.newest_ms for source in self._sources.values() if not source.idle]
        waiting = [int(frame["order_ms"].min()) for frame in self._waiting]  # type: ignore[arg-type]
        newest = max((source.newest_ms for source in self._sources.values()), default=0)
        return min([*busy, *waiting], default=newest)

    @property
    def idle(self) -> bool:
        """Whether every source has said that nothing more comes for the moment."""
        return not self._rows and all(source.idle for source in self._sources.values())

    @property
    def waiting(self) -> int:
        """Traces that wait."""
        return self._rows

    def block(self) -> StateBlock:
        """The state."""
        state = {
            "sources": {str(n): asdict(source) for n, source in sorted(self._sources.items())},
            "spaces": self._spaces,
            "counts": [self.repeated, self.missing, self.forced],
            "clock": [self._of, self._now_ms],
        }
        buffer = io.BytesIO()
        if self._waiting:
            pl.concat(self._waiting, rechunk=True).write_ipc_stream(buffer)
        rows = np.frombuffer(buffer.getvalue(), dtype=np.uint8).copy()
        return StateBlock(self.name, {"json": json_array(state), "waiting": rows})

    def restore(self, block: StateBlock) -> None:
        """Go on from a state. Raises StateError."""
        state: dict[str, Any] = json_value(block, "json")
        self._sources = {int(n): _Source(**source) for n, source in state["sources"].items()}
        self.repeated, self.missing, self.forced = state["counts"]
        self._of, self._now_ms = state["clock"]
        rows = checked_array(block, "waiting", np.dtype(np.uint8), None)
        if len(rows):
            self._wait(pl.read_ipc_stream(io.BytesIO(rows.tobytes())), state["spaces"])

    def _source(self, message: TraceMessage) -> _Source | None:
        """What is known of the message's source; None if the message is of a run that is over."""
        source = self._sources.get(message.source)
        if source is not None and source.lineage == message.lineage:
            return source
        if source is not None:
            if generation_of(message.lineage) < generation_of(source.lineage):
                return None
            _log.warning("source partition %d starts anew, without state", message.source)
        first = message.start if source is None else 0
        source = _Source(message.lineage, first, message.newest_ms, idle=False)
        self._sources[message.source] = source
        return source

    def _note_least(self) -> None:
        """How early the first of those is that wait; each source's traces ascend."""
        firsts = (int(frame["order_ms"].to_numpy().min()) for frame in self._waiting)
        self._least_ms = min(firsts, default=0)

    def _wait(self, frame: pl.DataFrame, spaces: Sequence[str]) -> None:
        """Keep traces, with the columns and the numbers of key spaces that the stage here knows."""
        if tuple(spaces) != self._spaces:
            known = {space: number + 1 for number, space in enumerate(self._spaces)}
            numbers = [SEGMENTS, *(known.get(space, _UNKNOWN) for space in spaces)]
            renumbered = np.array(numbers, dtype=np.uint8)[frame["space"].to_numpy()]
            frame = frame.with_columns(pl.Series("space", renumbered))
            frame = frame.filter(pl.col("space") != _UNKNOWN)
        if len(frame):
            columns = [_column(frame, name, dtype) for name, dtype in self._schema.items()]
            self._waiting.append(frame.select(*_OWN, *columns))
            first_ms = int(frame["order_ms"].to_numpy().min())
            self._least_ms = min(self._least_ms, first_ms) if self._rows else first_ms
            self._rows += len(frame)


def _column(frame: pl.DataFrame, name: str, dtype: pl.DataType) -> pl.Expr:
    """A column of this type: null where ``frame`` has none of the name that could be it."""
    found = frame.schema.get(name)
    if found == dtype:
        return pl.col(name)
    if found is not None and found.is_numeric() and dtype.is_numeric():
        return pl.col(name).cast(dtype, strict=False)
    return pl.lit(None, dtype).alias(name)
