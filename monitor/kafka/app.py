"""The Faust app of a worker: an agent per input topic, nothing of Faust's that we do not use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import faust

from monitor.kafka.block_table import BLOCK_TABLE, BlockTable, BlockTables
from monitor.kafka.consumer_thread import Chunking
from monitor.kafka.topics import MAX_BLOCK_BYTES
from monitor.kafka.transport import SCHEME, Consumer, Producer, register_scheme

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

    from monitor.kafka.chunks import Chunk
    from monitor.kafka.settings import WorkerSettings

__all__ = ["WorkerApp", "build_app"]

_BLOCKS_AT_ONCE: Final = 16
# One batch of a partition is on its way at a time: with Faust's 16 KB, a checkpoint is as many
# round trips as it has blocks.
_BATCH_BYTES: Final = 512 * 1024


class WorkerApp(faust.App):
    """A Faust app whose transport delivers chunks as ``chunking`` says."""

    chunking: Chunking
    block_table: BlockTable
    tables: BlockTables
    consumer: Consumer
    producer: Producer

    async def wait_until_crashed(self) -> BaseException:
        """Wait for a crash anywhere in this app's tree of services; returns its reason."""
        await self._crashed.wait()
        return self.crash_reason or RuntimeError("Faust crashed without a reason")

    def _create_directories(self) -> None:
        """Nothing is kept on disk."""


class _ChunkSchema(faust.Schema[Any, Any]):
    """A chunk is delivered as it is: the pipeline decodes it."""

    def loads_key(self, app: Any, message: Any, **options: Any) -> Any:
        return message.key

    def loads_value(self, app: Any, message: Any, **options: Any) -> Any:
        return message.value


def build_app(
    settings: WorkerSettings, partitions: int, receive: Callable[[Chunk], Awaitable[None]]
) -> WorkerApp:
    """A new app (none exists at import time); call it in the event loop that will run it.

    ``receive`` gets every chunk of the input topics, in order for each of the ``partitions``.
    """
    register_scheme()
    app = WorkerApp(
        settings.stage_group,
        broker=";".join(f"{SCHEME}://{broker}" for broker in settings.brokers),
        broker_client_id=f"floodwatch-{settings.stage_group}",
        broker_heartbeat_interval=settings.heartbeat_interval_s,
        broker_request_timeout=settings.request_timeout_s,
        broker_rebalance_timeout=settings.rebalance_timeout_s,
        broker_session_timeout=settings.session_timeout_s,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=settings.instance_id,
        consumer_max_fetch_size=settings.fetch_bytes,
        producer_compression_type=settings.compression,
        producer_max_batch_size=_BATCH_BYTES,
        producer_max_request_size=MAX_BLOCK_BYTES,
        producer_linger=settings.linger_ms / 1000.0,
        producer_request_timeout=settings.request_timeout_s,
        store="memory://",
        stream_buffer_maxsize=settings.stream_buffer_chunks,
        stream_recovery_delay=0.0,
        stream_wait_empty=False,
        table_standby_replicas=settings.standby_replicas,
        topic_allow_declare=False,
        topic_disable_leader=True,
        reply_create_topic=False,
        autodiscover=False,
        web_enabled=False,
        TableManager=BlockTables,
    )
    app.chunking = Chunking(
        frozenset(settings.inputs), settings.max_chunk_records, settings.fetch_wait_ms
    )
    app.block_table = BlockTable(
        app,
        name=BLOCK_TABLE,
        partitions=partitions,
        key_type=bytes,
        value_type=bytes,
        recovery_buffer_size=_BLOCKS_AT_ONCE,
        standby_buffer_size=1,
    )
    app.tables.add(app.block_table)
    for topic in settings.inputs:
        _add_agent(app, topic, receive)
    return app


def _add_agent(app: WorkerApp, topic: str, receive: Callable[[Chunk], Awaitable[None]]) -> None:
    # Without acknowledgements: Faust would commit past a chunk that is not published yet.
    channel = app.topic(topic, schema=_ChunkSchema(), acks=False)

    async def read(stream: AsyncIterable[Chunk]) -> None:
        async for chunk in stream:
            await receive(chunk)

    app.agent(channel, name=f"{topic}-agent")(read)
