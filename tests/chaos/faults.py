"""The faults. Each is a generator that does its harm and waits until the workers are over it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final, TypeAlias

from tests.chaos.arena import Arena, Steps, until

__all__ = [
    "FailpointChain",
    "Fault",
    "Freeze",
    "JoinAndLeave",
    "KillAndReplace",
    "KillAndRestart",
    "RestartBroker",
    "RollingRestart",
]

_MOST_PASSES: Final = 3
_FAILPOINT_DEADLINE_S: Final = 90.0


@dataclass(frozen=True, slots=True)
class KillAndRestart:
    """kill -9 at a random time; the worker is started again at once."""

    slot: int

    def steps(self, arena: Arena) -> Steps:
        yield from arena.flow(0.5, 2.5)
        mark = arena.watcher.mark(arena.kill(self.slot))
        arena.fleet.start(self.slot)
        yield from arena.moved_on(mark, "restarted")


@dataclass(frozen=True, slots=True)
class KillAndReplace:
    """kill -9 at a random time; the others take over, and only then it is started again."""

    slot: int

    def steps(self, arena: Arena) -> Steps:
        yield from arena.flow(0.5, 2.5)
        mark = arena.watcher.mark(arena.kill(self.slot))
        yield from arena.moved_on(mark, "taken over")
        yield from arena.flow(0.2, 1.0)
        arena.fleet.start(self.slot)


@dataclass(frozen=True, slots=True)
class FailpointChain:
    """kill -9, then started with a failpoint at which it kills itself, and so on."""

    slot: int
    failpoints: tuple[str, ...]

    def steps(self, arena: Arena) -> Steps:
        yield from arena.flow(0.5, 2.5)
        arena.kill(self.slot)
        for name in self.failpoints:
            arena.fleet.start(self.slot, f"{name}:{arena.chance.randint(1, _MOST_PASSES)}")
            yield from self._die(arena, name)
        mark = arena.watcher.mark(time.time())
        arena.fleet.start(self.slot)
        yield from until(lambda: mark.resumed_after_s is not None, "partitions move on")

    def _die(self, arena: Arena, name: str) -> Steps:
        end_s = time.monotonic() + _FAILPOINT_DEADLINE_S
        while not arena.fleet.died_at_failpoint(self.slot):
            if time.monotonic() > end_s:
                arena.journal.note("failpoint not reached", worker=self.slot, name=name)
                arena.kill(self.slot)
                return
            yield f"worker {self.slot} dies at {name}"
        arena.journal.note("killed at failpoint", worker=self.slot, name=name)
        arena.journal.at_failpoint[name] += 1
        arena.kill_control()


@dataclass(frozen=True, slots=True)
class Freeze:
    """SIGSTOP until the group has given its partitions to others, then SIGCONT: a zombie."""

    slot: int

    def steps(self, arena: Arena) -> Steps:
        yield from arena.flow(0.5, 2.0)
        mark = arena.watcher.mark(arena.fleet.freeze(self.slot))
        yield from until(
            lambda: arena.watcher.members == arena.workers - 1, "the group is rid of the frozen one"
        )
        yield from arena.moved_on(mark, "frozen")
        yield from arena.flow(0.5, 2.0)
        arena.journal.note("zombie", worker=self.slot)
        arena.fleet.thaw(self.slot)


@dataclass(frozen=True, slots=True)
class JoinAndLeave:
    """One more worker, for a while."""

    def steps(self, arena: Arena) -> Steps:
        slot = max(arena.fleet.slots) + 1
        arena.fleet.start(slot)
        yield from arena.joined(arena.workers + 1)
        arena.journal.note("joined", worker=slot)
        yield from arena.flow(1.0, 3.0)
        mark = arena.watcher.mark(time.time())
        arena.fleet.terminate(slot)
        yield from until(lambda: arena.fleet.ended(slot), f"worker {slot} ends in order")
        yield from arena.moved_on(mark, "left")


@dataclass(frozen=True, slots=True)
class RollingRestart:
    """Every worker in turn: SIGTERM, wait for its end, start it again."""

    def steps(self, arena: Arena) -> Steps:
        for slot in arena.fleet.slots:
            yield from arena.flow(0.2, 1.0)
            mark = arena.watcher.mark(time.time())
            arena.fleet.terminate(slot)
            yield from until(lambda: arena.fleet.ended(slot), f"worker {slot} ends in order")  # noqa: B023
            arena.fleet.start(slot)
            yield from arena.moved_on(mark, "rolled")
            arena.journal.note("rolled", worker=slot)


@dataclass(frozen=True, slots=True)
class RestartBroker:
    """The broker goes away, in order or with SIGKILL, and comes back."""

    kill: bool

    def steps(self, arena: Arena) -> Steps:
        yield from arena.flow(0.5, 2.0)
        (arena.broker.kill if self.kill else arena.broker.stop)()
        yield from arena.flow(0.2, 1.5)
        arena.broker.start()
        mark = arena.watcher.mark(time.time())
        arena.journal.note("broker killed" if self.kill else "broker restarted")
        yield from arena.moved_on(mark, "broker back")


Fault: TypeAlias = (
    KillAndRestart
    | KillAndReplace
    | FailpointChain
    | Freeze
    | JoinAndLeave
    | RollingRestart
    | RestartBroker
)
