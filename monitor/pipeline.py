"""The detection of one partition: records in, outputs out. Every runner runs this."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from detectors.batch import EventBatch
from detectors.events import MAX_TIME_MS
from detectors.incidents import Alert, Decision, IncidentUpdate
from detectors.state import Restored
from monitor.checkpoint.contract import PipelineSnapshot
from monitor.merge import Merger
from monitor.trace_messages import Outgoing
from monitor.wire import Decoder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from detectors.incidents import Output
    from detectors.stages import StageOutputs
    from detectors.state import StateBlock
    from detectors.topology import Topology
    from monitor.wire import DeadLetter

__all__ = ["Counts", "PartitionPipeline", "PipelineResult", "RecordChunk", "warm_up"]


@dataclass(frozen=True, slots=True)
class RecordChunk:
    """Records of one partition of one source, in offset order; the lists are parallel.

    ``timestamps_ms`` is when the log received each record.
    """

    source: str
    partition: int
    values: list[bytes | None]
    offsets: list[int]
    timestamps_ms: list[int]


@dataclass(slots=True)
class Counts:
    """What was done: events processed by type (not the late ones), late events, findings, errors.

    Every record is one of them: processed, late, or a dead letter. ``skipped`` counts of shorter
    windows did not take an event; by rule id ``findings``, those of them that were ``shed`` in an
    alert storm, and ``rule_errors``. ``scored`` and what follows: see ``StageOutputs``.
    """

    events: Counter[str] = field(default_factory=Counter)
    late: int = 0
    skipped: int = 0
    findings: Counter[str] = field(default_factory=Counter)
    shed: Counter[str] = field(default_factory=Counter)
    rule_errors: Counter[str] = field(default_factory=Counter)
    scored: int = 0
    anomalous: int = 0
    disagreed: Counter[str] = field(default_factory=Counter)
    drift: dict[str, float] = field(default_factory=dict)
    touched: Counter[str] = field(default_factory=Counter)
    late_traces: int = 0
    truncated: int = 0
    campaigns: Counter[str] = field(default_factory=Counter)
    missing: int = 0

    def add(self, outputs: StageOutputs) -> None:
        """Count what a stage made of a batch."""
        self.events.update(outputs.events)
        self.late += outputs.late
        self.skipped += outputs.skipped
        self.findings.update(outputs.findings)
        self.shed.update(outputs.shed)
        self.rule_errors.update(outputs.rule_errors.keys())
        self.scored += outputs.scored
        self.anomalous += outputs.anomalous
        self.disagreed.update(outputs.disagreed)
        self.drift = outputs.drift or self.drift
        self.touched.update(outputs.touched)
        self.late_traces += outputs.late_traces
        self.truncated += outputs.truncated
        self.campaigns.update(outputs.campaigns)


@dataclass(slots=True)
class PipelineResult:
    """What one ``process`` gave: outputs in log order, dead letters, progress, counts.

    ``applied`` maps each source to the next offset to read: everything below it is in the state
    and its outputs and dead letters are in a result. ``in_order`` is False where an event was
    taken after one that it should have preceded. ``watermark_ms`` is the newest event time seen
    (None: none). ``traces`` go to the stage of shared keys.
    """

    outputs: list[Output] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    applied: dict[str, int] = field(default_factory=dict)
    in_order: bool = True
    counts: Counts = field(default_factory=Counts)
    watermark_ms: int | None = None
    traces: Outgoing | None = None

    @property
    def alerts(self) -> list[Alert]:
        return [output for output in self.outputs if isinstance(output, Alert)]

    @property
    def incidents(self) -> list[IncidentUpdate]:
        return [output for output in self.outputs if isinstance(output, IncidentUpdate)]

    @property
    def decisions(self) -> list[Decision]:
        return [output for output in self.outputs if isinstance(output, Decision)]


def warm_up(topology: Topology) -> None:
    """Have the kernels compiled (or loaded from the cache) before anything waits for them.

    The first time that takes seconds, in which a worker would miss its heartbeats.
    """
    small = replace(topology, max_users=1, max_shared_keys=64, max_group_actors=64)
    pipeline = PartitionPipeline(small, ("warm-up",))
    pipeline.use_models(pipeline.wanted_models)
    records = [_warm_up_record(number) for number in range(3)]
    offsets = list(range(len(records)))
    times_ms = [MAX_TIME_MS] * len(records)
    pipeline.push(RecordChunk("warm-up", 0, list(records), offsets, times_ms))
    result = pipeline.process((), len(records))
    assert result.counts.events.total() == len(records), result.dead_letters
    shared, groups = small.shared_stage(), small.group_stage()
    if shared is not None and groups is not None and result.traces is not None:
        met = shared.process(result.traces.frame).meetings
        if met is not None:
            groups.process(met)
            groups.advance(MAX_TIME_MS)


def _warm_up_record(number: int) -> bytes:
    """Users who share a video: two at once, one ten minutes later, when minutes are over."""
    time_ms = 1_700_000_000_000 + 600_000 * (number // 2)
    return (
        f'{{"event_id":"{number}","type":"share.created","time":{time_ms},"user_id":"{number}",'
        '"account":{"created_at":0,"tier":"free"},"client":{},"share":{"asset_id":"0"}}'
    ).encode()


class PartitionPipeline:
    """Decode, merge the sources by event time, detect. One for each partition."""

    def __init__(self, topology: Topology, sources: Sequence[str]) -> None:
        self.stage = topology.user_stage()
        self._models = topology.models
        self._pack_version = topology.pack.version
        self._decoder = Decoder(topology.pack.event_columns)
        self._merger = Merger(sources)
        self._dead: dict[str, deque[DeadLetter]] = {name: deque() for name in sources}

    def push(self, chunk: RecordChunk) -> None:
        """Decode a chunk and buffer its events; what cannot be decoded becomes dead letters."""
        decoded = self._decoder.decode(
            chunk.source, chunk.values, chunk.offsets, chunk.timestamps_ms
        )
        self._dead[chunk.source].extend(sorted(decoded.dead, key=lambda letter: letter.offset))
        offsets = np.asarray(chunk.offsets, dtype=np.int64)
        self._merger.push(
            chunk.source, decoded.frame, offsets[decoded.positions], int(offsets[-1]) + 1
        )

    def buffered(self, source: str) -> int:
        """Events of ``source`` that wait to be merged."""
        return self._merger.waiting(source)

    def process(
        self, idle_sources: Collection[str], limit: int, bound: Mapping[str, int] | None = None
    ) -> PipelineResult:
        """Merge and detect at most ``limit`` events; see ``Merger.take`` for the arguments."""
        merged = self._merger.take(idle_sources, limit, bound)
        result = PipelineResult(applied=merged.applied, in_order=merged.in_order)
        for source, letters in self._dead.items():
            end = merged.applied.get(source, 0)
            while letters and letters[0].offset < end:
                result.dead_letters.append(letters.popleft())
        if merged.frame is not None:
            stage_outputs = self.stage.process(EventBatch.of(merged.frame))
            result.outputs = stage_outputs.outputs
            result.counts.add(stage_outputs)
            result.watermark_ms = self.stage.watermark_ms
            result.traces = self._outgoing(stage_outputs.traces)
        return result

    def idle_traces(self) -> Outgoing | None:
        """What to tell the stage of shared keys when there is nothing to do for the moment."""
        tracer = self.stage.tracer
        if tracer is None:
            return None
        made, newest_ms = tracer.made, self.stage.watermark_ms
        return Outgoing(pl.DataFrame(), tracer.spaces, made, made, newest_ms, idle=True)

    def _outgoing(self, traces: pl.DataFrame | None) -> Outgoing | None:
        tracer = self.stage.tracer
        if traces is None or tracer is None:
            return None
        made = tracer.made
        start = made - len(traces)
        return Outgoing(traces, tracer.spaces, start, made, self.stage.watermark_ms)

    @property
    def wanted_models(self) -> str:
        """The name of the models that should score from now on."""
        return self._models.current.name

    @property
    def models(self) -> str:
        """The name of the models that score."""
        return self.stage.models

    def use_models(self, name: str) -> None:
        """Score with the models of this name from the next event on.

        Raises StateError where they are not to be had.
        """
        self.stage.use_models(name)

    def snapshot(self) -> PipelineSnapshot:
        """The state, with copies of what changed since the snapshot before."""
        return PipelineSnapshot(
            merged_ms=self._merger.taken_ms,
            pack_version=self._pack_version,
            state=self.stage.snapshot(),
        )

    def restore(
        self,
        position: Mapping[str, int],
        merged_ms: Mapping[str, int],
        state: tuple[dict[str, Any], Iterable[StateBlock]] | None,
    ) -> Restored:
        """Go on from ``position`` with the state of a snapshot, or with none.

        Raises StateError where the state cannot be used.
        """
        self._merger.start(position, merged_ms)
        if state is None:
            return Restored(rows=0, dropped=(), complete=False)
        layout, blocks = state
        return self.stage.restore(layout, blocks)
