"""The thread in which aiokafka's consumer runs, and what is asked of it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import aiokafka
from aiokafka.client import ConnectionGroup
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    IllegalGenerationError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from monitor.kafka import columnar_fetch, offset_fetch
from monitor.kafka.chunks import Columns, PartitionPosition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aiokafka.structs import OffsetAndMetadata

__all__ = ["Chunking", "ConsumerThread", "Fetch", "chunking_of"]

_log = logging.getLogger(__name__)

_RESPONSE_BYTES: Final = 4 * 1024 * 1024
_COMMIT_BACKOFF_S: Final = 0.1
_STOP_S: Final = 10.0
# Another generation, or another member that came back under our static id.
_FENCED: Final = (
    UnknownMemberIdError,
    IllegalGenerationError,
    RebalanceInProgressError,
)


@dataclass(frozen=True, slots=True)
class Chunking:
    """How an app wants its chunks; the app carries it as its attribute ``chunking``.

    ``topics`` are delivered as chunks of at most ``max_records`` records, None for all topics
    but changelogs. The broker holds a fetch that has nothing to return for ``fetch_wait_ms``;
    meanwhile aiokafka fetches nothing else from that broker, so it should be short.
    """

    topics: frozenset[str] | None = None
    max_records: int = 5_000
    fetch_wait_ms: int = 100


@dataclass(frozen=True, slots=True)
class Fetch:
    """What one fetch gave, by partition.

    ``records`` are one ``Columns`` where the app wants chunks, else aiokafka's records.
    ``follows`` is where the records handed over before them in this generation ended, None if
    these are the first; ``drained_to`` where all that was handed over ends.
    """

    generation: int
    records: Mapping[TP, list[Any]] = field(default_factory=dict)
    follows: Mapping[TP, int | None] = field(default_factory=dict)
    positions: Mapping[TP, PartitionPosition] = field(default_factory=dict)
    drained_to: Mapping[TP, int] = field(default_factory=dict)


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Fetches, seeks and commits; what was fetched is noted here, where nothing comes between.

    The first four methods are called in the app's thread, all else runs in this.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._noted_membership: tuple[int, str] | None = None
        self._drained_to: dict[TP, int] = {}
        self._started_at: dict[TP, int] = {}

    # -- called in the app's thread

    async def fetch(self, partitions: frozenset[TP], timeout_s: float) -> Fetch:
        """All records that have arrived for ``partitions``, and the positions of all."""
        fetched: Fetch = await self.call_thread(self._fetch, partitions, timeout_s)
        return fetched

    async def reread(
        self, generation: int, tp: TP, *, offset: int | None, follows: int | None
    ) -> None:
        """Read ``tp`` again from ``offset``, None for where this generation began to read it.

        The next records will follow ``follows``. Nothing happens if the generation has changed
        since: then reading has started again from what is committed.
        """
        await self.call_thread(self._reread, generation, tp, offset, follows)

    async def committed_in(
        self, generation: int, tps: Sequence[TP]
    ) -> Mapping[TP, OffsetAndMetadata] | None:
        """What the group has committed of ``tps``; None if the generation has passed."""
        found: Mapping[TP, OffsetAndMetadata] | None
        found = await self.call_thread(self._committed_in, generation, tps)
        return found

    async def commit_in(self, generation: int, offsets: Mapping[TP, OffsetAndMetadata]) -> bool:
        """Commit all or nothing; False if the generation has passed."""
        committed: bool = await self.call_thread(self._commit_in, generation, offsets)
        return committed

    # -- running in this thread

    async def on_start(self) -> None:
        """Start aiokafka's consumer, its records as columns where the app wants chunks."""
        await super().on_start()
        offset_fetch.install(self._ensure_consumer()._coordinator)
        consumer = cast("Any", self.consumer)
        columnar_fetch.install(self._ensure_consumer()._fetcher, consumer.is_chunked)

    async def on_thread_stop(self) -> None:
        """Stop aiokafka's consumer, also in the middle of a rebalance or without a broker."""
        stopping = asyncio.create_task(self._stop_consumer())
        await asyncio.wait({stopping}, timeout=_STOP_S)
        if stopping.done() and not stopping.cancelled():
            stopping.result()
            return
        # Cancelled, though not by us: its fetcher awaits a fetch that it has just cancelled.
        if stopping.cancel():
            _log.warning("the consumer has not left after %.0f s, its connections close", _STOP_S)
        if self._consumer is not None:
            await self._consumer._client.close()

    async def _stop_consumer(self) -> None:
        """Leave the group, then stop.

        aiokafka would see a rebalance through that goes on: until every other member has come, or
        the session is over of the last one that does not.
        """
        coordinator = None if self._consumer is None else self._consumer._coordinator
        if isinstance(coordinator, GroupCoordinator):
            coordinator._coordination_task.cancel()
            await asyncio.wait({coordinator._coordination_task})
            if coordinator._performed_join_prepare:  # it waits for an answer, before any other
                self._close_connection(coordinator.coordinator_id, ConnectionGroup.COORDINATION)
            await coordinator.close()
        await super().on_thread_stop()

    def _close_connection(self, *node_and_group: int | None) -> None:
        connection = self._ensure_consumer()._client._conns.get(node_and_group)
        if connection is not None:
            connection.close()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek where something is committed; the next records there are the first again."""
        offsets: Mapping[TP, int] = await self.call_thread(self._seek_to_committed)
        return offsets

    @property
    def _generation(self) -> int:
        return int(self._ensure_consumer()._coordinator.generation)

    @property
    def _membership(self) -> tuple[int, str]:
        """The generation and who we are in it: a static member may come back into the same."""
        return self._generation, str(self._ensure_consumer()._coordinator.member_id)

    async def _fetch(self, partitions: frozenset[TP], timeout_s: float) -> Fetch:
        generation = self._generation
        drained = await self._fetch_records(
            self._ensure_consumer(), set(partitions), timeout=timeout_s, max_records=None
        )
        # No await from here on: what was drained is either handed over or taken back.
        records = {TP(*tp): found for tp, found in drained.items()}
        first = {tp: _first_offset(found[0]) for tp, found in records.items()}
        if first and (generation != self._generation or not self.consumer.flow_active):
            for tp, offset in first.items():
                self._seek(tp, offset)
            return Fetch(generation)
        if self._membership != self._noted_membership:
            self._noted_membership = self._membership
            self._drained_to.clear()
            self._started_at.clear()
        follows = {tp: self._drained_to.get(tp) for tp in records}
        positions = dict(self._positions())
        for tp, offset in first.items():
            # What was fetched before the seek to what is committed may lie beyond it.
            self._started_at[tp] = min(offset, self._started_at.get(tp, offset))
            self._drained_to[tp] = positions[tp].next_offset
        return Fetch(generation, records, follows, positions, dict(self._drained_to))

    async def _reread(
        self, generation: int, tp: TP, offset: int | None, follows: int | None
    ) -> None:
        start = self._started_at.get(tp) if offset is None else offset
        if generation != self._generation or start is None:
            return
        self._seek(tp, start)
        if follows is None:
            self._drained_to.pop(tp, None)
        else:
            self._drained_to[tp] = follows

    async def _seek_to_committed(self) -> Mapping[TP, int]:
        """As aiokafka does it, but with one request for all partitions, not one for each."""
        consumer = self._ensure_consumer()
        assigned = list(consumer.assignment())
        committed = await consumer._coordinator.fetch_committed_offsets(assigned)
        found: dict[TP, Any] = {TP(*tp): None for tp in assigned}
        for tp, entry in committed.items():
            found[TP(*tp)] = entry.offset
            if entry.offset:  # without one, aiokafka stays where it is
                self._seek(TP(*tp), entry.offset)
                self._drained_to.pop(TP(*tp), None)
        return found

    async def _committed_in(
        self, generation: int, tps: Sequence[TP]
    ) -> Mapping[TP, OffsetAndMetadata] | None:
        wanted = [aiokafka.TopicPartition(tp.topic, tp.partition) for tp in tps]
        found = await self._ensure_consumer()._coordinator.fetch_committed_offsets(wanted)
        if generation != self._generation:
            return None
        return {TP(*tp): committed for tp, committed in found.items()}

    async def _commit_in(self, generation: int, offsets: Mapping[TP, OffsetAndMetadata]) -> bool:
        """As aiokafka commits, but no attempt is made as another member than the first."""
        consumer = self._ensure_consumer()
        coordinator = consumer._coordinator
        wanted = {aiokafka.TopicPartition(*tp): entry for tp, entry in offsets.items()}
        membership = self._membership
        while not coordinator._closing.done():
            await coordinator.ensure_coordinator_known()
            async with coordinator._commit_lock:
                if generation != self._generation or membership != self._membership:
                    return False
                try:
                    # The request takes the member and its generation before the first await.
                    await coordinator._do_commit_offsets(None, wanted)
                except _FENCED:
                    return False
                except KafkaError as error:
                    if not error.retriable:
                        raise
                else:
                    return True
            await asyncio.sleep(_COMMIT_BACKOFF_S)
        return False

    def _seek(self, tp: TP, offset: int) -> None:
        consumer = self._ensure_consumer()
        if tp in consumer.assignment():
            consumer.seek(aiokafka.TopicPartition(tp.topic, tp.partition), offset)

    def _positions(self) -> Iterator[tuple[TP, PartitionPosition]]:
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        if assignment is None:
            return
        for tp in assignment.tps:
            state = assignment.state_value(tp)
            if state is not None and state.has_valid_position:
                yield TP(*tp), PartitionPosition(state.position, state.highwater)

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        self._assignor = self.app.assignor
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset=conf.consumer_auto_offset_reset,
            max_poll_interval_ms=_milliseconds(conf.broker_max_poll_interval or 0),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            # All partitions of a response: larger ones cost more to put together than they save.
            fetch_max_bytes=_RESPONSE_BYTES,
            fetch_max_wait_ms=chunking_of(self.app).fetch_wait_ms,
            request_timeout_ms=_milliseconds(conf.broker_request_timeout),
            check_crcs=conf.broker_check_crcs,
            session_timeout_ms=_milliseconds(conf.broker_session_timeout),
            rebalance_timeout_ms=_milliseconds(conf.broker_rebalance_timeout),
            heartbeat_interval_ms=_milliseconds(conf.broker_heartbeat_interval),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            connections_max_idle_ms=conf.consumer_connections_max_idle_ms,
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )


def chunking_of(app: Any) -> Chunking:
    """What the app carries as ``chunking``, else the defaults."""
    chunking = getattr(app, "chunking", None)
    return chunking if isinstance(chunking, Chunking) else Chunking()


def _first_offset(item: Any) -> int:
    """Of what aiokafka returned for a partition: columns, or its first record."""
    return int(item.offsets[0] if isinstance(item, Columns) else item.offset)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000.0)
