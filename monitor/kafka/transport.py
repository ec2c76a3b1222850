"""Faust's Kafka transport, with one message per fetched chunk instead of one per record.

A stock Faust consumer builds several asyncio objects for every record and passes 13,000 records
a second. Here ``Consumer.getmany`` yields one message whose value is a ``Chunk``; all else
(assignment, agents, tables, recovery, supervision) stays Faust's. Changelogs keep their single
messages. Use it by the URL scheme ``floodwatch://``.

What differs from Faust beyond that, each because records were lost or doubled without it:

- A chunk knows its group generation and what it ``follows``. Records that were fetched but
  cannot be delivered (flow stopped, partition paused) are read again: Faust seeks back to the
  committed offset, which does nothing while a group has not committed yet. So are those that a
  receiver misses (``reread``): Faust empties its stream buffers whenever it resumes after a
  rebalance, and with two rebalances in a row it does so while reading goes on.
- Offsets of the topics that come in chunks are committed by the caller (``commit_in``), with
  metadata, in the generation they were computed in. Faust commits nothing of these topics.
- ``before_revoke`` runs before partitions are given away.
- Partitions are assigned by Faust's assignor: topics with the same number of partitions and the
  same subscribers are co-partitioned. (aiokafka's round robin, which Faust takes when there are
  neither tables nor standbys, spreads partition n of three topics over three workers.)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from monitor.kafka.chunks import Chunk, PartitionPosition, split_columns
from monitor.kafka.consumer_thread import ConsumerThread, Fetch, chunking_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from aiokafka.structs import OffsetAndMetadata
    from faust.types import Message

__all__ = ["SCHEME", "Consumer", "Producer", "Transport", "register_scheme"]

SCHEME: Final = "floodwatch"

_POLL_S: Final = 0.05
_PAUSED_POLL_S: Final = 0.01
_ABANDON_TIMEOUT_S: Final = 1.0


class Consumer(driver.Consumer):
    """A Faust consumer that delivers chunks and leaves committing to its caller.

    Not thread-safe: use it in the app's event loop.
    """

    before_revoke: Callable[[], Awaitable[object]] | None = None
    """Awaited before partitions are given away: the last chance to commit."""

    epoch = 0
    """How often partitions were assigned here. Unlike the group's generation it never repeats."""

    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._chunking = chunking_of(self.app)
        self._held: set[TP] = set()
        self._positions: dict[TP, PartitionPosition] = {}
        self._drained_to: Mapping[TP, int] = {}
        self._read_in: dict[TP, int] = {}

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

    def drained_to(self, tp: TP) -> int | None:
        """Where the records end that this generation has handed over; None if there are none."""
        return self._drained_to.get(tp)

    def reread(self, tp: TP, received_to: int | None, generation: int) -> None:
        """Read again what a receiver of chunks up to ``received_to`` (None: of none) has missed."""
        self._positions.pop(tp, None)
        self._read_offset[tp] = None  # Faust drops what lies before it
        again = self._thread.reread(generation, tp, offset=received_to, follows=received_to)
        self.add_future(again)

    def read_position(self, tp: TP) -> PartitionPosition | None:
        """Where reading of ``tp`` stood after the newest fetch; None before the first one."""
        return self._positions.get(tp)

    def reads(self, tp: TP, generation: int) -> bool:
        """Whether ``tp`` was read in this generation, also if nothing came: recovery is over."""
        return self._read_in.get(tp) == generation

    def caught_up(self, tp: TP, received_to: int | None) -> bool:
        """Whether a receiver that got chunks up to ``received_to`` has all there is of ``tp``."""
        position = self._positions.get(tp)
        if position is None or not position.caught_up:
            return False
        drained_to = self._drained_to.get(tp)
        return drained_to is None or drained_to == received_to

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
        self._positions.update(fetch.positions)
        self._drained_to = fetch.drained_to
        for tp in partitions:
            if self._deliverable(tp, fetch.generation):
                self._read_in[tp] = fetch.generation
        for tp, records in fetch.records.items():
            self.app.monitor.track_tp_end_offset(tp, fetch.positions[tp].end or 0)
            for message in self._messages(tp, records, fetch):
                if not self._deliverable(tp, fetch.generation):
                    await self._take_back(tp, message, fetch.generation)
                    break
                yield tp, message

    def _messages(self, tp: TP, records: list[Any], fetch: Fetch) -> Iterator[ConsumerMessage]:
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
            follows=fetch.follows[tp],
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
        chunk = cast("Any", message.value)
        offset, follows = message.offset, None
        if isinstance(chunk, Chunk):
            offset, follows = chunk.first_offset, chunk.follows
        self._positions.pop(tp, None)
        await self._thread.reread(generation, tp, offset=offset, follows=follows)

    def is_chunked(self, tp: TP) -> bool:
        """Whether records of ``tp`` are delivered as chunks."""
        if self._chunking.topics is None:
            return not self._is_changelog_tp(tp)
        return tp.topic in self._chunking.topics

    # -- committing

    async def committed_in(
        self, generation: int, tps: Sequence[TP]
    ) -> Mapping[TP, OffsetAndMetadata] | None:
        """What the group has committed of ``tps``; None if the generation has passed."""
        return await self._thread.committed_in(generation, tps)

    async def commit_in(self, generation: int, offsets: Mapping[TP, OffsetAndMetadata]) -> bool:
        """Commit all or nothing; False if the generation has passed."""
        return await self._thread.commit_in(generation, offsets)

    def ack(self, message: Message) -> bool:
        """Forget a chunk."""
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
        return None

    # -- rebalancing

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish, and only then give away."""
        if revoked and not self.app.should_stop:
            self.stop_flow()
            self.app.flow_control.suspend()
            try:
                if self.before_revoke is not None:
                    await self.before_revoke()
            except Exception as error:  # noqa: BLE001 - the app crashes with it
                # aiokafka only logs what its listener raises: without this nobody would know.
                await self.crash(error)
        self._forget()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Start from what the group has committed."""
        self.epoch += 1
        self._forget()
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_stop(self) -> None:
        """Stop without Faust's last commit: it has nothing to say, and would wait for a broker."""
        cast("Transport", self.transport)._topic_waiters.clear()

    def _forget(self) -> None:
        self._held.clear()
        self._positions.clear()
        self._drained_to = {}
        self._read_in.clear()


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


def register_scheme() -> None:
    """Make the URL scheme known where the distribution's entry points are not installed."""
    TRANSPORTS.aliases.setdefault(SCHEME, f"{__name__}:Transport")
