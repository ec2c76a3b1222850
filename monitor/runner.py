"""The in-process runner: the topology over any sources, without a broker.

The same decoder, merge and stages as the Kafka worker, so the same records give the same outputs.
Events are merged first and then divided among partitions by user; the outputs do not depend on
how many partitions there are (unless a partition runs full and evicts). What they say of shared
keys goes to one stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from detectors.batch import EventBatch
from detectors.keys import hash_strings
from monitor.merge import Merger
from monitor.pipeline import PipelineResult
from monitor.wire import DeadLetter, Decoder
from monitor.wire.checks import CHECKED_COLUMNS, Checks

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy.typing as npt

    from detectors.stages import StageOutputs
    from detectors.topology import Topology

__all__ = ["Runner"]

_BATCH_EVENTS: Final = 16_000


class Runner:
    """Runs ``partitions`` partitions of a topology over named sources.

    Push records or frames, then ``run``; a source holds the others back until it has something
    buffered or was ended, as its events may come first.
    """

    def __init__(self, topology: Topology, sources: Sequence[str], partitions: int = 1) -> None:
        self.topology = topology
        self.stages = [topology.user_stage() for _ in range(partitions)]
        for stage in self.stages:
            stage.use_models(topology.models.current.name)
        self.shared = topology.shared_stage()
        self.groups = topology.group_stage()
        self._sources = tuple(sources)
        self._merger = Merger(sources)
        self._decoder = Decoder(topology.pack.event_columns)
        self._checks = Checks(self.columns)
        self._ended: set[str] = set()
        self._next_offset = dict.fromkeys(sources, 0)
        self._dead: list[DeadLetter] = []

    @property
    def columns(self) -> frozenset[str]:
        """The event columns that pushed frames must have; others are not needed."""
        return self.topology.pack.event_columns | CHECKED_COLUMNS

    def push_records(
        self, source: str, values: Sequence[bytes | None], received_ms: int | Sequence[int]
    ) -> None:
        """Buffer JSON records of ``source``. ``received_ms`` is when the log received them."""
        start = self._next_offset[source]
        offsets = range(start, start + len(values))
        times = [received_ms] * len(values) if isinstance(received_ms, int) else received_ms
        decoded = self._decoder.decode(source, values, offsets, times)
        self._dead += decoded.dead
        self._push(source, decoded.frame, decoded.positions + start, start + len(values))

    def push_frame(self, source: str, frame: pl.DataFrame, received_ms: int) -> None:
        """Buffer events of ``source`` given as columns (``self.columns``); absurd ones are refused.

        A dead letter of such an event has no raw bytes, its offset is the row.
        """
        start = self._next_offset[source]
        bad = self._checks.refusals(frame, np.full(len(frame), received_ms, dtype=np.int64))
        for row, refusal in sorted(bad.items()):
            self._dead.append(
                DeadLetter(
                    source, row, start + row, refusal.reason, refusal.path, refusal.message, None
                )
            )
        rows = np.arange(len(frame), dtype=np.int64)
        if bad:
            rows = np.delete(rows, list(bad))
            frame = frame[rows]
        self._push(source, frame, rows + start, start + len(rows) + len(bad))

    def end(self, source: str) -> None:
        """Nothing more will come from ``source``."""
        self._ended.add(source)

    def waiting(self, source: str) -> int:
        """Events of ``source`` that wait to be merged."""
        return self._merger.waiting(source)

    def run(self, *, idle: Collection[str] = ()) -> PipelineResult:
        """Apply everything that can go; ``idle`` sources do not hold the others back."""
        result = PipelineResult(dead_letters=self._dead)
        self._dead = []
        while True:
            merged = self._merger.take(self._ended | set(idle), _BATCH_EVENTS)
            result.applied = merged.applied
            if merged.frame is None:
                return result
            self._apply(merged.frame, result)

    def advance(self, watermark_ms: int) -> PipelineResult:
        """Let event time pass without events: closes incidents that are due."""
        result = PipelineResult(watermark_ms=watermark_ms)
        for stage in self.stages:
            self._note(result, stage.advance(watermark_ms))
        for later in (self.shared, self.groups):
            if later is not None:
                self._note(result, later.advance(watermark_ms))
        return result

    def _push(
        self, source: str, frame: pl.DataFrame, offsets: npt.NDArray[np.int64], next_offset: int
    ) -> None:
        self._next_offset[source] = next_offset
        self._merger.push(source, frame, offsets, next_offset)

    def _apply(self, frame: pl.DataFrame, result: PipelineResult) -> None:
        batch = EventBatch.of(frame)
        traces: list[pl.DataFrame] = []
        if len(self.stages) == 1:
            traces += self._note(result, self.stages[0].process(batch))
        else:
            partition_of = hash_strings(batch.keys) % np.uint64(len(self.stages))
            for partition, stage in enumerate(self.stages):
                rows = np.flatnonzero(partition_of == partition)
                if len(rows):
                    traces += self._note(result, stage.process(EventBatch.of(frame[rows])))
        if self.shared is not None and traces:
            together = traces[0]
            if len(traces) > 1:
                together = pl.concat(traces).sort("order_ms", maintain_order=True).rechunk()
            shared = self.shared.process(together)
            self._note(result, shared)
            if self.groups is not None and shared.meetings is not None:
                self._note(result, self.groups.process(shared.meetings))
        newest_ms = max(stage.watermark_ms for stage in self.stages)
        result.watermark_ms = max(newest_ms, result.watermark_ms or newest_ms)

    @staticmethod
    def _note(result: PipelineResult, outputs: StageOutputs) -> list[pl.DataFrame]:
        """Add what a stage gave to the result; returns its traces, if there are any."""
        result.outputs += outputs.outputs
        result.counts.add(outputs)
        return [] if outputs.traces is None else [outputs.traces]
