"""A slow sink and a slow broker hold reading back: what waits stays bounded, nothing is lost.

The topics hold many times what the buffers may, and what comes out is compared, byte for byte and
in order, with what the in-process runner makes of the same records.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import polars as pl
import pytest

from detectors.compiled import compile_pack
from detectors.events import GENERATION_TYPES, SHARE_TYPES
from detectors.topology import Topology
from monitor.checkpoint.contract import Position
from monitor.kafka.observer import IgnoringObserver
from monitor.kafka.outbound import finding_messages
from monitor.kafka.publisher import Publisher, Sender
from monitor.kafka.worker import Worker
from monitor.pipeline import PartitionPipeline, PipelineResult, warm_up
from monitor.runner import Runner
from monitor.simulator.wire_json import to_wire_json
from tests.integration.kafka_harness import IGNORE_SOCKETS, Installation, running
from tests.kafka import ExistingBroker, KafkaBroker
from tests.support.events import random_events, small_pack
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from faust.types import RecordMetadata

    from monitor.kafka.observer import WorkerObserver
    from monitor.kafka.settings import WorkerSettings

pytestmark = IGNORE_SOCKETS

EVENTS: Final = 6_000
AGO_MS: Final = 86_400_000 * 365  # long before any clock that a broker may have
BUFFER_EVENTS: Final = 400
CHUNK_RECORDS: Final = 50
STREAM_BUFFER_CHUNKS: Final = 2
FETCH_BYTES: Final = 16 * 1024
"""Less than 50 of these events: every fetch of a partition is one chunk."""


@dataclass(slots=True)
class Gauge(IgnoringObserver):
    """What waits in the worker, from outside of its books: records received and not applied.

    ``most_waiting`` is the most by topic, at any moment; ``looks`` counts the worker's reports,
    about one a second. Everything is about one partition, read from offset 0 on.
    """

    received: Counter[str] = field(default_factory=Counter)
    applied: dict[str, int] = field(default_factory=dict)
    most_waiting: Counter[str] = field(default_factory=Counter)
    events: int = 0
    looks: int = 0
    step_began: Callable[[int], None] = lambda _applied: None

    def chunk_received(self, topic: str, partition: int, records: int) -> None:
        """Note the most that ever waited: only a chunk that arrives can raise it."""
        self.received[topic] += records
        self.most_waiting[topic] = max(self.most_waiting[topic], self.waiting(topic))

    def chunk_processed(self, partition: int, result: PipelineResult, elapsed_s: float) -> None:
        """Count what was done once its outputs were acknowledged."""
        self.events += result.counts.events.total() + result.counts.late

    def assigned(self, partitions: int) -> None:
        """Count the reports."""
        self.looks += 1

    def waiting(self, topic: str) -> int:
        """Records of a topic that wait now."""
        return self.received[topic] - self.applied.get(topic, 0)

    def wait_for_looks(self, count: int) -> None:
        """Let the worker go on for as long as it takes to report ``count`` times more."""
        until = self.looks + count
        wait_until(lambda: self.looks >= until, f"the worker reports {count} times")


class Watched(PartitionPipeline):
    """The pipeline itself; tells the gauge when a step begins and how far it came."""

    def __init__(self, gauge: Gauge, topology: Topology, place: Installation) -> None:
        super().__init__(topology, place.names.inputs)
        self._gauge = gauge

    def process(
        self, idle_sources: Collection[str], limit: int, bound: Position | None = None
    ) -> PipelineResult:
        """Process."""
        self._gauge.step_began(sum(self._gauge.applied.values()))
        result = super().process(idle_sources, limit, bound)
        self._gauge.applied.update(result.applied)
        return result


@dataclass(frozen=True, slots=True)
class LateSender:
    """A sender whose messages to ``sinks`` are not acknowledged before ``told`` is done."""

    sender: Sender
    sinks: Collection[str]
    told: asyncio.Future[bool]

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: list[tuple[str, bytes]] | None,
    ) -> Awaitable[RecordMetadata]:
        """Send at once."""
        sent = await self.sender.send(topic, key, value, partition, timestamp, headers)
        return asyncio.ensure_future(self._late(sent)) if topic in self.sinks else sent

    async def _late(self, sent: Awaitable[RecordMetadata]) -> RecordMetadata:
        metadata = await sent
        await asyncio.shield(self.told)
        return metadata


def topology() -> Topology:
    return Topology(compile_pack(small_pack()), max_users=100, block_rows=8)


def filled(bootstrap: str) -> Installation:
    """Topics that hold everything before a worker starts, so that the merge is exact."""
    place = Installation.create(bootstrap, partitions=1)
    events = random_events(6, EVENTS, users=20).with_columns(pl.col("time_ms") - AGO_MS)
    generations, shares, feedback = place.names.inputs
    topics = {
        **dict.fromkeys(GENERATION_TYPES, generations),
        **dict.fromkeys(SHARE_TYPES, shares),
    }
    place.produce(
        (topics.get(kind, feedback), 0, value.encode())
        for kind, value in zip(events["type"], to_wire_json(events), strict=True)
    )
    return place


def worker(place: Installation, gauge: Gauge, session_timeout_s: float = 6.0) -> Worker:
    chain = topology()
    warm_up(chain)
    settings = place.settings(
        max_chunk_records=CHUNK_RECORDS,
        fetch_bytes=FETCH_BYTES,
        fetch_wait_ms=5,
        buffer_events=BUFFER_EVENTS,
        stream_buffer_chunks=STREAM_BUFFER_CHUNKS,
        process_events=200,
        session_timeout_s=session_timeout_s,
    )
    return Worker(settings, lambda _: Watched(gauge, chain, place), gauge)


def wait_until_all_is_committed(place: Installation) -> None:
    wait_until(lambda: sum(place.committed().values()) == EVENTS, "all is committed")


def check_bounded(gauge: Gauge, place: Installation) -> None:
    """Buffers filled, and then came no more than what was on its way when reading was held.

    That is the chunk that crossed the bound, those in Faust's stream buffer, and one fetch.
    """
    most = BUFFER_EVENTS + (1 + STREAM_BUFFER_CHUNKS + 1) * CHUNK_RECORDS
    for topic in place.names.inputs:
        assert BUFFER_EVENTS < gauge.most_waiting[topic] <= most


def check_outputs(gauge: Gauge, place: Installation) -> None:
    """Every record was processed once, and every output is there once, in order."""
    runner = Runner(topology(), place.names.inputs)
    for topic in place.names.inputs:
        records = place.read(topic)
        runner.push_records(topic, [r.value for r in records], [r.timestamp for r in records])
        runner.end(topic)
    expected = runner.run()
    assert gauge.events == EVENTS
    assert gauge.received.total() == EVENTS
    messages = finding_messages(expected, place.names, place.settings().event_source)
    assert {message.topic for message in messages} == set(place.names.outputs)
    for topic in place.names.outputs:
        published = [(record.key, record.value) for record in place.read(topic)]
        assert published == [(m.key, m.value) for m in messages if m.topic == topic]


def test_a_slow_sink_holds_reading_back(
    kafka: KafkaBroker | ExistingBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While no output is acknowledged, buffers fill to their bound, and then nothing is read."""
    place = filled(kafka.bootstrap)
    gauge, told = Gauge(), threading.Event()

    def publisher(sender: Sender, settings: WorkerSettings, observer: WorkerObserver) -> Publisher:
        late = asyncio.ensure_future(asyncio.to_thread(told.wait))
        return Publisher(LateSender(sender, place.names.outputs, late), settings, observer)

    monkeypatch.setattr("monitor.kafka.worker.Publisher", publisher)
    with running(worker(place, gauge)) as state:
        try:
            wait_until(
                lambda: all(gauge.waiting(topic) > BUFFER_EVENTS for topic in place.names.inputs),
                "buffers are full",
            )
            gauge.wait_for_looks(1)  # what was on its way arrives
            read, done = gauge.received.total(), gauge.events
            gauge.wait_for_looks(2)
            assert gauge.received.total() == read < EVENTS
            assert gauge.events == done < read, "nothing counts as done that is not acknowledged"
        finally:
            told.set()
        wait_until_all_is_committed(place)
        assert state.failure is None
    check_bounded(gauge, place)
    check_outputs(gauge, place)


def test_a_slow_broker_slows_reading_not_memory(own_kafka: KafkaBroker) -> None:
    """It freezes three times in the middle of work: fetches, alerts and commits hang with it."""
    place = filled(own_kafka.bootstrap)
    frozen, pending = threading.Event(), [EVENTS * 2 // 3, EVENTS // 3, 1]

    def freeze(applied: int) -> None:
        if pending and applied >= pending[-1]:
            pending.pop()
            os.kill(own_kafka.pid, signal.SIGSTOP)
            frozen.set()

    gauge = Gauge(step_began=freeze)
    # Longer than the freezes on any machine: they are about slowness, not about lost members.
    with running(worker(place, gauge, session_timeout_s=30.0)) as state:
        for _ in range(len(pending)):
            try:
                wait_until(frozen.is_set, "the broker was frozen")
                gauge.wait_for_looks(1)
                done = gauge.events
                gauge.wait_for_looks(2)
                assert gauge.events == done < EVENTS, "a frozen broker acknowledges nothing"
            finally:
                frozen.clear()
                os.kill(own_kafka.pid, signal.SIGCONT)
        wait_until_all_is_committed(place)
        assert state.failure is None
    assert not pending
    check_bounded(gauge, place)
    check_outputs(gauge, place)
