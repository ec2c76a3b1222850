"""Traces of several source partitions in one order, a function of the messages and nothing else.

Sources are merged by ``order_ms``, each source's running maximum of event times, so that the order
does not depend on who was faster. A trace waits until every source has come further than it. A
source that said it is idle, or of which nothing was heard yet, is waited for as well, but not
longer than ``HOLD_MS`` by the clock of the log: after a pause all sources wake up, one before the
other. When all are idle, nothing waits that is as young as that: others would have something as
young only now. What is older is from a backlog, of which others may have their part still to read.
What a source says again after a crash is dropped trace by trace; a stretch that never came is
noticed.
"""

from __future__ import annotations

import io
import logging
from collections import deque
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

    import numpy.typing as npt

    from monitor.trace_messages import TraceMessage

__all__ = ["HOLD_MS", "TraceMerge"]

_log = logging.getLogger(__name__)

HOLD_MS: Final = 15_000
"""How long a trace may wait for sources that are idle, or that nothing was heard of."""

_FAR_MS: Final = 2**62
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


@dataclass(slots=True)
class _Piece:
    """Traces of one message that wait, ascending by ``order_ms``; the first ``out`` are given out.

    ``received_ms`` is when the log received them.
    """

    frame: pl.DataFrame
    order_ms: npt.NDArray[np.int64]
    received_ms: int
    out: int = 0


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
        self._waiting: dict[int, deque[_Piece]] = {}
        self._rows = 0
        self._ready: list[pl.DataFrame] = []
        self._ready_times_ms: list[npt.NDArray[np.int64]] = []
        self._ready_after: list[int] = []
        self._messages = self.ready = 0
        self._of = 0
        self._now_ms = 0
        self.repeated = self.missing = self.forced = 0

    def add(self, message: TraceMessage, received_ms: int) -> None:
        """Take a message in that the log received then; traces that are known are left out.

        What nothing still to come can precede is then ``ready`` to be taken: so many traces.
        """
        self._now_ms = max(self._now_ms, received_ms)
        self._of = message.sources
        source = self._source(message)
        if source is None:
            self.repeated += message.end - message.start
        else:
            self._add(message, source)
        self._release()

    def take(self) -> pl.DataFrame | None:
        """The traces that are ready, in order; None if there are none.

        In order are those that one message made ready, and after them those of the next.
        """
        if not self._ready:
            return None
        frame = self._ready[0]
        if len(self._ready) > 1:
            frame = pl.concat(self._ready, rechunk=True)
            counts = [len(times_ms) for times_ms in self._ready_times_ms]
            after = np.repeat(self._ready_after, counts)
            # Stable: sources are in their order already, and so are the traces of each.
            order = np.lexsort((np.concatenate(self._ready_times_ms), after))
            if (order[1:] < order[:-1]).any():
                frame = frame[order]
        self._ready, self._ready_times_ms, self._ready_after = [], [], []
        self.ready = 0
        return frame

    @property
    def newest_ms(self) -> int:
        """How far all sources have come: nothing from before that is still to come."""
        busy = [source.newest_ms for source in self._sources.values() if not source.idle]
        waiting = [
            int(pieces[0].order_ms[pieces[0].out]) for pieces in self._waiting.values() if pieces
        ]
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
        assert not self.ready, "what is ready is taken before"
        buffer = io.BytesIO()
        if self._rows:
            waiting = [
                piece.frame[piece.out :].with_columns(
                    pl.lit(source, dtype=pl.Int32).alias("source"),
                    pl.lit(piece.received_ms, dtype=pl.Int64).alias("received_ms"),
                )
                for source, pieces in sorted(self._waiting.items())
                for piece in pieces
            ]
            pl.concat(waiting, rechunk=True).write_ipc_stream(buffer)
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
            waiting = pl.read_ipc_stream(io.BytesIO(rows.tobytes()))
            pieces = waiting.partition_by("source", "received_ms", as_dict=True)
            for (source, received_ms), frame in pieces.items():
                self._wait(source, received_ms, frame, state["spaces"])

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

    def _add(self, message: TraceMessage, source: _Source) -> None:
        self.repeated += max(0, min(message.end, source.next) - message.start)
        if message.start > source.next:
            self.missing += message.start - source.next
            _log.error(
                "source partition %d: traces %d to %d never came",
                message.source,
                source.next,
                message.start,
            )
        frame = message.frame
        if frame is not None and message.start < source.next:
            frame = frame.filter(pl.col("ordinal") >= source.next)
        if frame is not None and len(frame):
            self._wait(message.source, self._now_ms, frame, message.spaces)
        if message.end >= source.next:
            source.next = message.end
            source.newest_ms = max(source.newest_ms, message.newest_ms)
            source.idle = message.idle

    def _wait(
        self, source: int, received_ms: int, frame: pl.DataFrame, spaces: Sequence[str]
    ) -> None:
        """Keep traces, with the columns and the numbers of key spaces that the stage here knows."""
        if tuple(spaces) != self._spaces:
            known = {space: number + 1 for number, space in enumerate(self._spaces)}
            numbers = [SEGMENTS, *(known.get(space, _UNKNOWN) for space in spaces)]
            renumbered = np.array(numbers, dtype=np.uint8)[frame["space"].to_numpy()]
            frame = frame.with_columns(pl.Series("space", renumbered))
            frame = frame.filter(pl.col("space") != _UNKNOWN)
        if frame.schema != self._schema:
            columns = [_column(frame, name, dtype) for name, dtype in self._schema.items()]
            frame = frame.select(columns)
        if len(frame):
            piece = _Piece(frame, frame["order_ms"].to_numpy(), received_ms)
            self._waiting.setdefault(source, deque()).append(piece)
            self._rows += len(frame)

    def _release(self) -> None:
        """Make ready what nothing still to come can precede, or what has waited long enough."""
        if not self._rows:
            return
        before_ms, received_ms = self._bounds()
        self._messages += 1
        for _, pieces in sorted(self._waiting.items()):
            while pieces and pieces[0].received_ms <= received_ms:
                piece = pieces[0]
                end = int(np.searchsorted(piece.order_ms, before_ms))
                if end > piece.out:
                    self._ready.append(piece.frame[piece.out : end])
                    self._ready_times_ms.append(piece.order_ms[piece.out : end])
                    self._ready_after.append(self._messages)
                    self.ready += end - piece.out
                    self._rows -= end - piece.out
                    piece.out = end
                if piece.out < len(piece.order_ms):
                    break
                pieces.popleft()

    def _bounds(self) -> tuple[int, int]:
        """Which traces are ready: those from before the one, received up to the other."""
        if self._rows > _MAX_WAITING:
            self.forced += self._rows
            return _FAR_MS, _FAR_MS
        busy = [source.newest_ms for source in self._sources.values() if not source.idle]
        unheard = len(self._sources) < self._of
        some_idle = len(busy) < len(self._sources)
        waits = unheard or (some_idle and (bool(busy) or self._behind()))
        return min(busy, default=_FAR_MS), self._now_ms - HOLD_MS if waits else _FAR_MS

    def _behind(self) -> bool:
        """Whether what waits is from a backlog, old when the log received it, and others exist."""
        if self._of < 2:
            return False
        first = (pieces[0] for pieces in self._waiting.values() if pieces)
        return any(piece.received_ms - int(piece.order_ms[piece.out]) > HOLD_MS for piece in first)


def _column(frame: pl.DataFrame, name: str, dtype: pl.DataType) -> pl.Expr:
    """A column of this type: null where ``frame`` has none of the name that could be it."""
    found = frame.schema.get(name)
    if found == dtype:
        return pl.col(name)
    if found is not None and found.is_numeric() and dtype.is_numeric():
        return pl.col(name).cast(dtype, strict=False)
    return pl.lit(None, dtype).alias(name)
