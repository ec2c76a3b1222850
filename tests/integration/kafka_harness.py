"""What the Kafka tests share: own topics, workers on threads, reading topics to the end."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from monitor.checkpoint.partition import CheckpointSettings
from monitor.kafka.settings import WorkerSettings
from monitor.kafka.topics import TopicNames, create_topics, declare_topics
from monitor.kafka.worker import Worker
from monitor.kafka.workers import Workers
from tests.support.waiting import DEADLINE_S, wait_until

__all__ = [
    "IGNORE_SOCKETS",
    "Installation",
    "RunningWorker",
    "running",
]


IGNORE_SOCKETS: Final = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)
"""For tests in which kafka-python meets a broker that is not there: it does not close sockets."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Topics of one test on a broker, and a consumer group."""

    bootstrap: str
    names: TopicNames
    group: str
    partitions: int

    @classmethod
    def create(cls, bootstrap: str, *, partitions: int) -> Installation:
        """Fresh topics, so that tests sharing a broker do not meet."""
        prefix = f"t{uuid.uuid4().hex[:8]}-"
        names = TopicNames.with_prefix(prefix)
        group = f"{prefix}group"
        create_topics([bootstrap], declare_topics(names, group=group, partitions=partitions))
        return cls(bootstrap, names, group, partitions)

    def settings(self, **changes: Any) -> WorkerSettings:  # noqa: ANN401 - any of its fields
        """Settings of a worker here."""
        defaults = {
            "checkpoint": CheckpointSettings(interval_s=0.2, share=1.0),
            "publish_backoff_s": 0.05,
        }
        return WorkerSettings(
            brokers=(self.bootstrap,),
            topics=self.names,
            group=self.group,
            **{**defaults, **changes},
        )

    def produce(
        self,
        records: Iterable[tuple[str, int, bytes | None]],
        *,
        compression: str | None = None,
        linger_ms: int = 0,
    ) -> None:
        """Write (topic, partition, value), keyed by position, in order for each partition."""
        producer = KafkaProducer(
            bootstrap_servers=self.bootstrap,
            acks="all",
            compression_type=compression,
            linger_ms=linger_ms,
        )
        try:
            for position, (topic, partition, value) in enumerate(records):
                producer.send(topic, value=value, key=b"k%d" % position, partition=partition)
            producer.flush()
        finally:
            producer.close()

    def read(self, topic: str) -> list[Any]:
        """Every record of a topic, by partition and offset."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        try:
            numbers = consumer.partitions_for_topic(topic)
            assigned = [TopicPartition(topic, number) for number in sorted(numbers)]
            consumer.assign(assigned)
            consumer.seek_to_beginning(*assigned)
            ends = consumer.end_offsets(assigned)
            found: list[Any] = []
            deadline_s = time.monotonic() + DEADLINE_S
            while any(consumer.position(tp) < ends[tp] for tp in assigned):
                assert time.monotonic() < deadline_s, f"{topic} could not be read to its end"
                for records in consumer.poll(timeout_ms=100).values():
                    found += records
        finally:
            consumer.close()
        return sorted(found, key=lambda record: (record.partition, record.offset))

    def committed(self) -> Mapping[tuple[str, int], int]:
        """What the group has committed; nothing while the broker cannot say."""
        try:
            admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
            try:
                offsets = admin.list_group_offsets(self.group)[self.group]
            finally:
                admin.close()
        except KafkaError as error:
            if not error.retriable:
                raise
            gc.collect()  # kafka-python leaves sockets of failed connections behind: here, now
            return {}
        return {(tp.topic, tp.partition): at.offset for tp, at in offsets.items() if at.offset >= 0}

    def configure(self, topic: str, settings: Mapping[str, str]) -> None:
        """Change settings of a topic; return once the broker shows them."""
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, dict(settings))
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)

        def shown() -> bool:
            every = ConfigResource(ConfigResourceType.TOPIC, topic)
            found = admin.describe_configs([every], config_filter="all")["topic"][topic]
            return all(found[name]["value"] == value for name, value in settings.items())

        try:
            admin.alter_configs([resource])
            wait_until(shown, f"{topic} has {settings}")
        finally:
            admin.close()


@dataclass(slots=True)
class RunningWorker:
    """A worker on a thread; ``failure`` is what its ``run`` raised."""

    worker: Worker | Workers
    thread: threading.Thread
    failure: BaseException | None = None

    def wait_ready(self) -> None:
        """Wait until it reads."""
        wait_until(lambda: self.worker.ready or self.failure is not None, "the worker is ready")
        assert self.failure is None, self.failure

    def wait_failed(self) -> BaseException:
        """Wait until ``run`` has raised."""
        self.thread.join(DEADLINE_S)
        assert self.failure is not None, "the worker did not fail"
        return self.failure


@contextmanager
def running(worker: Worker | Workers) -> Iterator[RunningWorker]:
    """Run a worker on a thread and stop it at the end."""

    def run() -> None:
        try:
            asyncio.run(worker.run())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            state.failure = error

    state = RunningWorker(worker, threading.Thread(target=run, name="worker"))
    state.thread.start()
    try:
        yield state
    finally:
        worker.stop()
        state.thread.join(DEADLINE_S)
        assert not state.thread.is_alive(), "the worker did not stop"
