"""The offsets that the consumer group keeps, read and written in one generation of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from monitor.checkpoint.contract import CommittedOffset
from monitor.checkpoint.errors import FencedError
from monitor.kafka.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from monitor.kafka.transport import Consumer

__all__ = ["GroupOffsets"]


class GroupOffsets:
    """What the group has committed of the input ``topics``.

    Kafka refuses a commit of an older generation, and answers one request for all topics of a
    partition with one record batch: they change together.
    """

    def __init__(self, consumer: Consumer, topics: Sequence[str], timeout_s: float) -> None:
        self._consumer = consumer
        self._topics = tuple(topics)
        self._timeout_s = timeout_s

    async def committed(self, partition: int, generation: int) -> Mapping[str, CommittedOffset]:
        """By topic, what is committed. Raises FencedError if the generation has passed."""
        tps = [TP(topic, partition) for topic in self._topics]
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await self._consumer.committed_in(generation, tps)
        except TimeoutError as error:
            raise PublishError(
                f"partition {partition}: the group's coordinator did not say what is committed "
                f"within {self._timeout_s:g} s; is the broker reachable?"
            ) from error
        if found is None:
            raise FencedError(f"generation {generation} has passed")
        return {tp.topic: CommittedOffset(o.offset, o.metadata or "") for tp, o in found.items()}

    async def commit(
        self, partition: int, generation: int, offsets: Mapping[str, CommittedOffset]
    ) -> None:
        """Commit. Raises FencedError if the generation has passed."""
        wanted = {
            TP(topic, partition): OffsetAndMetadata(entry.offset, entry.metadata)
            for topic, entry in offsets.items()
        }
        try:
            async with asyncio.timeout(self._timeout_s):
                accepted = await self._consumer.commit_in(generation, wanted)
        except TimeoutError as error:
            # It may have been accepted all the same: whoever starts next sees which.
            raise PublishError(
                f"partition {partition}: a commit was not answered within {self._timeout_s:g} s; "
                "is the broker reachable?"
            ) from error
        if not accepted:
            raise FencedError(f"generation {generation} has passed")
