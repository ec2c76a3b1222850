"""The detection of one partition of shared keys, or of groups: messages of rows in, outputs out."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from detectors.meetings import meeting_schema
from detectors.state import Restored, Snapshot, Stateful
from detectors.traces import trace_schema
from monitor.checkpoint.contract import PipelineSnapshot
from monitor.pipeline import PipelineResult
from monitor.trace_merge import TraceMerge
from monitor.trace_messages import Outgoing, TraceMessageError, decode_traces
from monitor.wire import DeadLetter, Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from detectors.shared import CompiledShared
    from detectors.stages import StageOutputs
    from detectors.state import StateBlock
    from detectors.topology import Topology
    from monitor.pipeline import RecordChunk

__all__ = ["GroupPipeline", "RowPipeline", "SharedPipeline"]


class RowStage(Stateful, Protocol):
    """What a pipeline of rows needs of its stage."""

    watermark_ms: int

    def process(self, rows: pl.DataFrame) -> StageOutputs:
        """Apply rows in order."""
        ...


class RowPipeline:
    """Decode, merge the source partitions by event time, detect. One for each partition.

    What it does is a function of the log of traces alone: where a source had nothing to say is in
    the log as well. A snapshot holds the traces that wait.
    """

    def __init__(
        self,
        stage: RowStage,
        schema: Mapping[str, pl.DataType],
        shared: CompiledShared,
        topic: str,
        pack_version: str,
    ) -> None:
        self._stage = stage
        self.spaces = tuple(key.spec.name for key in shared.keys)
        self.merge = TraceMerge(schema, self.spaces)
        self._pack_version = pack_version
        self._topic = topic
        self._inbox: deque[tuple[int, bytes | None, int]] = deque()
        self._applied: int | None = None

    @property
    def wanted_models(self) -> str:
        """Nothing is scored here."""
        return ""

    @property
    def models(self) -> str:
        """Nothing is scored here."""
        return ""

    def use_models(self, name: str) -> None:
        """Nothing is scored here."""
        assert not name, name

    def idle_traces(self) -> Outgoing | None:
        """What to tell the next stage when there is nothing to do for the moment; None: nothing."""
        return None

    def _outgoing(self, outputs: StageOutputs | None) -> Outgoing | None:
        """What the next stage is told of a step; ``outputs`` None: there were no rows."""
        del outputs
        return None

    def push(self, chunk: RecordChunk) -> None:
        """Buffer messages."""
        self._inbox.extend(zip(chunk.offsets, chunk.values, chunk.timestamps_ms, strict=True))

    def buffered(self, source: str) -> int:
        """Messages that wait to be decoded (traces that wait for a source hold nothing back)."""
        assert source == self._topic, source
        return len(self._inbox)

    def process(
        self, idle_sources: Collection[str], limit: int, bound: Mapping[str, int] | None = None
    ) -> PipelineResult:
        """Decode messages until there are ``limit`` traces or the ``bound`` is reached; detect.

        ``idle_sources`` are nothing to go by: whether a source is idle, it says by itself.
        """
        del idle_sources
        result = PipelineResult()
        end = None if bound is None else bound.get(self._topic)
        messages, missing = 0, self.merge.missing
        while self._inbox and self.merge.ready < limit:
            if end is not None and self._inbox[0][0] >= end:
                break
            offset, value, received_ms = self._inbox.popleft()
            self._applied = offset + 1
            messages += 1
            try:
                traces = decode_traces(value)
            except TraceMessageError as error:
                reason, message = Reason.NOT_TRACES, str(error)
                letter = DeadLetter(self._topic, 0, offset, reason, "", message, value)
                result.dead_letters.append(letter)
                continue
            self.merge.add(traces, received_ms)
        if self._applied is not None:
            result.applied = {self._topic: self._applied}
        result.counts.missing = self.merge.missing - missing
        rows, outputs = self.merge.take(), None
        if rows is not None:
            outputs = self._stage.process(rows)
            result.outputs = outputs.outputs
            result.counts.add(outputs)
            result.watermark_ms = self._stage.watermark_ms
        if messages:
            result.traces = self._outgoing(outputs)
        return result

    def snapshot(self) -> PipelineSnapshot:
        """The state, with copies of what changed since the snapshot before."""
        state = self._stage.snapshot()
        names = (*state.names, self.merge.name)
        return PipelineSnapshot(
            merged_ms={},
            pack_version=self._pack_version,
            state=Snapshot(state.layout, names, (*state.changed, self.merge.block())),
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
        del merged_ms
        self._applied = position.get(self._topic)
        if state is None:
            return Restored(rows=0, dropped=(), complete=False)
        layout, blocks = state
        return self._stage.restore(layout, self._without_own(blocks))

    def _without_own(self, blocks: Iterable[StateBlock]) -> Iterator[StateBlock]:
        for block in blocks:
            if block.name == self.merge.name:
                self.merge.restore(block)
            else:
                yield block


class SharedPipeline(RowPipeline):
    """Traces in; meetings go to the stage of groups."""

    def __init__(self, topology: Topology, topic: str) -> None:
        stage = topology.shared_stage()
        assert stage is not None, "the pack has no shared keys"
        self.stage = stage
        schema, version = trace_schema(stage.shared), topology.pack.version
        super().__init__(stage, schema, stage.shared, topic, version)

    def idle_traces(self) -> Outgoing | None:
        """That no more meetings come for the moment, where that is so."""
        return self._outgoing(None) if self.merge.idle else None

    def _outgoing(self, outputs: StageOutputs | None) -> Outgoing:
        met = pl.DataFrame() if outputs is None or outputs.meetings is None else outputs.meetings
        end = self.stage.met
        newest_ms = max(self.stage.watermark_ms, self.merge.newest_ms)
        return Outgoing(met, self.spaces, end - len(met), end, newest_ms, self.merge.idle)


class GroupPipeline(RowPipeline):
    """Meetings in."""

    def __init__(self, topology: Topology, topic: str) -> None:
        stage = topology.group_stage()
        assert stage is not None, "the pack has no shared keys"
        self.stage = stage
        schema = meeting_schema(stage.shared.traits)
        super().__init__(stage, schema, stage.shared, topic, topology.pack.version)
