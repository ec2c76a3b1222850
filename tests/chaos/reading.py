"""Topics read to their end, as any client reads them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from tests.chaos.errors import ChaosError

__all__ = ["committed_offsets", "read_partition", "read_topic"]

_STALLED_S: Final = 60.0
_POLL_S: Final = 0.1

_Answer = TypeVar("_Answer")
_FETCH_BYTES: Final = 4 * 1024 * 1024


def read_topic(bootstrap: str, topic: str, partitions: int) -> list[Any]:
    """Every record of a topic, by partition and offset. Raises ChaosError where it stalls."""
    return asyncio.run(_read(bootstrap, topic, range(partitions)))


def read_partition(bootstrap: str, topic: str, partition: int) -> list[Any]:
    """Every record of one partition, by offset. Raises ChaosError where it stalls."""
    return asyncio.run(_read(bootstrap, topic, (partition,)))


def committed_offsets(bootstrap: str, group: str) -> dict[tuple[str, int], tuple[int, str]]:
    """Offset and metadata that a group has committed, by topic and partition.

    The first to ask a new broker waits until its coordinator has made the topic it keeps them in.
    """
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        found = _ask_until_ready(lambda: admin.list_group_offsets(group)[group])
    finally:
        admin.close()
    return {
        (tp.topic, tp.partition): (at.offset, at.metadata or "")
        for tp, at in found.items()
        if at.offset >= 0
    }


def _ask_until_ready(ask: Callable[[], _Answer]) -> _Answer:
    deadline_s = time.monotonic() + _STALLED_S
    while True:
        try:
            return ask()
        except KafkaError as error:
            if not error.retriable or time.monotonic() > deadline_s:
                raise
            time.sleep(_POLL_S)


async def _read(bootstrap: str, topic: str, partitions: Iterable[int]) -> list[Any]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    await consumer.start()
    try:
        found: list[Any] = []
        for number in partitions:
            found += await _read_partition(consumer, TopicPartition(topic, number))
        return found
    finally:
        await consumer.stop()


async def _read_partition(consumer: AIOKafkaConsumer, tp: TopicPartition) -> list[Any]:
    consumer.assign([tp])
    end = (await consumer.end_offsets([tp]))[tp]
    await consumer.seek_to_beginning(tp)
    found: list[Any] = []
    while await consumer.position(tp) < end:
        records = await consumer.getmany(tp, timeout_ms=int(_STALLED_S * 1000))
        if not records:
            raise ChaosError(f"{tp.topic}[{tp.partition}] could not be read to its end, {end}")
        found += records[tp]
    return found
