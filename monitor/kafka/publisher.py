"""Publishing with proof: every message acknowledged by the broker, or an error."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from aiokafka.errors import KafkaError
from faust.exceptions import ProducerSendError

from monitor.kafka.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from faust.types import RecordMetadata

    from monitor.kafka.observer import WorkerObserver
    from monitor.kafka.outbound import OutboundMessage
    from monitor.kafka.settings import WorkerSettings

__all__ = ["Publisher", "Sender"]

_log = logging.getLogger(__name__)


class Sender(Protocol):
    """The part of Faust's producer that we use."""

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: list[tuple[str, bytes]] | None,
    ) -> Awaitable[RecordMetadata]: ...


class Publisher:
    """Sends the messages of a result and waits until each is acknowledged.

    After a failure all of them are sent again, in order: a receiver may see a message twice
    (ids are stable), but never an older decision after a newer one.
    """

    def __init__(self, sender: Sender, settings: WorkerSettings, observer: WorkerObserver) -> None:
        self._sender = sender
        self._settings = settings
        self._observer = observer

    async def publish(self, messages: Sequence[OutboundMessage]) -> list[int]:
        """Return the offsets once the broker has acknowledged all. Raises PublishError if not."""
        if not messages:
            return []
        settings = self._settings
        started_s = time.monotonic()
        offsets: list[int] = []
        for attempt in range(1, settings.publish_attempts + 1):
            try:
                async with asyncio.timeout(settings.publish_timeout_s):
                    offsets = await self._send_all(messages)
            except TimeoutError as error:
                # The producer goes on trying by itself: sending again would only double.
                raise PublishError(
                    f"{len(messages)} messages were not acknowledged within "
                    f"{settings.publish_timeout_s:g} s; is the broker reachable and does each "
                    "topic have a leader?"
                ) from error
            except (KafkaError, ProducerSendError) as error:
                self._observer.publish_failed(attempt, error)
                if attempt == settings.publish_attempts:
                    raise PublishError(
                        f"the broker refused messages {attempt} times: {error!r} "
                        f"(topics: {', '.join(sorted({m.topic for m in messages}))})"
                    ) from error
                _log.warning("publishing failed (attempt %d), trying again: %r", attempt, error)
                await asyncio.sleep(settings.publish_backoff_s * 2 ** (attempt - 1))
            else:
                break
        elapsed_s = time.monotonic() - started_s
        for topic, count in Counter(message.topic for message in messages).items():
            self._observer.published(topic, count, elapsed_s)
        return offsets

    async def _send_all(self, messages: Sequence[OutboundMessage]) -> list[int]:
        acknowledgements: list[Awaitable[RecordMetadata]] = []
        try:
            for message in messages:
                acknowledgement = await self._sender.send(
                    message.topic,
                    message.key,
                    message.value,
                    message.partition,
                    None,
                    list(message.headers),
                )
                acknowledgements.append(acknowledgement)
        finally:
            # All of them, also when sending broke off: flushing a producer proves nothing.
            outcomes = await asyncio.gather(*acknowledgements, return_exceptions=True)
        offsets = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            offsets.append(outcome.offset)
        return offsets
