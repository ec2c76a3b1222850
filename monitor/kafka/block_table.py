"""The changelog-backed Faust table that holds the blocks of checkpoints.

Faust restores it (and, on standbys, keeps following it) and says when that is done. Writing goes
past Faust's own change log calls: those do not tell when a record is acknowledged.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from faust.stores import memory
from faust.tables import Table, TableManager
from faust.tables.recovery import RebalanceAgain, Recovery
from faust.types import TP
from mode.utils.queues import ThrowableQueue

from monitor.kafka.outbound import OutboundMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from faust.types import AppT, EventT

    from monitor.kafka.publisher import Publisher

__all__ = ["BLOCK_TABLE", "BlockTable", "BlockTables", "ChangelogQueue", "KafkaBlocks"]

BLOCK_TABLE: Final = "checkpoints"


class BlockMemory(memory.Store[bytes, bytes]):
    """Blocks by partition, of partitions that are active here or followed as standbys.

    Unlike Faust's own memory store it remembers how far it has read, and keeps what a standby
    has read: a standby that takes over only reads what it has not seen.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.blocks: dict[int, dict[str, bytes]] = {}
        self._read_to: dict[TP, int] = {}

    def apply_changelog_batch(
        self,
        batch: Iterable[EventT[Any]],
        to_key: Callable[[Any], Any],
        to_value: Callable[[Any], Any],
    ) -> None:
        """Apply what recovery has read."""
        for event in batch:
            message = event.message
            self.apply(message.tp, message.key, message.value, message.offset)

    def apply(self, tp: TP, key: Any, value: bytes | None, offset: int) -> None:
        """Note a record that was read from the changelog."""
        self._note(tp, key, value)
        self._read_to[tp] = max(offset, self._read_to.get(tp, -1))

    def wrote(self, tp: TP, key: Any, value: bytes | None, offset: int) -> None:
        """Note a record that was written here.

        If others have written before it, what they wrote is still to be read: a worker that was
        paused does not know what its successor did meanwhile.
        """
        self._note(tp, key, value)
        if offset == self._read_to.get(tp, -1) + 1:
            self._read_to[tp] = offset

    def _note(self, tp: TP, key: Any, value: bytes | None) -> None:
        name = (key or b"").decode(errors="replace")
        blocks = self.blocks.setdefault(tp.partition, {})
        if value is None:
            blocks.pop(name, None)
        else:
            blocks[name] = value

    def persisted_offset(self, tp: TP) -> int | None:
        """How far the changelog was read, so that recovery goes on from there."""
        return self._read_to.get(tp)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Forget partitions that are somebody else's now."""
        here = active_tps | standby_tps
        for tp in set(self._read_to) - here:
            del self._read_to[tp]
            self.blocks.pop(tp.partition, None)


class BlockTable(Table[bytes, bytes]):
    """A Faust table whose store is a ``BlockMemory``."""

    def _new_store(self) -> BlockMemory:
        return BlockMemory(
            "memory://", self.app, self, table_name=self.name, loop=self.loop, options=self.options
        )

    @property
    def memory(self) -> BlockMemory:
        """The store."""
        store = self.data
        assert isinstance(store, BlockMemory)
        return store


class ChangelogQueue(ThrowableQueue["EventT[Any]"]):
    """What was read of changelogs, on its way to a store: all of this generation, in order.

    Recovery takes what lies before the newest offset it has seen for known, so that a record left
    out here would be missing for good. Faust leaves some out: it empties its queue whenever flow
    resumes, the last time when standbys are being read already; and a record that waited for flow
    comes after the emptying, before what was emptied is read again. Here nothing is emptied, and
    what a past generation has read goes no further: the next one reads it again.
    """

    def __init__(self, app: AppT) -> None:
        super().__init__(maxsize=app.conf.stream_buffer_maxsize, flow_control=app.flow_control)
        self._app = app

    async def get(self) -> EventT[Any]:
        """The next record that this generation has read."""
        while True:
            event: EventT[Any] = await super().get()
            if event.message.generation_id == self._app.consumer_generation_id:
                return event


class BlockRecovery(Recovery):
    """Faust's recovery, which a rebalance ends at whatever step it is.

    Faust's own goes on where the rebalance comes while actives are being read: it forgets what it
    caught there, then seeks standbys to positions that are no longer set, and the worker crashes.
    """

    async def _wait(self, coro: Any, timeout: Any = None) -> None:
        if self.signal_recovery_start.is_set():
            if asyncio.iscoroutine(coro):
                coro.close()
            raise RebalanceAgain
        try:
            await super()._wait(coro, timeout)
        except Exception as error:
            if self.signal_recovery_start.is_set():
                raise RebalanceAgain from error
            raise


class BlockTables(TableManager):
    """Faust's tables, with a ``ChangelogQueue`` and a ``BlockRecovery``."""

    @property
    def recovery(self) -> Recovery:
        """What reads changelogs after a rebalance."""
        recovery = self._recovery
        if recovery is None:
            recovery = self._recovery = BlockRecovery(
                self.app, self, beacon=self.beacon, loop=self.loop
            )
        return recovery

    @property
    def changelog_queue(self) -> ThrowableQueue[EventT[Any]]:
        """From the consumer to recovery."""
        queue = self._changelog_queue
        if queue is None:
            queue = self._changelog_queue = ChangelogQueue(self.app)
        return queue


class KafkaBlocks:
    """Where a worker's checkpoints keep their blocks: a table in memory and on its changelog."""

    def __init__(self, table: BlockTable, publisher: Publisher) -> None:
        self._memory = table.memory
        self._topic: str = table.changelog_topic.get_topic_name()
        self._publisher = publisher

    def keys(self, partition: int) -> Collection[str]:
        """The keys of a partition."""
        return list(self._memory.blocks.get(partition, ()))

    def get(self, partition: int, key: str) -> bytes | None:
        """The value of a key, None if there is none."""
        return self._memory.blocks.get(partition, {}).get(key)

    async def put(self, partition: int, items: Mapping[str, bytes | None]) -> None:
        """Write values (None: a tombstone). Raises PublishError unless all are acknowledged."""
        messages = [
            OutboundMessage(self._topic, key.encode(), value, partition=partition)
            for key, value in items.items()
        ]
        offsets = await self._publisher.publish(messages)
        tp = TP(self._topic, partition)
        for message, offset in zip(messages, offsets, strict=True):
            self._memory.wrote(tp, message.key, message.value, offset)
