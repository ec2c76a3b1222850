"""Sends the events while faults happen: at a steady pace, then as fast as it goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import polars as pl
from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from detectors.events import FEEDBACK_TYPES, GENERATION_TYPES, SHARE_TYPES
from detectors.keys import hash_strings
from monitor.kafka.topics import TopicNames
from monitor.simulator import to_wire_json
from monitor.simulator.kafka_output import event_keys
from tests.chaos.corpus import partitions_of

__all__ = ["Feed"]

_SLICE_S: Final = 0.2
_FULL_SPEED_EVENTS: Final = 10_000
_BATCH_BYTES: Final = 262_144
_BATCHES_IN_FLIGHT: Final = 32
_REQUEST_TIMEOUT_MS: Final = 60_000
_SAMPLE_EVERY: Final = 16
"""One in so many users is counted by the control."""
_SLOWER_BEYOND: Final = 10.0


class Feed:
    """Writes ``events`` in their order, keyed by user, to the input topics of ``names``.

    At ``events_per_s`` until as many are out as were allowed, at a tenth of that from then on, so
    that events flow evenly and for as long as faults happen. ``finish`` ends it: what is missing
    of ``least`` goes out at once. ``sample_topic`` also gets the events of some users.
    """

    def __init__(
        self,
        bootstrap: str,
        events: pl.DataFrame,
        names: TopicNames,
        *,
        partitions: int,
        events_per_s: float,
        least: int,
        sample_topic: str | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._events = events
        self._topics = dict(
            zip(names.inputs, (GENERATION_TYPES, SHARE_TYPES, FEEDBACK_TYPES), strict=True)
        )
        self._partitions = partitions
        self._events_per_s = events_per_s
        self._sample_topic = sample_topic
        self._in_flight: set[asyncio.Future[Any]] = set()
        self._finishing = False
        self._allowed = 0
        self.least = least
        self.sent = 0
        self.done = False

    def allow(self, share: float) -> None:
        """Let this share of ``least`` go out by now. From any thread."""
        self._allowed = int(self.least * share)

    def finish(self) -> None:
        """Send what is missing of ``least``, then end; ``done`` says when. From any thread."""
        self._finishing = True

    async def run(self) -> None:
        """Send. Raises KafkaError where the broker stays away too long."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks="all",
            enable_idempotence=True,
            compression_type="zstd",
            max_batch_size=_BATCH_BYTES,
            max_request_size=4 * _BATCH_BYTES,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
        )
        await producer.start()
        try:
            while self.sent < len(self._events) and not (
                self._finishing and self.sent >= self.least
            ):
                begun_s = time.monotonic()
                count = self._next_slice()
                await self._send(producer, self._events[self.sent : self.sent + count])
                self.sent += count
                if not self._finishing:
                    await asyncio.sleep(max(0.0, begun_s + _SLICE_S - time.monotonic()))
            await self._wait(0)
            self.done = True
        finally:
            await producer.stop()

    def _next_slice(self) -> int:
        if self._finishing:
            return min(_FULL_SPEED_EVENTS, self.least - self.sent)
        pace = self._events_per_s
        if self.sent >= self._allowed:
            pace /= _SLOWER_BEYOND
        return min(max(1, int(pace * _SLICE_S)), len(self._events) - self.sent)

    async def _send(self, producer: AIOKafkaProducer, events: pl.DataFrame) -> None:
        keys = event_keys(events)
        records = pl.DataFrame({"key": keys, "value": to_wire_json(events)}).with_columns(
            partitions_of(keys, self._partitions), type=events["type"]
        )
        for topic, types in self._topics.items():
            await self._send_topic(producer, topic, records.filter(pl.col("type").is_in(types)))
        if self._sample_topic is not None:
            sampled = hash_strings(keys) % _SAMPLE_EVERY == 0
            await self._send_topic(producer, self._sample_topic, records.filter(sampled))

    async def _send_topic(
        self, producer: AIOKafkaProducer, topic: str, records: pl.DataFrame
    ) -> None:
        parts: Mapping[Any, pl.DataFrame] = records.partition_by("partition", as_dict=True)
        for (partition,), part in parts.items():
            batch = producer.create_batch()
            for key, value in part.select("key", "value").iter_rows():
                pair = {"key": key.encode(), "value": value.encode()}
                if batch.append(timestamp=None, **pair) is None:
                    await self._submit(producer, batch, topic, int(partition))
                    batch = producer.create_batch()
                    batch.append(timestamp=None, **pair)
            await self._submit(producer, batch, topic, int(partition))

    async def _submit(
        self, producer: AIOKafkaProducer, batch: BatchBuilder, topic: str, partition: int
    ) -> None:
        batch.close()
        await self._wait(_BATCHES_IN_FLIGHT - 1)
        self._in_flight.add(await producer.send_batch(batch, topic, partition=partition))

    async def _wait(self, at_most: int) -> None:
        """Until so many batches are in flight. Raises the error of one that failed."""
        while len(self._in_flight) > at_most:
            done, self._in_flight = await asyncio.wait(
                self._in_flight, return_when=asyncio.FIRST_COMPLETED
            )
            for sent in done:
                sent.result()
