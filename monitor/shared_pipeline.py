"""The detection of one partition of shared keys: messages of traces in, outputs out."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import polars as pl

from detectors.state import Restored, Snapshot
from detectors.traces import trace_schema
from monitor.checkpoint.contract import PipelineSnapshot
from monitor.pipeline import PipelineResult
from monitor.trace_merge import TraceMerge
from monitor.trace_messages import TraceMessageError, decode_traces
from monitor.wire import DeadLetter, Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from detectors.state import StateBlock
    from detectors.topology import Topology
    from monitor.pipeline import RecordChunk

__all__ = ["SharedPipeline"]


class SharedPipeline:
    """Decode, merge the source partitions by event time, detect. One for each partition.

    What it does is a function of the log of traces alone: where a source had nothing to say is in
    the log as well. A snapshot holds the traces that wait.
    """

    def __init__(self, topology: Topology, topic: str) -> None:
        stage = topology.shared_stage()
        assert stage is not None, "the pack has no shared keys"
        self.stage = stage
        self.merge = TraceMerge(
            trace_schema(stage.shared), [key.spec.name for key in stage.shared.keys]
        )
        self._pack_version = topology.pack.version
        self._topic = topic
        self._inbox: deque[tuple[int, bytes | None]] = deque()
        self._applied: int | None = None

    @property
    def wanted_models(self) -> str:
        """Shared keys are not scored."""
        return ""

    @property
    def models(self) -> str:
        """Shared keys are not scored."""
        return ""

    def use_models(self, name: str) -> None:
        """Shared keys are not scored."""
        assert not name, name

    def idle_traces(self) -> None:
        """Nothing comes after this stage."""

    def push(self, chunk: RecordChunk) -> None:
        """Buffer messages."""
        self._inbox.extend(zip(chunk.offsets, chunk.values, strict=True))

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
        frames: list[pl.DataFrame] = []
        rows = 0
        while self._inbox and rows < limit:
            if end is not None and self._inbox[0][0] >= end:
                break
            offset, value = self._inbox.popleft()
            self._applied = offset + 1
            try:
                traces = decode_traces(value)
            except TraceMessageError as error:
                reason, message = Reason.NOT_TRACES, str(error)
                letter = DeadLetter(self._topic, 0, offset, reason, "", message, value)
                result.dead_letters.append(letter)
                continue
            self.merge.add(traces)
            taken = self.merge.take()
            if taken is not None:
                frames.append(taken)
                rows += len(taken)
        if self._applied is not None:
            result.applied = {self._topic: self._applied}
        if frames:
            outputs = self.stage.process(frames[0] if len(frames) == 1 else pl.concat(frames))
            result.outputs = outputs.outputs
            result.counts.add(outputs)
            result.watermark_ms = self.stage.watermark_ms
        return result

    def snapshot(self) -> PipelineSnapshot:
        """The state, with copies of what changed since the snapshot before."""
        state = self.stage.snapshot()
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
        return self.stage.restore(layout, self._without_own(blocks))

    def _without_own(self, blocks: Iterable[StateBlock]) -> Iterator[StateBlock]:
        for block in blocks:
            if block.name == self.merge.name:
                self.merge.restore(block)
            else:
                yield block
