"""A machine on which a worker runs, and is started again whenever it has ended."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from monitor.kafka import worker
from monitor.kafka.errors import PublishError
from monitor.kafka.observer import IgnoringObserver

if TYPE_CHECKING:
    from tests.simulation.loop import Process
    from tests.simulation.run import World

__all__ = ["Node"]


class Node:
    """A machine on which a worker runs, and is started again whenever it has ended."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.name = f"node-{number}"
        self.process: Process | None = None
        self._sessions: list[worker._Session] = []
        self._starts = 0
        self._for_good = False

    def start_later(self) -> None:
        """Start a new process after a while."""
        self.process = None
        delay_s = self.world.rng.random() * self.world.knobs.restart_s
        self.world.loop.in_world(delay_s, self._start)

    def stop(self) -> None:
        """SIGTERM."""
        if self.process is not None and self.process.alive:
            self._end_sessions()

    def _end_sessions(self) -> None:
        for session in self._sessions:
            session.end()

    def stop_for_good(self) -> None:
        self._for_good = True
        self.stop()

    def _start(self) -> None:
        if not self._for_good:
            self._starts += 1
            self.world.say(f"{self.name}.{self._starts} starts")
            self.process = self.world.loop.start_process(f"{self.name}.{self._starts}", self._main)

    async def _main(self) -> None:
        """All stages in one process, as ``monitor.kafka.workers`` has them."""
        world, knobs = self.world, self.world.knobs
        instance = self.name if knobs.static else None
        self._sessions = [
            worker._Session(
                replace(stage.settings, instance_id=instance),
                knobs.partitions,
                partial(world.new_pipeline, stage),
                IgnoringObserver(),
                world.failpoint,
            )
            for stage in world.stages.values()
        ]
        first, *others = self._sessions
        running = [asyncio.create_task(session.run()) for session in others]
        for task in running:
            task.add_done_callback(lambda _: self._end_sessions())
        failure = await first.run()
        self._end_sessions()
        failures = [failure, *[await task for task in running]]
        process = world.loop.current_process()
        process.require_alive()
        world.say(f"{process} ended: {failures!r}")
        for failure in filter(None, failures):
            world.failures[type(failure).__name__] += 1
            if not isinstance(failure, PublishError):
                world.problems.append(f"{process} failed: {failure!r}")
        world.loop.in_world(0.0, lambda: self._ended(process))

    def _ended(self, process: Process) -> None:
        self.world.loop.kill(process)
        if self.process is process:
            self._sessions = []
            if self._for_good:
                self.process = None
            else:
                self.start_later()
