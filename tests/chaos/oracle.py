"""What should have come out: one pass, in this process, over what the topics hold.

The same pipeline as the worker's, a partition at a time, without Kafka, Faust or checkpoints: the
records of the three topics go through one merge from beginning to end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from detectors.stages import UserStage
from detectors.topology import Topology
from monitor.kafka.outbound import finding_messages
from monitor.kafka.topics import TopicNames
from monitor.pipeline import PartitionPipeline, PipelineResult, RecordChunk
from tests.chaos.published import message_id
from tests.chaos.reading import read_partition

__all__ = ["EVENT_SOURCE", "Expected", "PartitionLog", "expect", "read_log"]

EVENT_SOURCE: Final = "/floodwatch"
_CHUNK_RECORDS: Final = 5_000
_BATCH_EVENTS: Final = 16_000


@dataclass(frozen=True, slots=True)
class PartitionLog:
    """The records of one partition number, by topic."""

    partition: int
    records: Mapping[str, Sequence[Any]]

    @property
    def ends(self) -> dict[str, int]:
        """Where each topic's partition ends."""
        return {topic: len(records) for topic, records in self.records.items()}

    def newest_by_key(self) -> list[tuple[str, Any]]:
        """For each key (the user) the last of its records with its topic."""
        newest: dict[bytes, tuple[str, Any]] = {}
        for topic, records in self.records.items():
            for record in records:
                known = newest.get(record.key)
                if known is None or known[1].timestamp <= record.timestamp:
                    newest[record.key] = (topic, record)
        return list(newest.values())


@dataclass(slots=True)
class Expected:
    """What one pass gives: messages by topic and id, the outputs, and the stage as it ends."""

    stage: UserStage
    messages: dict[str, dict[str, bytes]] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    late: int = 0
    dead: int = 0


def read_log(bootstrap: str, names: TopicNames, partition: int) -> PartitionLog:
    """Read one partition of each input topic back from the broker."""
    records = {topic: read_partition(bootstrap, topic, partition) for topic in names.inputs}
    for topic, found in records.items():
        for offset, record in enumerate(found):
            assert record.offset == offset, f"{topic}[{partition}] has a hole before {record}"
    return PartitionLog(partition, records)


def expect(topology: Topology, names: TopicNames, log: PartitionLog) -> Expected:
    """Run the pipeline over a partition from beginning to end, in bounded memory."""
    pipeline = PartitionPipeline(topology, names.inputs)
    expected = Expected(pipeline.stage, {topic: {} for topic in names.outputs})
    pending = {topic: _chunks(log, topic) for topic in names.inputs}
    ended: set[str] = set()
    while True:
        for topic, chunks in pending.items():
            while topic not in ended and pipeline.buffered(topic) < _BATCH_EVENTS:
                chunk = next(chunks, None)
                if chunk is None:
                    ended.add(topic)
                else:
                    pipeline.push(chunk)
        _note(expected, pipeline.process(ended, _BATCH_EVENTS), names)
        if len(ended) == len(pending) and not any(map(pipeline.buffered, pending)):
            return expected


def _note(expected: Expected, result: PipelineResult, names: TopicNames) -> None:
    expected.events.update(result.counts.events)
    expected.late += result.counts.late
    expected.dead += len(result.dead_letters)
    for message in finding_messages(result, names, EVENT_SOURCE):
        assert message.value is not None
        expected.messages[message.topic][message_id(message.value)] = message.value


def _chunks(log: PartitionLog, topic: str) -> Iterator[RecordChunk]:
    records = log.records[topic]
    for start in range(0, len(records), _CHUNK_RECORDS):
        part = records[start : start + _CHUNK_RECORDS]
        yield RecordChunk(
            topic,
            log.partition,
            [record.value for record in part],
            [record.offset for record in part],
            [record.timestamp for record in part],
        )
