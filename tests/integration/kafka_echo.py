"""A worker that echoes: a pipeline that merges, but detects nothing, and a process running it.

Records are ``<event time, ms>:<id>``. Each becomes a decision about the user ``<id>``, so the
decisions topic shows what was applied, in which order and how often. Anything else is a dead
letter. It stands in for the real pipeline where a test is about delivery, not about detection.

    python -m tests.integration.kafka_echo --brokers HOST:PORT --prefix P- --group G
"""

from __future__ import annotations

import argparse
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from detectors.incidents import Decision
from detectors.state import Restored, Snapshot
from monitor.checkpoint.contract import PipelineSnapshot
from monitor.checkpoint.partition import CheckpointSettings
from monitor.kafka.settings import WorkerSettings
from monitor.kafka.topics import TopicNames
from monitor.kafka.worker import run_worker
from monitor.pipeline import PipelineResult, RecordChunk
from monitor.wire import DeadLetter, Reason

__all__ = ["EchoPipeline"]


@dataclass(frozen=True, slots=True)
class _Record:
    time_ms: int
    offset: int
    user_id: str


class EchoPipeline:
    """Merges its sources by event time; ``seen`` is called with every chunk pushed."""

    def __init__(
        self, sources: Sequence[str], seen: Callable[[RecordChunk], None] | None = None
    ) -> None:
        self._buffers: dict[str, deque[_Record]] = {source: deque() for source in sources}
        self._letters: list[DeadLetter] = []
        self._pushed: dict[str, int] = {}
        self._applied: dict[str, int] = {}
        self._seen = seen
        self.most_buffered = 0

    @property
    def wanted_models(self) -> str:
        """It scores nothing."""
        return ""

    @property
    def models(self) -> str:
        """It scores nothing."""
        return ""

    def use_models(self, name: str) -> None:
        """There are none to use."""
        raise AssertionError(name)

    def idle_traces(self) -> None:
        """It traces nothing."""

    def push(self, chunk: RecordChunk) -> None:
        """Parse and buffer."""
        if self._seen is not None:
            self._seen(chunk)
        buffer = self._buffers[chunk.source]
        for position, (offset, value) in enumerate(zip(chunk.offsets, chunk.values, strict=True)):
            time, separator, user_id = (value or b"").partition(b":")
            if separator:
                buffer.append(_Record(int(time), offset, user_id.decode()))
            else:
                self._letters.append(_letter(chunk.source, position, offset, value))
            self._pushed[chunk.source] = offset + 1
        self.most_buffered = max(self.most_buffered, len(buffer))

    def buffered(self, source: str) -> int:
        """Records of ``source`` that wait."""
        return len(self._buffers[source])

    def process(
        self, idle_sources: Collection[str], limit: int, bound: Mapping[str, int] | None = None
    ) -> PipelineResult:
        """Merge and echo. The order does not say whether it is one merge: every step is a cut."""
        result = PipelineResult(in_order=False)
        if bound is not None:
            idle_sources = [n for n in self._buffers if self._pushed.get(n, 0) >= bound.get(n, 0)]
        result.outputs += [
            Decision(record.user_id, record.user_id, "warn", source, "rule:echo", record.time_ms, 0)
            for source, record in self._merge(idle_sources, limit, bound)
        ]
        result.dead_letters, self._letters = self._letters, []
        for source, buffer in self._buffers.items():
            if source in self._pushed:
                self._applied[source] = buffer[0].offset if buffer else self._pushed[source]
        result.applied = dict(self._applied)
        return result

    def snapshot(self) -> PipelineSnapshot:
        """There is no state."""
        return PipelineSnapshot({}, "", Snapshot({}, (), ()))

    def restore(
        self, position: Mapping[str, int], merged_ms: Mapping[str, int], state: object
    ) -> Restored:
        """Go on from ``position``."""
        self._pushed.update(position)
        return Restored(0, (), complete=True)

    def _merge(
        self, idle_sources: Collection[str], limit: int, bound: Mapping[str, int] | None
    ) -> Iterator[tuple[str, _Record]]:
        for _ in range(limit):
            waiting = [
                source
                for source, buffer in self._buffers.items()
                if buffer and (bound is None or buffer[0].offset < bound.get(source, 0))
            ]
            holding = set(self._buffers) - set(waiting) - set(idle_sources)
            if holding or not waiting:
                return
            source = min(waiting, key=lambda name: self._buffers[name][0].time_ms)
            yield source, self._buffers[source].popleft()


def _letter(source: str, position: int, offset: int, raw: bytes | None) -> DeadLetter:
    reason = Reason.TOMBSTONE if raw is None else Reason.MALFORMED_JSON
    return DeadLetter(source, position, offset, reason, "$", "not <time>:<id>", raw)


def main() -> None:
    """Run a worker until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--chunk-records", type=int, default=200)
    parser.add_argument("--session-timeout", type=float, default=6.0)
    parser.add_argument("--instance")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    names = TopicNames.with_prefix(arguments.prefix)
    settings = WorkerSettings(
        brokers=(arguments.brokers,),
        group=arguments.group,
        topics=names,
        max_chunk_records=arguments.chunk_records,
        process_events=arguments.chunk_records,
        session_timeout_s=arguments.session_timeout,
        instance_id=arguments.instance,
        checkpoint=CheckpointSettings(interval_s=0.2, share=1.0),
    )
    run_worker(settings, lambda _partition: EchoPipeline(names.inputs))


if __name__ == "__main__":
    main()
