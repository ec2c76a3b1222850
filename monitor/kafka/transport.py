"""Faust's Kafka transport, with one message per fetched chunk instead of one per record.

A stock Faust consumer builds several asyncio objects for every record and passes 13,000 records
a second. Here ``Consumer.getmany`` yields one message whose value is a ``Chunk``; all else
(assignment, agents, tables, recovery, supervision) stays Faust's. Changelogs keep their single
messages. Use it by the URL scheme ``floodwatch://``.

What differs from Faust beyond that, each because records were lost or doubled without it:

- A chunk knows its group generation and what it ``follows``. Records that were fetched but
  cannot be delivered (flow stopped, partition paused) are read again: Faust seeks back to the
  committed offset, which does nothing while a group has not committed yet.
- The committed offset is the caller's (``mark_applied``), not derived from acknowledgements.
- A commit is sent only in the generation it was computed in.
- ``before_revoke`` runs, and its offsets are committed, before partitions are given away.
- Partitions are assigned by Faust's assignor: topics with the same number of partitions and the
  same subscribers are co-partitioned. (aiokafka's round robin, which Faust takes when there are
  neither tables nor standbys, spreads partition n of three topics over three workers.)
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import aiokafka
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from monitor.kafka import columnar_fetch
from monitor.kafka.chunks import Chunk, Columns, PartitionPosition, split_columns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from faust.types import Message

__all__ = ["SCHEME", "Chunking", "Consumer", "ConsumerThread", "Producer", "Transport"]

SCHEME: Final = "floodwatch"

_POLL_S: Final = 0.05
_PAUSED_POLL_S: Final = 0.01
_ABANDON_TIMEOUT_S: Final = 1.0


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
class _Fetch:
    generation: int
    records: Mapping[TP, list[Any]]
    positions: Mapping[TP, PartitionPosition]


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread in which aiokafka runs: everything here but ``fetch`` and its kind runs in it."""

    async def on_start(self) -> None:
        """Start aiokafka's consumer, its records as columns where the app wants chunks."""
        await super().on_start()
        consumer = cast("Consumer", self.consumer)
        columnar_fetch.install(self._ensure_consumer()._fetcher, consumer.is_chunked)

    async def on_thread_stop(self) -> None:
        """Stop aiokafka's consumer, also while it is backing off from a lost broker."""
        try:
            await super().on_thread_stop()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not us: its fetcher awaits a fetch that it has just cancelled, and stops half-way.
            await self._ensure_consumer()._client.close()

    async def fetch(self, partitions: frozenset[TP], timeout_s: float) -> _Fetch:
        """All records that have arrived for ``partitions``, and the positions of all others."""
        fetched: _Fetch = await self.call_thread(self._fetch, partitions, timeout_s)
        return fetched

    async def rewind(self, generation: int, offsets: Mapping[TP, int]) -> None:
        """Read again from ``offsets``, unless the generation has changed since."""
        await self.call_thread(self._rewind, generation, offsets)

    async def commit_in(self, generation: int, offsets: Mapping[TP, int]) -> bool:
        """Commit unless the generation has changed since ``offsets`` were computed."""
        committed: bool = await self.call_thread(self._commit_in, generation, offsets)
        return committed

    @property
    def _generation(self) -> int:
        return int(self._ensure_consumer()._coordinator.generation)

    async def _fetch(self, partitions: frozenset[TP], timeout_s: float) -> _Fetch:
        generation = self._generation
        records = await self._fetch_records(
            self._ensure_consumer(), set(partitions), timeout=timeout_s, max_records=None
        )
        # No await from here on: what was drained is either handed over or taken back.
        first = {TP(*tp): _first_offset(found[0]) for tp, found in records.items()}
        if first and (generation != self._generation or not self.consumer.flow_active):
            self._seek_assigned(first)
            return _Fetch(generation, {}, {})
        return _Fetch(
            generation,
            {TP(*tp): found for tp, found in records.items()},
            dict(self._positions()),
        )

    async def _rewind(self, generation: int, offsets: Mapping[TP, int]) -> None:
        if generation == self._generation:
            self._seek_assigned(offsets)

    async def _commit_in(self, generation: int, offsets: Mapping[TP, int]) -> bool:
        if generation != self._generation:
            self.log.info("not committing %r: the group has rebalanced", offsets)
            return False
        return bool(await self._commit(offsets))

    def _seek_assigned(self, offsets: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        for tp, offset in offsets.items():
            if tp in assigned:
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


class Consumer(driver.Consumer):
    """A Faust consumer that delivers chunks and commits what its caller has applied.

    Not thread-safe: use it in the app's event loop.
    """

    before_revoke: Callable[[], Awaitable[object]] | None = None
    """Awaited before partitions are given away; what it marks as applied is still committed."""

    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._chunking = chunking_of(self.app)
        self._held: set[TP] = set()
        self._applied: dict[TP, tuple[int, int]] = {}
        self._positions: dict[TP, PartitionPosition] = {}
        self._drained_to: dict[TP, int] = {}

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def discard(self) -> None:
        """Free what a consumer holds that was made but never started."""
        if not self._thread._thread_started.is_set():
            self._thread.thread_loop.close()

    # -- what the caller says and asks

    def hold(self, tp: TP) -> None:
        """Fetch nothing more from ``tp`` until ``release``; what is on its way still arrives."""
        self._held.add(tp)

    def release(self, tp: TP) -> None:
        """Fetch from ``tp`` again."""
        self._held.discard(tp)

    def mark_applied(self, tp: TP, next_offset: int, generation: int) -> None:
        """Everything of ``tp`` below ``next_offset`` is done and may be committed.

        Ignored if ``generation`` is not the current one or partitions are being given away.
        """
        if generation == self.app.consumer_generation_id and tp in self.assignment():
            self._applied[tp] = (generation, next_offset)

    def read_position(self, tp: TP) -> PartitionPosition | None:
        """Where reading of ``tp`` stood after the newest fetch; None before the first one."""
        return self._positions.get(tp)

    def caught_up(self, tp: TP, received_to: int | None) -> bool:
        """Whether a receiver that got chunks up to ``received_to`` has all there is of ``tp``."""
        position = self._positions.get(tp)
        return (
            position is not None and position.caught_up and self._drained_to.get(tp) == received_to
        )

    # -- reading

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Fetch once and yield a message per chunk (per record for topics not chunked)."""
        if not self.flow_active:
            await self.wait(cast("Any", self.can_resume_flow))
        partitions = frozenset(self._get_active_partitions() - self._held)
        if self.should_stop:
            return
        if not partitions:
            await asyncio.sleep(_PAUSED_POLL_S)
            return
        self.not_waiting_next_records.clear()
        try:
            fetch = await self._thread.fetch(partitions, min(timeout, _POLL_S))
        finally:
            self.not_waiting_next_records.set()
        if fetch.generation != self.app.consumer_generation_id:
            return
        follows = {tp: self._drained_to.get(tp) for tp in fetch.records}
        self._positions.update(fetch.positions)
        for tp in fetch.records:
            self._drained_to[tp] = fetch.positions[tp].next_offset
            self.app.monitor.track_tp_end_offset(tp, fetch.positions[tp].end or 0)
        for tp, records in fetch.records.items():
            for message in self._messages(tp, records, follows[tp], fetch):
                if not self._deliverable(tp, fetch.generation):
                    await self._take_back(tp, message, fetch.generation)
                    break
                yield tp, message

    def _messages(
        self, tp: TP, records: list[Any], follows: int | None, fetch: _Fetch
    ) -> Iterator[ConsumerMessage]:
        if not self.is_chunked(tp):
            for record in records:
                yield self._to_message(tp, record)
            return
        (columns,) = records
        for chunk in split_columns(
            columns,
            topic=tp.topic,
            partition=tp.partition,
            generation=fetch.generation,
            follows=follows,
            next_offset=fetch.positions[tp].next_offset,
            max_records=self._chunking.max_records,
        ):
            yield self._chunk_message(tp, chunk)

    def _chunk_message(self, tp: TP, chunk: Chunk) -> ConsumerMessage:
        return ConsumerMessage(
            topic=chunk.topic,
            partition=chunk.partition,
            offset=chunk.last_offset,
            timestamp=chunk.columns.timestamps_ms[-1] / 1000.0,
            timestamp_type=0,
            headers=[],
            key=None,
            value=cast("Any", chunk),
            checksum=None,
            tp=tp,
            generation_id=chunk.generation,
        )

    def _deliverable(self, tp: TP, generation: int) -> bool:
        return (
            self.flow_active
            and generation == self.app.consumer_generation_id
            and tp not in self._paused_partitions
        )

    async def _take_back(self, tp: TP, message: ConsumerMessage, generation: int) -> None:
        """Have the records from ``message`` on read again (in a new generation they are)."""
        value = message.value
        offset, follows = message.offset, None
        if isinstance(value, Chunk):
            offset, follows = value.first_offset, value.follows
        self._positions.pop(tp, None)
        if follows is None:
            self._drained_to.pop(tp, None)
        else:
            self._drained_to[tp] = follows
        await self._thread.rewind(generation, {tp: offset})

    def is_chunked(self, tp: TP) -> bool:
        """Whether records of ``tp`` are delivered as chunks."""
        if self._chunking.topics is None:
            return not self._is_changelog_tp(tp)
        return tp.topic in self._chunking.topics

    # -- committing

    def ack(self, message: Message) -> bool:
        """Forget a chunk: what is committed is what was marked as applied."""
        if not self.is_chunked(message.tp):
            return bool(super().ack(message))
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    def _new_offset(self, tp: TP) -> int | None:
        if not self.is_chunked(tp):
            return super()._new_offset(tp)
        # Faust's compiled stream iterator books acknowledgements here, past ``ack``.
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        generation, offset = self._applied.get(tp, (None, None))
        return offset if generation == self.app.consumer_generation_id else None

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        for tp in {*self._acked, *self._applied}:
            if topics is None or tp in topics or tp.topic in topics:
                yield tp

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        return await self._thread.commit_in(self.app.consumer_generation_id, offsets)

    # -- rebalancing

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish, commit, and only then give away."""
        if revoked and not self.app.should_stop:
            self.stop_flow()
            self.app.flow_control.suspend()
            try:
                if self.before_revoke is not None:
                    await self.before_revoke()
                await self.commit_applied()
            except Exception as error:  # noqa: BLE001 - the app crashes with it
                # aiokafka only logs what its listener raises: without this nobody would know.
                await self.crash(error)
        self._forget()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Start from what the group has committed."""
        self._forget()
        await super().on_partitions_assigned(assigned, generation_id)

    async def commit_applied(self) -> None:
        """Commit what is applied by now, also if another commit is under way."""
        if self._commit_fut is not None:
            await asyncio.wait({self._commit_fut})
        await self.force_commit()

    async def on_stop(self) -> None:
        """Commit, unless the broker does not answer: Faust would wait for it for ever."""
        try:
            async with asyncio.timeout(self.app.conf.broker_session_timeout):
                await self.commit_applied()
        except TimeoutError:
            self.log.warning("stopping without a last commit: the broker does not answer")
        cast("Transport", self.transport)._topic_waiters.clear()

    def _forget(self) -> None:
        self._held.clear()
        self._applied.clear()
        self._positions.clear()
        self._drained_to.clear()


class Producer(driver.Producer):
    """Faust's producer, idempotent: its own retries neither double nor reorder messages."""

    _abandoned = False

    async def abandon(self) -> None:
        """Give up on what is not acknowledged: an idempotent producer would try for ever."""
        self._abandoned = True
        if self._producer is not None:
            sending = self._producer._sender.sender_task
            sending.cancel()
            await asyncio.wait({sending}, timeout=_ABANDON_TIMEOUT_S)

    async def flush(self) -> None:
        """Wait until everything is acknowledged, unless that was given up."""
        if not self._abandoned:
            await super().flush()

    def _settings_extra(self) -> Mapping[str, Any]:
        return {**super()._settings_extra(), "acks": "all", "enable_idempotence": True}


class Transport(driver.Transport):
    """Registered for ``floodwatch://`` as an entry point in the group ``faust.transports``."""

    Consumer = Consumer
    Producer = Producer


def chunking_of(app: Any) -> Chunking:
    """What the app carries as ``chunking``, else the defaults."""
    chunking = getattr(app, "chunking", None)
    return chunking if isinstance(chunking, Chunking) else Chunking()


def register_scheme() -> None:
    """Make the URL scheme known where the distribution's entry points are not installed."""
    TRANSPORTS.aliases.setdefault(SCHEME, f"{__name__}:Transport")


def _first_offset(item: Any) -> int:
    """Of what aiokafka returned for a partition: columns, or its first record."""
    return int(item.offsets[0] if isinstance(item, Columns) else item.offset)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000.0)
