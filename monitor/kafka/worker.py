"""The worker: Faust agents that hand chunks to one pipeline per partition."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol

from faust.types import TP

from monitor.checkpoint.partition import CheckpointContext, PartitionCheckpoints
from monitor.failpoints import no_failpoint
from monitor.kafka.app import build_app
from monitor.kafka.block_table import KafkaBlocks
from monitor.kafka.errors import WorkerError
from monitor.kafka.group_offsets import GroupOffsets
from monitor.kafka.observer import IgnoringObserver
from monitor.kafka.partition_task import PartitionTask
from monitor.kafka.publisher import Publisher
from monitor.kafka.topics import require_topics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from monitor.failpoints import Failpoint
    from monitor.kafka.chunks import Chunk
    from monitor.kafka.contract import Pipeline
    from monitor.kafka.observer import WorkerObserver
    from monitor.kafka.settings import WorkerSettings

__all__ = ["Worker", "run_worker", "stopped_by_signals"]

_log = logging.getLogger(__name__)

_REPORT_INTERVAL_S: Final = 1.0


class Stoppable(Protocol):
    """What a signal stops."""

    def stop(self) -> None:
        """Ask it to finish. Callable from any thread."""


class Worker:
    """One member of the consumer group. ``run`` it once.

    ``make_pipeline`` is called with the partition number whenever a partition starts here:
    at the first chunk of a generation, so every generation starts with a fresh pipeline, which
    is then given the state of the newest checkpoint.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        make_pipeline: Callable[[int], Pipeline],
        observer: WorkerObserver | None = None,
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        self._settings = settings
        self._failpoint = failpoint
        self._make_pipeline = make_pipeline
        self._observer = observer or IgnoringObserver()
        self._session: _Session | None = None
        self._stop_requested = False

    @property
    def ready(self) -> bool:
        """Whether partitions are assigned, recovered and being read. Callable from any thread."""
        session = self._session
        return session is not None and session.ready

    def stop(self) -> None:
        """Ask ``run`` to finish, commit and return. Callable from any thread, more than once."""
        self._stop_requested = True
        session = self._session
        if session is not None:
            session.end()

    async def run(self) -> None:
        """Work until ``stop``. Raises TopicsError before, WorkerError after a failure.

        Either way the partitions are given back; what was not acknowledged is not committed.
        """
        brokers, group = self._settings.brokers, self._settings.stage_group
        names = self._settings.topics
        partitions = await asyncio.to_thread(require_topics, brokers, names, self._settings.group)
        if self._stop_requested:
            return
        _log.info("group %s starts on %s, %d partitions", group, ",".join(brokers), partitions)
        self._session = _Session(
            self._settings, partitions, self._make_pipeline, self._observer, self._failpoint
        )
        if self._stop_requested:  # meanwhile, by another thread
            self._session.end()
        failure = await self._session.run()
        _log.info("group %s: worker stopped", group)
        if failure is not None:
            raise WorkerError(
                f"the worker stopped: {failure}; nothing unacknowledged was committed"
            ) from failure


class _Session:
    """One run of a worker, in one event loop: its Faust app and its partition tasks."""

    def __init__(
        self,
        settings: WorkerSettings,
        partitions: int,
        make_pipeline: Callable[[int], Pipeline],
        observer: WorkerObserver,
        failpoint: Failpoint,
    ) -> None:
        self._settings = settings
        self._partitions = partitions
        self._make_pipeline = make_pipeline
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        own = 1 if settings.stage == "groups" else partitions
        self._app = build_app(settings, own, self._receive)
        self._app.consumer.before_revoke = self._finish
        self._publisher = Publisher(self._app.producer, settings, observer)
        self._checkpoints = CheckpointContext(
            blocks=KafkaBlocks(self._app.block_table, self._publisher),
            offsets=GroupOffsets(self._app.consumer, settings.inputs, settings.publish_timeout_s),
            observer=observer,
            settings=settings.checkpoint,
            failpoint=failpoint,
        )
        self._tasks: dict[int, PartitionTask] = {}
        self._finishing = asyncio.Lock()
        self._gave_up = False
        self._released_epoch = 0  # nothing was assigned yet
        self._behind: dict[TP, tuple[int, int | None]] = {}
        self._ended = asyncio.Event()
        self._failure: BaseException | None = None

    @property
    def ready(self) -> bool:
        app = self._app
        return (
            not self._ended.is_set()
            and not app.rebalancing
            and app.tables.actives_ready
            and bool(app.consumer.assignment())
        )

    @property
    def _released(self) -> bool:
        """Whether what was assigned last is given away again.

        Not the generation says so: a static member that comes back is given the one it had.
        """
        return self._app.consumer.epoch <= self._released_epoch

    def end(self) -> None:
        """Have ``run`` finish. Callable from any thread."""
        with suppress(RuntimeError):  # the loop is closed: it has ended
            self._loop.call_soon_threadsafe(self._ended.set)

    async def run(self) -> BaseException | None:
        """Work until the end; returns the failure that brought it about, if one did."""
        background = [
            asyncio.create_task(self._watch()),
            asyncio.create_task(self._start()),
            asyncio.create_task(self._report()),
        ]
        try:
            await self._ended.wait()
        finally:
            await self._shut_down()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
        return self._failure

    async def _start(self) -> None:
        try:
            await self._app.start()
        except Exception as error:  # noqa: BLE001 - whatever it is, run() reports it
            self._fail(error)

    async def _watch(self) -> None:
        self._fail(await self._app.wait_until_crashed())

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_INTERVAL_S)
            try:
                self._observer.assigned(len(self._tasks))
                for task in self._tasks.values():
                    task.report()
                self._reread_missing()
                self._start_silent()
            except Exception as error:  # noqa: BLE001 - whatever it is, run() reports it
                self._fail(error)
                return

    def _start_silent(self) -> None:
        """Have a task also for a partition of which nothing comes: it says that it is idle.

        Else the next stage would wait for what the last owner, who crashed, had still to say.
        """
        if not self.ready or self._released:
            return
        consumer, generation = self._app.consumer, self._app.consumer_generation_id
        for partition in {
            tp.partition for tp in filter(consumer.is_chunked, consumer.assignment())
        }:
            inputs = (TP(topic, partition) for topic in self._settings.inputs)
            if all(consumer.reads(tp, generation) for tp in inputs):
                self._task(partition, generation)

    def _reread_missing(self) -> None:
        """Read again what was handed to Faust and has not arrived since the last look.

        Where more records come, the partition task notices by itself; these were the last ones.
        """
        consumer, before = self._app.consumer, self._behind
        self._behind = {}
        if self._released:
            return
        for tp in filter(consumer.is_chunked, consumer.assignment()):
            task = self._tasks.get(tp.partition)
            drained_to = consumer.drained_to(tp)
            received_to = None if task is None else task.received_to(tp.topic)
            if drained_to is None or (received_to is not None and received_to >= drained_to):
                continue
            self._behind[tp] = (drained_to, received_to)
            if before.get(tp) == self._behind[tp]:
                _log.warning("%s[%d]: the last records never arrived, reading again", *tp)
                consumer.reread(tp, received_to, self._app.consumer_generation_id)

    async def _receive(self, chunk: Chunk) -> None:
        """Called by the agents, in order for each partition."""
        if (
            self._ended.is_set()
            or chunk.generation != self._app.consumer_generation_id
            or self._released
        ):
            return  # fetched before a rebalance or the end: who has it then reads it again
        try:
            self._task(chunk.partition, chunk.generation).receive(chunk)
        except Exception as error:  # noqa: BLE001 - run() reports it
            # Not raised here: Faust would restart the agent, and the chunk would be gone.
            self._fail(error)

    def _task(self, partition: int, generation: int) -> PartitionTask:
        task = self._tasks.get(partition)
        if task is None or task.generation != generation:
            task = self._new_task(partition, generation)
            self._tasks[partition] = task
            task.start(self._fail)
        return task

    def _new_task(self, partition: int, generation: int) -> PartitionTask:
        """At the first chunk of a generation: recovery of the blocks is complete by then."""
        pipeline = self._make_pipeline(partition)
        return PartitionTask(
            pipeline,
            PartitionCheckpoints(partition, generation, pipeline, self._checkpoints),
            feed=self._app.consumer,
            publisher=self._publisher,
            settings=self._settings,
            observer=self._observer,
            partitions=self._partitions,
        )

    async def _finish(self) -> None:
        """End all tasks, each with a last checkpoint if it can; no other call still does so.

        Whoever stops the worker in the middle of a rebalance waits for what that has begun: the
        tasks need a consumer to commit with.
        """
        self._released_epoch = self._app.consumer.epoch
        async with self._finishing:
            tasks, self._tasks = list(self._tasks.values()), {}
            timeout_s = self._settings.flush_timeout_s
            finished = await asyncio.gather(*(task.close(timeout_s) for task in tasks))
            self._gave_up = self._gave_up or not all(finished)
            self._observer.assigned(0)

    def _fail(self, error: BaseException) -> None:
        if self._failure is None and not self._ended.is_set():
            _log.error("the worker stops: %s", error, exc_info=error)
            self._failure = error
        self._ended.set()

    async def _shut_down(self) -> None:
        """Give the partitions back."""
        consumer = self._app.consumer
        if consumer.started:
            consumer.stop_flow()
            await self._finish()
            if self._gave_up:
                await self._app.producer.abandon()
        await self._app.stop()
        consumer.discard()


def run_worker(
    settings: WorkerSettings,
    make_pipeline: Callable[[int], Pipeline],
    observer: WorkerObserver | None = None,
    failpoint: Failpoint = no_failpoint,
) -> None:
    """Run a worker until SIGTERM or SIGINT: flush, commit, leave the group, return.

    Raises TopicsError and WorkerError. Call it in the main thread.
    """

    async def main() -> None:
        worker = Worker(settings, make_pipeline, observer, failpoint)
        with stopped_by_signals(worker):
            await worker.run()

    asyncio.run(main())


@contextmanager
def stopped_by_signals(worker: Stoppable) -> Iterator[None]:
    """SIGTERM and SIGINT stop the worker: it flushes, commits and leaves the group.

    For the main thread, in the event loop that runs the worker.
    """
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, worker.stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
