"""What ``monitor.kafka.transport.Consumer`` is to a session, over the simulated broker and group.

It keeps to the letter of that class: chunks know their generation and what they follow; what
cannot be delivered is read again; commits are tried in one generation only.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from aiokafka.errors import (
    IllegalGenerationError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from monitor.checkpoint.contract import CommittedOffset
from monitor.kafka.chunks import Columns, PartitionPosition, split_columns

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from monitor.kafka.chunks import Chunk
    from tests.simulation.broker import Broker
    from tests.simulation.group import Group, Membership
    from tests.simulation.network import Connection

__all__ = ["CHANGELOG", "FENCED", "SimulatedConsumer"]

CHANGELOG: Final = "simulated-checkpoints-changelog"
FENCED: Final = (
    UnknownMemberIdError,
    IllegalGenerationError,
    RebalanceInProgressError,
)
_BACKOFF_S: Final = 0.1


class SimulatedConsumer:
    """Reads, seeks and commits for one process. ``deliver`` takes the chunks it has read."""

    before_revoke: Callable[[], Awaitable[object]] | None = None
    epoch = 0
    started = True

    def __init__(
        self,
        connection: Connection,
        broker: Broker,
        group: Group,
        rng: random.Random,
        *,
        topics: Sequence[str],
        max_records: int,
        fetch_records: int,
        fetch_wait_s: float,
        deliver: Callable[[Chunk], None],
    ) -> None:
        self.member: str | None = None
        self.generation = -1
        self.app_generation = -1
        self.flow_active = False
        self._connection = connection
        self._broker = broker
        self._group = group
        self._rng = rng
        self._topics = tuple(topics)
        self._max_records = max_records
        self._fetch_records = fetch_records
        self._fetch_wait_s = fetch_wait_s
        self._deliver = deliver
        self._assignment: frozenset[TP] = frozenset()
        self._changelogs: frozenset[TP] = frozenset()
        self._held: set[TP] = set()
        self._next: dict[TP, int] = {}
        self._positions: dict[TP, PartitionPosition] = {}
        self._drained_to: dict[TP, int] = {}
        self._started_at: dict[TP, int] = {}

    # -- what a session uses

    def assignment(self) -> Collection[TP]:
        return sorted(self._assignment | self._changelogs)  # a set has no order that replays

    def is_chunked(self, tp: TP) -> bool:
        return tp.topic in self._topics

    def hold(self, tp: TP) -> None:
        self._held.add(tp)

    def release(self, tp: TP) -> None:
        self._held.discard(tp)

    def drained_to(self, tp: TP) -> int | None:
        return self._drained_to.get(tp)

    def read_position(self, tp: TP) -> PartitionPosition | None:
        return self._positions.get(tp)

    def reads(self, tp: TP, generation: int) -> bool:
        return tp in self._positions and generation == self.generation

    def caught_up(self, tp: TP, received_to: int | None) -> bool:
        position = self._positions.get(tp)
        if position is None or not position.caught_up:
            return False
        drained_to = self._drained_to.get(tp)
        return drained_to is None or drained_to == received_to

    def reread(self, tp: TP, received_to: int | None, generation: int) -> None:
        self._positions.pop(tp, None)
        loop = asyncio.get_running_loop()
        # The real one asks its thread for it: what that is about to hand over still comes.
        loop.call_later(self._rng.random() * 0.01, self._reread, tp, received_to, generation)

    def _reread(self, tp: TP, received_to: int | None, generation: int) -> None:
        start = self._started_at.get(tp) if received_to is None else received_to
        if generation != self.generation or start is None or tp not in self._next:
            return
        self._next[tp] = start
        if received_to is None:
            self._drained_to.pop(tp, None)
        else:
            self._drained_to[tp] = received_to

    async def committed_in(
        self, generation: int, tps: Sequence[TP]
    ) -> Mapping[TP, OffsetAndMetadata] | None:
        (partition,) = {tp.partition for tp in tps}
        found = await self._persistently("committed", lambda: self._group.committed(partition))
        if generation != self.generation:
            return None
        return {
            tp: OffsetAndMetadata(found[tp.topic].offset, found[tp.topic].metadata)
            for tp in tps
            if tp.topic in found
        }

    async def commit_in(self, generation: int, offsets: Mapping[TP, OffsetAndMetadata]) -> bool:
        (partition,) = {tp.partition for tp in offsets}
        entries = {tp.topic: CommittedOffset(o.offset, o.metadata) for tp, o in offsets.items()}
        member = self.member
        if member is None:
            return False

        def serve() -> None:
            self._group.commit(member, generation, partition, entries)

        while (generation, member) == (self.generation, self.member):
            try:
                await self._connection.call("commit", serve)
            except FENCED:
                return False
            except KafkaError as error:
                if not error.retriable:
                    raise
            else:
                return True
            await asyncio.sleep(_BACKOFF_S)
        return False

    def stop_flow(self) -> None:
        self.flow_active = False

    def discard(self) -> None:
        """Nothing was made that would have to be freed."""

    # -- what Faust does with it

    def joined(self, membership: Membership) -> None:
        """The coordinator knows of the new generation; the app does not yet."""
        self.member = membership.member
        self.generation = membership.generation
        self.forget()

    def forget_member(self) -> None:
        """The coordinator says that there is no such member."""
        self.member = None
        self.generation = -1

    def assign(self, membership: Membership) -> None:
        """The app knows of the new generation."""
        self.forget()
        self.epoch += 1
        self.app_generation = membership.generation
        self._assignment = frozenset(
            TP(topic, partition) for topic in self._topics for partition in membership.partitions
        )
        self._changelogs = frozenset(
            TP(CHANGELOG, partition) for partition in membership.partitions | membership.standbys
        )
        self._next.clear()
        self._started_at.clear()

    def forget(self) -> None:
        """What is known of a generation that has ended."""
        self._held.clear()
        self._positions.clear()
        self._drained_to = {}

    async def seek_to_committed(self) -> None:
        """Begin where the group left off, or with the first record."""
        for partition in sorted({tp.partition for tp in self._assignment}):

            def serve(partition: int = partition) -> Mapping[str, CommittedOffset]:
                return self._group.committed(partition)

            found = await self._persistently("seek", serve)
            for tp in sorted(self._assignment):
                if tp.partition == partition:
                    first = self._broker.inputs[tp].start
                    self._next[tp] = found[tp.topic].offset if tp.topic in found else first

    async def fetch_forever(self) -> None:
        """Fetch and deliver while the flow is active."""
        while True:
            tps = sorted(tp for tp in self._next if tp not in self._held)
            if not self.flow_active or not tps:
                await asyncio.sleep(self._fetch_wait_s)
            elif not await self._fetch(self._rng.sample(tps, self._rng.randint(1, len(tps)))):
                await asyncio.sleep(self._rng.random() * self._fetch_wait_s)

    async def _fetch(self, tps: Sequence[TP]) -> bool:
        """Fetch once; whether there was anything."""
        generation = self.generation
        asked = {tp: self._next[tp] for tp in tps}

        def serve() -> dict[TP, tuple[Any, int, int]]:
            logs = self._broker.inputs
            return {
                tp: (*logs[tp].read(at, self._fetch_records), logs[tp].end)
                for tp, at in asked.items()
            }

        answer = await self._persistently("fetch", serve)
        if not self.flow_active or not generation == self.generation == self.app_generation:
            return False
        some = False
        for tp, (records, next_offset, end) in answer.items():
            if self._next.get(tp) != asked[tp]:
                continue  # sought meanwhile
            self._next[tp] = next_offset
            if records:
                some = True
                self._hand_over(tp, records, next_offset)
            self._positions[tp] = PartitionPosition(next_offset, end)
        return some

    def _hand_over(self, tp: TP, records: Sequence[Any], next_offset: int) -> None:
        columns = Columns(
            [record.offset for record in records],
            [record.timestamp_ms for record in records],
            [record.key for record in records],
            [record.value for record in records],
        )
        follows = self._drained_to.get(tp)
        self._started_at.setdefault(tp, records[0].offset)
        self._drained_to[tp] = next_offset
        for chunk in split_columns(
            columns,
            topic=tp.topic,
            partition=tp.partition,
            generation=self.generation,
            follows=follows,
            next_offset=next_offset,
            max_records=self._max_records,
        ):
            self._deliver(chunk)

    async def _persistently(self, kind: str, serve: Callable[[], Any]) -> Any:  # noqa: ANN401
        """Ask until there is an answer."""
        while True:
            try:
                return await self._connection.call(kind, serve)
            except KafkaError:
                await asyncio.sleep(_BACKOFF_S)
