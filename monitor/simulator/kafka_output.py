"""Event tables to Kafka: to the topic of their kind, keyed by the user they are about.

Whole record batches are built here and sent as they are, which costs about a tenth of sending
record by record. Within a partition the order of the events is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from numpy.typing import NDArray

from detectors.events import FEEDBACK_TYPES, GENERATION_TYPES, SHARE_TYPES
from monitor.simulator.errors import OutputError
from monitor.simulator.wire_json import to_wire_json

__all__ = ["DEFAULT_TOPICS", "event_keys", "murmur2", "write_kafka"]

DEFAULT_TOPICS: Final = ("generation-events", "sharing-events", "feedback-events")
"""Topics for generations, shares and feedback."""

_Hashes: TypeAlias = NDArray[np.uint32]

_TOPIC_TYPES: Final = (GENERATION_TYPES, SHARE_TYPES, FEEDBACK_TYPES)
_BATCH_BYTES: Final = 262_144
_BATCHES_IN_FLIGHT: Final = 64
_REQUEST_TIMEOUT_MS: Final = 30_000


def write_kafka(
    frames: Iterator[pl.DataFrame],
    brokers: Sequence[str],
    topics: tuple[str, str, str] = DEFAULT_TOPICS,
) -> None:
    """Send event tables and wait until the brokers have acknowledged them all.

    Record times are the time of sending: those of the events lie in the values, and a broker
    would at once drop records that are older than a topic's retention.

    Raises OutputError where the brokers or a topic cannot be reached or refuse.
    """
    try:
        asyncio.run(_send_all(frames, brokers, topics))
    except KafkaError as error:
        raise OutputError(
            f"kafka://{','.join(brokers)}: {type(error).__name__}: {error} (is the broker up, and "
            f"are there topics {', '.join(topics)}? `floodwatch topics create` makes them)"
        ) from error


def event_keys(events: pl.DataFrame) -> pl.Series:
    """The key of each event: the user that feedback is about, the actor of everything else."""
    is_feedback = pl.col("type").is_in(FEEDBACK_TYPES)
    return events.select(
        pl.when(is_feedback).then(pl.col("subject_user_id")).otherwise(pl.col("user_id"))
    ).to_series()


def murmur2(keys: Sequence[bytes]) -> _Hashes:
    """The hash by which Kafka's clients choose a partition (murmur2 of the Java client)."""
    hashes = np.empty(len(keys), dtype=np.uint32)
    lengths = np.array([len(key) for key in keys], dtype=np.int64)
    for length in np.unique(lengths):
        places = np.flatnonzero(lengths == length)
        joined = b"".join(keys[place] for place in places.tolist())
        letters = np.frombuffer(joined, dtype=np.uint8).reshape(len(places), int(length))
        hashes[places] = _murmur2_equally_long(letters)
    return hashes


def _murmur2_equally_long(letters: NDArray[np.uint8]) -> _Hashes:
    count, length = letters.shape
    multiplier = np.uint32(0x5BD1E995)
    hashes = np.full(count, 0x9747B28C ^ length, dtype=np.uint32)
    whole = length // 4 * 4
    words = np.ascontiguousarray(letters[:, :whole]).view("<u4").astype(np.uint32)
    for column in range(whole // 4):
        word = words[:, column] * multiplier
        word = (word ^ (word >> np.uint32(24))) * multiplier
        hashes = (hashes * multiplier) ^ word
    if whole < length:
        for position in range(whole, length):
            hashes ^= letters[:, position].astype(np.uint32) << np.uint32(8 * (position - whole))
        hashes *= multiplier
    hashes = (hashes ^ (hashes >> np.uint32(13))) * multiplier
    return hashes ^ (hashes >> np.uint32(15))


async def _send_all(
    frames: Iterator[pl.DataFrame], brokers: Sequence[str], topics: tuple[str, str, str]
) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=list(brokers),
        acks="all",
        compression_type="zstd",
        max_batch_size=_BATCH_BYTES,
        max_request_size=4 * _BATCH_BYTES,
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
    )
    try:
        await producer.start()
        partitions = [sorted(await producer.partitions_for(topic)) for topic in topics]
        sender = _Sender(producer)
        for frame in frames:
            for topic, types, numbers in zip(topics, _TOPIC_TYPES, partitions, strict=True):
                events = frame.filter(pl.col("type").is_in(types))
                if events.height:
                    await sender.send(events, topic, numbers)
        await sender.finish()
    finally:
        await producer.stop()


class _Sender:
    """Builds record batches and keeps a bounded number of them in flight."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._in_flight: set[asyncio.Future[Any]] = set()

    async def send(self, events: pl.DataFrame, topic: str, partitions: list[int]) -> None:
        """Send events, in order within each partition."""
        texts = event_keys(events)
        distinct = texts.unique(maintain_order=True)
        hashed = murmur2(distinct.cast(pl.Binary).to_list()) & np.uint32(0x7FFFFFFF)
        chosen = pl.Series(np.array(partitions)[hashed % np.uint32(len(partitions))])
        of_key = pl.DataFrame({"key": distinct, "partition": chosen})
        records = pl.DataFrame({"key": texts, "value": to_wire_json(events)}).join(
            of_key, on="key", maintain_order="left"
        )
        for (partition,), part in records.partition_by("partition", as_dict=True).items():
            keys = part["key"].cast(pl.Binary).to_list()
            values = part["value"].cast(pl.Binary).to_list()
            await self._send_partition(topic, int(partition), keys, values)

    async def finish(self) -> None:
        """Wait until everything is acknowledged. Raises the error of what is not."""
        await self._wait(0)

    async def _send_partition(
        self, topic: str, partition: int, keys: list[bytes], values: list[bytes]
    ) -> None:
        batch = self._producer.create_batch()
        for key, value in zip(keys, values, strict=True):
            if batch.append(timestamp=None, key=key, value=value) is None:
                await self._submit(batch, topic, partition)
                batch = self._producer.create_batch()
                appended = batch.append(timestamp=None, key=key, value=value)
                assert appended is not None, "an event is larger than a batch"
        await self._submit(batch, topic, partition)

    async def _submit(self, batch: Any, topic: str, partition: int) -> None:
        batch.close()
        await self._wait(_BATCHES_IN_FLIGHT - 1)
        sent = await self._producer.send_batch(batch, topic, partition=partition)
        self._in_flight.add(sent)

    async def _wait(self, at_most: int) -> None:
        """Wait until at most so many batches are in flight."""
        while len(self._in_flight) > at_most:
            done, self._in_flight = await asyncio.wait(
                self._in_flight, return_when=asyncio.FIRST_COMPLETED
            )
            for sent in done:
                sent.result()
