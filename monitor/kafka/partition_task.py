"""One partition at work: restore, merge its sources, detect, publish, keep checkpoints."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from faust.types import TP

from monitor.checkpoint.errors import CheckpointError, FencedError
from monitor.kafka.dlq import dead_letter_message
from monitor.kafka.outbound import OutboundMessage, finding_messages, trace_messages
from monitor.kafka.source_buffer import SourceBuffer
from monitor.pipeline import RecordChunk
from monitor.trace_merge import HOLD_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from monitor.checkpoint.contract import Position
    from monitor.checkpoint.partition import PartitionCheckpoints
    from monitor.kafka.chunks import Chunk, PartitionPosition
    from monitor.kafka.contract import Pipeline
    from monitor.kafka.observer import WorkerObserver
    from monitor.kafka.publisher import Publisher
    from monitor.kafka.settings import WorkerSettings
    from monitor.pipeline import PipelineResult
    from monitor.trace_messages import Outgoing

__all__ = ["Feed", "PartitionTask"]

_log = logging.getLogger(__name__)

_IDLE_MARKS_S: Final = (1.0, HOLD_MS / 1_000 + 2.0)
_IDLE_S: Final = 0.5  # how often an idle task looks whether a checkpoint is due


class Feed(Protocol):
    """The part of the consumer that a task uses."""

    def hold(self, tp: TP) -> None: ...
    def release(self, tp: TP) -> None: ...
    def caught_up(self, tp: TP, received_to: int | None) -> bool: ...
    def reread(self, tp: TP, received_to: int | None, generation: int) -> None: ...
    def read_position(self, tp: TP) -> PartitionPosition | None: ...


class PartitionTask:
    """Runs the pipeline of one partition number during one generation of the group.

    ``receive`` never waits: when a source has more than ``buffer_events`` waiting, reading of
    that partition is held until half of them are gone. (Agents that wait would stop reading
    other partitions, among them those the merge is waiting for.)

    First the state is restored; chunks that arrive meanwhile wait. Then what was taken before is
    taken again, in the same order, and then the work goes on. What comes out is published once
    the order it depends on is durable. Whoever has the partition next goes on from the newest
    checkpoint.

    A source with nothing buffered holds the merge back until it is idle: read to its end, and
    silent for ``merge_wait_ms`` or the cause that something else waited that long. So what is in
    the topics already is merged exactly, and what arrives later than that is merged as it comes.
    (Kafka Streams: ``max.task.idle.ms``.)
    """

    def __init__(
        self,
        pipeline: Pipeline,
        checkpoints: PartitionCheckpoints,
        *,
        feed: Feed,
        publisher: Publisher,
        settings: WorkerSettings,
        observer: WorkerObserver,
        partitions: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.partition = partition = checkpoints.partition
        self.generation = checkpoints.generation
        self._pipeline = pipeline
        self._feed = feed
        self._publisher = publisher
        self._checkpoints = checkpoints
        self._settings = settings
        self._observer = observer
        self._partitions = partitions
        self._clock = clock
        self._sources = {
            topic: SourceBuffer(TP(topic, partition), clock()) for topic in settings.inputs
        }
        self._moved_s = clock()
        self._idle_marks = 0
        self._early: list[Chunk] = []
        self._restored = False
        self._wake = asyncio.Event()
        self._closing = False
        self._running: asyncio.Task[None] | None = None

    def start(self, failed: Callable[[BaseException], None]) -> None:
        """Start working; ``failed`` is called once if the work ends with an error."""
        self._running = asyncio.create_task(self._run(), name=f"partition-{self.partition}")

        def done(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                failed(error)

        self._running.add_done_callback(done)

    async def close(self, timeout_s: float) -> bool:
        """Finish what is being published, write a last checkpoint; whether that went well.

        What is not acknowledged within ``timeout_s`` is given up: it is done again.
        """
        self._closing = True
        self._wake.set()
        if self._running is None:
            return True
        await asyncio.wait({self._running}, timeout=timeout_s)
        if self._running.done():
            return self._running.exception() is None
        _log.warning(
            "partition %d: no acknowledgement within %.1f s; what it is for is done again (it "
            "waited in %s)",
            self.partition,
            timeout_s,
            " > ".join(_awaited(self._running)),
        )
        self._running.cancel()
        await asyncio.wait({self._running})
        return False

    def receive(self, chunk: Chunk) -> None:
        """Take a chunk. If one before it never arrived, it is left and both are read again."""
        source = self._sources[chunk.topic]
        if not self._restored:
            self._early.append(chunk)
            if not source.held:
                source.held = True
                self._feed.hold(source.tp)
            return
        if source.misses_before(chunk):
            _log.warning(
                "%s[%d]: records before offset %d never arrived, reading again from %s",
                chunk.topic,
                chunk.partition,
                chunk.first_offset,
                source.received_to,
            )
            self._feed.reread(source.tp, source.received_to, chunk.generation)
            return
        if source.received_to is None:
            self._checkpoints.begins(chunk.topic, chunk.first_offset)
        source.receive(chunk, self._clock())
        self._observer.chunk_received(chunk.topic, chunk.partition, len(chunk))
        if not source.held and self._waiting(source) > self._settings.buffer_events:
            source.held = True
            self._feed.hold(source.tp)
        self._wake.set()

    def received_to(self, topic: str) -> int | None:
        """Where the records of ``topic`` end that have arrived here; None if none have."""
        early = [chunk.next_offset for chunk in self._early if chunk.topic == topic]
        return early[-1] if early else self._sources[topic].received_to

    def report(self) -> None:
        """Tell the observer how far behind this partition is."""
        for topic, source in self._sources.items():
            position = self._feed.read_position(source.tp)
            if position is None or position.end is None:
                continue
            done = position.next_offset if source.received_to is None else source.applied_to
            if done is not None:
                self._observer.lag(topic, self.partition, max(0, position.end - done))
            self._observer.held_back(topic, self.partition, self._waiting(source))

    async def _run(self) -> None:
        try:
            await self._restore()
            while not self._closing:
                self._wake.clear()
                self._push()
                moved = await self._process()
                await self._keep_checkpoints()
                if not moved:
                    await self._say_idle()
                    await self._wait_for_work()
            await self._checkpoints.finish()
        except FencedError as error:
            _log.info("partition %d: given up, somebody else has it: %s", self.partition, error)
        finally:
            await self._checkpoints.abandon()

    async def _restore(self) -> None:
        position = await self._checkpoints.restore()
        for topic, next_offset in position.items():
            self._sources[topic].start(next_offset)
        self._restored = True
        early, self._early = self._early, []
        for chunk in early:
            self.receive(chunk)
        self._release_held()

    async def _keep_checkpoints(self) -> None:
        self._checkpoints.check()
        if self._checkpoints.due():
            await self._checkpoints.begin()
        if self._checkpoints.full:
            await self._checkpoints.written()

    async def _wait_for_work(self) -> None:
        """Until a chunk arrives; while events are held back also until the next tick."""
        held_back = any(self._waiting(source) for source in self._sources.values())
        timeout_s = self._settings.tick_ms / 1000.0 if held_back else _IDLE_S
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()

    async def _say_idle(self) -> None:
        """Tell the next stage that it need not wait for this partition.

        A second time some seconds later: by then all has come that others had to say, and what
        waits for no more than time goes on.
        """
        checkpoints = self._checkpoints
        if checkpoints.bound is not None or not checkpoints.begun:
            return
        if self._idle_marks == len(_IDLE_MARKS_S):
            return
        waiting = any(self._waiting(source) for source in self._sources.values())
        if waiting or self._clock() - self._moved_s < _IDLE_MARKS_S[self._idle_marks]:
            return
        self._idle_marks += 1
        outgoing = self._pipeline.idle_traces()
        if outgoing is not None:
            await checkpoints.commit_order()
            await self._publisher.publish(self._trace_messages(outgoing))

    def _push(self) -> None:
        """Decode what has arrived, up to about one ``process`` ahead per source."""
        for topic, source in self._sources.items():
            while source.inbox and self._pipeline.buffered(topic) < self._settings.process_events:
                self._pipeline.push(_record_chunk(source.take()))

    async def _process(self) -> bool:
        """Merge and detect once, publish, note how far it came; whether anything moved."""
        checkpoints = self._checkpoints
        bound, suppressing = checkpoints.bound, checkpoints.suppressing
        self._switch_models()
        started_s = self._clock()
        result = self._pipeline.process(self._idle_sources(), self._settings.process_events, bound)
        elapsed_s = self._clock() - started_s
        checkpoints.took(result.applied, in_order=result.in_order)
        messages = [] if suppressing else self._messages(result)
        if messages:
            await checkpoints.commit_order()
            await self._publisher.publish(messages)
            checkpoints.published()
        moved = False
        for topic, next_offset in result.applied.items():
            source = self._sources[topic]
            if not suppressing:
                self._observer.acknowledged(source.received_ms(next_offset))
            moved |= source.applied(next_offset)
        if bound is not None and not moved:
            await self._require_reachable(bound)
        self._release_held()
        if moved or messages:
            self._moved_s = self._clock()
            self._idle_marks = 0
            if not suppressing:  # it was counted when it was published
                self._observer.chunk_processed(self.partition, result, elapsed_s)
                for letter in result.dead_letters:
                    self._observer.dead_letter(letter.source, letter.reason)
            await asyncio.sleep(0)  # the event loop has other partitions to serve
        return moved

    def _switch_models(self) -> None:
        """Use what is to score from here on; at one position there may be more than one switch."""
        pipeline = self._pipeline
        while True:
            models = self._checkpoints.switch(pipeline.wanted_models, pipeline.models)
            if models is None:
                return
            pipeline.use_models(models)

    async def _require_reachable(self, bound: Position) -> None:
        """Raises CheckpointError where a topic ends before the records that were taken of it.

        Who was frozen may know an end from before, and read what its successor has committed.
        """
        for topic, taken_to in bound.items():
            position = self._feed.read_position(self._sources[topic].tp)
            if position is not None and position.end is not None and position.end < taken_to:
                await self._checkpoints.confirm()
                raise CheckpointError(
                    f"{topic}[{self.partition}] ends at offset {position.end}, but it was read up "
                    f"to {taken_to} before: was the topic deleted? Reset the group's offsets of "
                    "all input topics to start without state"
                )

    def _messages(self, result: PipelineResult) -> list[OutboundMessage]:
        names = self._settings.topics
        messages = finding_messages(result, names, self._settings.event_source)
        for letter in result.dead_letters:
            origin = self._sources[letter.source].origin(letter.offset)
            messages.append(
                dead_letter_message(
                    letter,
                    partition=self.partition,
                    timestamp_ms=origin.timestamp_ms,
                    key=origin.key,
                    names=names,
                )
            )
        if result.traces is not None:
            messages += self._trace_messages(result.traces)
        return messages

    def _trace_messages(self, outgoing: Outgoing) -> list[OutboundMessage]:
        return trace_messages(
            outgoing,
            topic=self._settings.next_topic,
            partition=self.partition,
            partitions=self._partitions,
            lineage=self._checkpoints.lineage,
            targets=self._partitions if self._settings.stage == "users" else 1,
        )

    def _idle_sources(self) -> list[str]:
        before_s = self._clock() - self._settings.merge_wait_ms / 1000.0
        waits = [source.waits_since_s() for source in self._sources.values()]
        # A source that trickles, or whose event times lag, must not hold the others for ever.
        overdue = any(since_s is not None and since_s <= before_s for since_s in waits)
        return [
            topic
            for topic, source in self._sources.items()
            if not source.inbox
            and (overdue or source.arrived_s <= before_s)
            and self._feed.caught_up(source.tp, source.received_to)
        ]

    def _release_held(self) -> None:
        for source in self._sources.values():
            if source.held and self._waiting(source) <= self._settings.buffer_events // 2:
                source.held = False
                self._feed.release(source.tp)

    def _waiting(self, source: SourceBuffer) -> int:
        return source.inbox_records + self._pipeline.buffered(source.tp.topic)


def _awaited(task: asyncio.Task[None]) -> Iterator[str]:
    """The names of the coroutines that wait for each other, from that of ``task`` on."""
    waiting: Any = task.get_coro()
    while waiting is not None:
        if name := getattr(waiting, "__name__", ""):
            yield name
        waiting = getattr(waiting, "cr_await", None)


def _record_chunk(chunk: Chunk) -> RecordChunk:
    columns = chunk.columns
    return RecordChunk(
        chunk.topic, chunk.partition, columns.values, columns.offsets, columns.timestamps_ms
    )
