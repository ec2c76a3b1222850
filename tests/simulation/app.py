"""What Faust is to a session: membership, recovery of tables, streams; over simulated parts.

The order of things is Faust's: revoke, join, recover the tables, forget what streams still hold,
seek to the committed offsets, read.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

from aiokafka.errors import KafkaError, RebalanceInProgressError, UnknownMemberIdError
from faust.types import TP

from monitor.kafka.block_table import BLOCK_TABLE, BlockMemory
from tests.simulation.broker import Broker, Changelog, Published
from tests.simulation.consumer import CHANGELOG, FENCED, SimulatedConsumer
from tests.simulation.network import Connection, Network, Stream

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Mapping

    from monitor.kafka.chunks import Chunk
    from monitor.kafka.settings import WorkerSettings
    from tests.simulation.group import Group, Membership

__all__ = ["AppSettings", "SimulatedApp", "Surroundings"]

_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSettings:
    """How reading goes: records a fetch, waits, records a recovery batch, chunks lost."""

    fetch_records: int
    fetch_wait_s: float
    recovery_records: int
    loss_rate: float


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an app finds around it."""

    network: Network
    broker: Broker
    group: Group
    changelogs: Mapping[int, Changelog]
    rng: random.Random
    settings: AppSettings


@dataclass(slots=True)
class _Table:
    """The part of a ``BlockTable`` that is used."""

    memory: BlockMemory
    changelog_topic: Any


@dataclass(slots=True)
class _Tables:
    """The part of Faust's tables that is used."""

    actives_ready: bool = False


@dataclass(frozen=True, slots=True)
class _RecordMetadata:
    offset: int


class SimulatedProducer:
    """Appends to the output topics and to the changelog."""

    def __init__(self, around: Surroundings, connection: Connection) -> None:
        self._around = around
        self._process = connection.process
        self._streams = {
            kind: Stream(around.network, connection.process, kind) for kind in ("publish", "blocks")
        }

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: list[tuple[str, bytes]] | None,
    ) -> Awaitable[_RecordMetadata]:
        def append() -> _RecordMetadata:
            if topic == CHANGELOG:
                assert partition is not None
                assert key is not None
                changelog = self._around.changelogs[partition]
                return _RecordMetadata(changelog.append(key.decode(), value))
            assert value is not None
            if partition is not None:
                now_ms = round(1_000 * self._around.network.loop.time())
                tp = TP(topic, partition)
                return _RecordMetadata(self._around.broker.tell_next_stage(tp, value, now_ms))
            published = self._around.broker.published
            published.append(Published(topic, key, value, tuple(headers or ()), self._process.name))
            return _RecordMetadata(len(published) - 1)

        if topic == CHANGELOG:
            return await self._streams["blocks"].send(partition, append)
        # Any hash does: what matters is that a key has one partition.
        number = zlib.crc32(key or b"") % 2 if partition is None else partition
        return await self._streams["publish"].send((topic, number), append)

    async def abandon(self) -> None:
        for stream in self._streams.values():
            stream.abandoned = True


class SimulatedApp:
    """One member of the group. Made in the process that it runs in."""

    rebalancing = False

    def __init__(
        self,
        around: Surroundings,
        settings: WorkerSettings,
        partitions: int,
        receive: Callable[[Chunk], Awaitable[None]],
    ) -> None:
        self._around = around
        self._settings = settings
        self._receive = receive
        self._loop = around.network.loop
        self._connection = Connection(around.network, self._loop.current_process())
        self.consumer = SimulatedConsumer(
            self._connection,
            around.broker,
            around.group,
            around.rng,
            topics=settings.inputs,
            max_records=settings.max_chunk_records,
            fetch_records=around.settings.fetch_records,
            fetch_wait_s=around.settings.fetch_wait_s,
            deliver=self._deliver,
        )
        self.producer = SimulatedProducer(around, self._connection)
        memory = BlockMemory(
            "memory://", cast("Any", self), cast("Any", None), table_name=BLOCK_TABLE
        )
        topic = SimpleNamespace(get_topic_name=lambda: CHANGELOG)
        self.block_table = _Table(memory, topic)
        self.tables = _Tables()
        self._streams: dict[str, deque[Chunk]] = {t: deque() for t in settings.inputs}
        self._arrived = asyncio.Event()
        self._rejoin = asyncio.Event()
        self._crashed: asyncio.Future[BaseException] = self._loop.create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self._standbys: frozenset[TP] = frozenset()
        self._joining = False
        self._changelog_next: dict[TP, int] = {}

    @property
    def consumer_generation_id(self) -> int:
        return self.consumer.app_generation

    async def wait_until_crashed(self) -> BaseException:
        return await self._crashed

    async def start(self) -> None:
        parts = [self._take_part(), self._heartbeat(), self.consumer.fetch_forever()]
        parts += [self._agent(stream) for stream in self._streams.values()]
        parts.append(self._follow_standbys())
        for part in parts:
            task = asyncio.create_task(part)
            task.add_done_callback(self._ended)
            self._tasks.append(task)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        member = self.consumer.member
        if member is not None and self._settings.instance_id is None:
            with suppress(KafkaError):
                await self._connection.call("leave", lambda: self._around.group.leave(member))

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crash(error)

    def _crash(self, error: BaseException) -> None:
        if not self._crashed.done():
            self._crashed.set_result(error)

    # -- membership

    async def _take_part(self) -> None:
        """Join, work until the group rebalances, give everything away, join again."""
        while True:
            self._rejoin.clear()
            membership = await self._join()
            self.consumer.joined(membership)
            await asyncio.sleep(self._around.network.delay_s())  # another thread tells the app
            self.consumer.assign(membership)
            working = asyncio.create_task(self._work(membership))
            try:
                await self._rejoin.wait()
            finally:
                working.cancel()
                await asyncio.wait({working})
            if not working.cancelled():
                working.result()
            await self._revoke()

    async def _join(self) -> Membership:
        group, connection = self._around.group, self._connection
        name, instance = connection.process.name, self._settings.instance_id
        self._joining = True
        while True:
            join = partial(group.join, self.consumer.member, name, instance)
            try:
                membership: Membership = await connection.ask("join", join)
            except UnknownMemberIdError:
                self.consumer.forget_member()
            else:
                self._joining = False
                return membership

    async def _revoke(self) -> None:
        self.consumer.stop_flow()
        if self.consumer.assignment() and self.consumer.before_revoke is not None:
            await self._around.network.faults.point("revoke: begins")
            await self.consumer.before_revoke()
            await self._around.network.faults.point("revoke: done")
        self.consumer.forget()

    async def _heartbeat(self) -> None:
        group = self._around.group
        while True:
            await asyncio.sleep(self._settings.heartbeat_interval_s)
            member, generation = self.consumer.member, self.consumer.generation
            if member is None or self._joining:
                continue

            def serve(member: str = member, generation: int = generation) -> None:
                group.heartbeat(member, generation)

            try:
                await self._connection.call("heartbeat", serve)
            except RebalanceInProgressError:
                if generation == self.consumer.generation:
                    self._rejoin.set()
            except FENCED:
                if generation == self.consumer.generation:
                    self.consumer.forget_member()
                    self._rejoin.set()
            except KafkaError:
                continue

    # -- tables

    async def _work(self, membership: Membership) -> None:
        """Recover the blocks of what is assigned, then read."""
        memory = self.block_table.memory
        self.tables.actives_ready = False
        active = {TP(CHANGELOG, partition) for partition in membership.partitions}
        self._standbys = frozenset(TP(CHANGELOG, partition) for partition in membership.standbys)
        self._changelog_next = {}
        for tp in sorted(active | self._standbys):
            read_to = memory.persisted_offset(tp)
            self._changelog_next[tp] = 0 if read_to is None else read_to + 1
        for tp in sorted(active):
            changelog = self._around.changelogs[tp.partition]
            end = await self._persistently("recovery", partial(getattr, changelog, "end"))
            while self._changelog_next[tp] < end:
                await self._read_changelog("recovery", tp, end)
        await memory.on_recovery_completed(active, set(self._standbys))
        self.tables.actives_ready = True
        for stream in self._streams.values():
            stream.clear()
        await self.consumer.seek_to_committed()
        self.consumer.flow_active = True

    async def _follow_standbys(self) -> None:
        while True:
            await asyncio.sleep(self._around.rng.random())
            for tp in sorted(self._standbys):
                # While the one before was read, others may have been assigned.
                if self.consumer.flow_active and tp in self._standbys:
                    end = self._around.changelogs[tp.partition].end
                    await self._read_changelog("standby", tp, end)

    async def _read_changelog(self, kind: str, tp: TP, end: int) -> None:
        """Apply one batch of records before ``end``."""
        assigned, start = self._changelog_next, self._changelog_next[tp]
        if start >= end:
            return
        changelog = self._around.changelogs[tp.partition]
        batch = await self._persistently(kind, lambda: changelog.read(start))
        if assigned is not self._changelog_next:
            return  # read for an assignment that has ended
        for offset, key, value in batch[: self._around.settings.recovery_records]:
            self.block_table.memory.apply(tp, key.encode(), value, offset)
            self._changelog_next[tp] = offset + 1
        if not batch:  # compacted away
            self._changelog_next[tp] = end

    async def _persistently(self, kind: str, serve: Callable[[], Any]) -> Any:  # noqa: ANN401
        while True:
            try:
                return await self._connection.call(kind, serve)
            except KafkaError:
                await asyncio.sleep(_POLL_S)

    # -- streams

    def _deliver(self, chunk: Chunk) -> None:
        if self._around.rng.random() >= self._around.settings.loss_rate:
            self._streams[chunk.topic].append(chunk)
            self._arrived.set()

    async def _agent(self, stream: deque[Chunk]) -> None:
        while True:
            while not stream:
                await self._arrived.wait()
                self._arrived.clear()
            await asyncio.sleep(self._around.rng.random() * 0.01)
            if stream:
                await self._receive(stream.popleft())
