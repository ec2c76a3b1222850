"""A machine on which a worker runs, and is started again whenever it has ended."""

from __future__ import annotations

from dataclasses import replace
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
        self._session: worker._Session | None = None
        self._starts = 0
        self._for_good = False

    def start_later(self) -> None:
        """Start a new process after a while."""
        self.process = None
        delay_s = self.world.rng.random() * self.world.knobs.restart_s
        self.world.loop.in_world(delay_s, self._start)

    def stop(self) -> None:
        """SIGTERM."""
        if self._session is not None and self.process is not None and self.process.alive:
            self._session.end()

    def stop_for_good(self) -> None:
        self._for_good = True
        self.stop()

    def _start(self) -> None:
        if not self._for_good:
            self._starts += 1
            self.world.say(f"{self.name}.{self._starts} starts")
            self.process = self.world.loop.start_process(f"{self.name}.{self._starts}", self._main)

    async def _main(self) -> None:
        world, knobs = self.world, self.world.knobs
        instance = self.name if knobs.static else None
        settings = replace(knobs.worker, instance_id=instance)
        self._session = worker._Session(
            settings, knobs.partitions, world.new_pipeline, IgnoringObserver(), world.failpoint
        )
        failure = await self._session.run()
        process = world.loop.current_process()
        process.require_alive()
        world.say(f"{process} ended: {failure!r}")
        if failure is not None:
            world.failures[type(failure).__name__] += 1
            if not isinstance(failure, PublishError):
                world.problems.append(f"{process} failed: {failure!r}")
        world.loop.in_world(0.0, lambda: self._ended(process))

    def _ended(self, process: Process) -> None:
        self.world.loop.kill(process)
        if self.process is process:
            self._session = None
            if self._for_good:
                self.process = None
            else:
                self.start_later()
