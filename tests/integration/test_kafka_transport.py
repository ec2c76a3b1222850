"""The chunked transport on a real broker."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict

from aiokafka import AIOKafkaProducer

from monitor.kafka.worker import Worker
from monitor.pipeline import RecordChunk
from tests.integration.kafka_echo import EchoPipeline
from tests.integration.kafka_harness import IGNORE_SOCKETS, Installation, running
from tests.kafka import ExistingBroker, KafkaBroker
from tests.support.waiting import wait_until

pytestmark = IGNORE_SOCKETS


class _Recorder:
    """Everything that was pushed, over all pipelines of a worker."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.offsets: dict[tuple[str, int], list[int]] = defaultdict(list)
        self.values: dict[tuple[str, int], list[bytes | None]] = defaultdict(list)
        self.largest_chunk = 0

    def __call__(self, chunk: RecordChunk) -> None:
        with self.lock:
            place = (chunk.source, chunk.partition)
            self.offsets[place] += chunk.offsets
            self.values[place] += chunk.values
            self.largest_chunk = max(self.largest_chunk, len(chunk.offsets))

    @property
    def records(self) -> int:
        with self.lock:
            return sum(map(len, self.offsets.values()))

    @property
    def places(self) -> set[tuple[str, int]]:
        with self.lock:
            return set(self.offsets)


def _recording_worker(place: Installation, recorder: _Recorder, **changes: object) -> Worker:
    names = place.names
    return Worker(place.settings(**changes), lambda _: EchoPipeline(names.inputs, recorder))


async def _write_transaction(bootstrap: str, topic: str, partitions: int, records: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{topic}-writer")
    await producer.start()
    try:
        async with producer.transaction():
            for number in range(records):
                value = b"%d:in-transaction-%d" % (number, number)
                await producer.send(topic, value, partition=number % partitions)
    finally:
        await producer.stop()


def test_every_record_arrives_once_and_in_order(kafka: KafkaBroker | ExistingBroker) -> None:
    """Over 4 partitions of 3 topics: compressed batches, tombstones, and offsets with gaps."""
    place = Installation.create(kafka.bootstrap, partitions=4)
    for number, topic in enumerate(place.names.inputs):
        records = [(topic, n % 4, b"%d:%s-%d" % (n, topic.encode(), n)) for n in range(6_000)]
        place.produce(records, compression=(None, "gzip", "zstd")[number], linger_ms=5)
        # The marker that ends a transaction takes an offset and is no record.
        asyncio.run(_write_transaction(place.bootstrap, topic, 4, 40))
        place.produce(
            (topic, n % 4, None if n % 3 == 0 else b"%d:end-%d" % (n, n)) for n in range(80)
        )
    expected = {
        (topic, partition): [
            (record.offset, record.value)
            for record in place.read(topic)
            if record.partition == partition
        ]
        for topic in place.names.inputs
        for partition in range(4)
    }
    recorder = _Recorder()
    with running(_recording_worker(place, recorder, max_chunk_records=700)):
        wait_until(lambda: recorder.records >= 3 * 6_120, "all records arrived")
        ends = {at: found[-1][0] + 1 for at, found in expected.items()}
        wait_until(lambda: place.committed() == ends, "all is committed")
    for at, found in expected.items():
        assert recorder.offsets[at] == [offset for offset, _ in found]
        assert recorder.values[at] == [value for _, value in found]
    assert any(len(offsets) <= offsets[-1] for offsets in recorder.offsets.values())
    assert recorder.largest_chunk == 700


def test_partition_n_of_all_topics_goes_to_one_worker(kafka: KafkaBroker | ExistingBroker) -> None:
    """7 partitions over 3 workers: aiokafka's round robin would spread them."""
    place = Installation.create(kafka.bootstrap, partitions=7)
    recorders = [_Recorder() for _ in range(3)]
    workers = [_recording_worker(place, recorder) for recorder in recorders]
    with running(workers[0]) as first, running(workers[1]) as second, running(workers[2]) as third:
        for state in (first, second, third):
            state.wait_ready()
        # Every partition gets records until each worker has seen some: the group has settled.
        batch = [(topic, n, b"1:x") for topic in place.names.inputs for n in range(7)]

        def all_have_seen() -> bool:
            place.produce(batch)
            return all(recorder.records for recorder in recorders)

        wait_until(all_have_seen, "every worker received records")
        for recorder in recorders:
            with recorder.lock:
                recorder.offsets.clear()
        place.produce(batch)
        every = {(topic, n) for topic in place.names.inputs for n in range(7)}
        # Not so many records: some of an earlier batch may still be on their way.
        wait_until(lambda: set.union(*(r.places for r in recorders)) == every, "all are read")
    seen = [recorder.places for recorder in recorders]
    numbers = [{number for _, number in places} for places in seen]
    assert sum(map(len, numbers)) == 7, "a partition number was read by two workers"
    for places in seen:
        for number in {number for _, number in places}:
            assert {topic for topic, n in places if n == number} == set(place.names.inputs)
