"""Where faults happen: the broker, our workers, the control's, and those who watch."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final, TypeAlias

from tests.chaos.background import Background
from tests.chaos.errors import ChaosError
from tests.chaos.fleet import Fleet
from tests.chaos.journal import Journal
from tests.chaos.watcher import Mark, Watcher
from tests.kafka import KafkaBroker

__all__ = ["DEADLINE_S", "Arena", "Steps", "perform", "until"]

Steps: TypeAlias = Generator[str, None, None]
"""Something that takes a while: yields, again and again, what it is waiting for."""

DEADLINE_S: Final = 240.0
_POLL_S: Final = 0.02


@dataclass(slots=True)
class Arena:
    """What faults act on. ``workers`` is how many there are when nothing happens."""

    broker: KafkaBroker
    fleet: Fleet
    control: Fleet | None
    watcher: Watcher
    journal: Journal
    background: Background
    chance: random.Random
    workers: int
    membership: str = "dynamic"
    _control_turn: count[int] = field(default_factory=count)

    def kill(self, slot: int) -> float:
        """Kill a worker, and one of the control's; returns when."""
        at_s = self.fleet.kill(slot)
        self.journal.note("kill", worker=slot)
        self.kill_control()
        return at_s

    def kill_control(self) -> None:
        """Kill the control's processes in turn, and start them again at once."""
        if self.control is not None:
            slot = next(self._control_turn) % len(self.control.slots)
            self.control.kill(slot)
            self.control.start(slot)

    def moved_on(self, mark: Mark, how: str) -> Steps:
        """Until every partition has moved on after ``mark``."""
        yield from until(lambda: mark.resumed_after_s is not None, f"partitions move on ({how})")
        assert mark.resumed_after_s is not None
        self.journal.resumed(how, self.membership, mark.resumed_after_s)

    def joined(self, members: int) -> Steps:
        """Until the group's newest generation has this many members."""
        yield from until(
            lambda: self.watcher.members == members, f"the group has {members} members"
        )

    def flow(self, least_s: float, most_s: float) -> Steps:
        """Let events flow for a while."""
        end_s = time.monotonic() + self.chance.uniform(least_s, most_s)
        while time.monotonic() < end_s:
            yield "events flow"


def until(condition: Callable[[], bool], what: str, *, deadline_s: float = DEADLINE_S) -> Steps:
    """Until ``condition`` holds. Raises ChaosError when it has not within the deadline."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end_s:
            raise ChaosError(f"not within {deadline_s:.0f} s: {what}")
        yield what


def perform(arena: Arena, together: Sequence[Steps], progress: Callable[[str], None]) -> None:
    """Run what happens at the same time to its end; ``progress`` is told what is waited for."""
    running = list(together)
    waiting: dict[int, str] = {}
    while running:
        for steps in list(running):
            try:
                waiting[id(steps)] = next(steps)
            except StopIteration:
                running.remove(steps)
                waiting.pop(id(steps), None)
        arena.background.check()
        arena.fleet.revive()
        if arena.control is not None:
            arena.control.revive()
        progress("; ".join(waiting.values()))
        time.sleep(_POLL_S)
