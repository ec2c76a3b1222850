"""Where things break: every step that touches the world is a point at which a fault may strike.

A point has a kind, as ``publish: appended``; crashes are counted by it, so a run can show that
it crashed everywhere. Which points are struck is up to a plan: drawn from a seed, or given.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from tests.simulation.loop import Process, SimulationLoop

__all__ = ["Fault", "FaultPlan", "Faults", "GivenFaults", "RandomFaults"]

FaultKind: TypeAlias = Literal["kill", "pause", "rebalance"]

_WEIGHTS: Final = {
    # What happens all the time, also when nothing else does.
    **dict.fromkeys(("fetch", "heartbeat", "standby"), 0.05),
    # What every worker goes through first: to be struck here only, none would get any further.
    **dict.fromkeys(("join", "recovery", "seek", "committed"), 0.1),
    # A checkpoint has many blocks, and what comes after the last of them is worth the most.
    **dict.fromkeys(("blocks", "offload"), 0.2),
    "failpoint": 2.0,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What strikes: SIGKILL, SIGSTOP for ``pause_s``, or the group rebalances meanwhile."""

    kind: FaultKind
    pause_s: float = 0.0


class FaultPlan(Protocol):
    """Says what strikes where."""

    def at(self, kind: str, number: int) -> Fault | None:
        """The fault at the ``number``-th point of the run, which is of ``kind``."""

    @property
    def exhausted(self) -> bool:
        """Whether no more will come."""


@dataclass
class RandomFaults:
    """Draws faults, more of them at kinds of points that were seldom struck.

    Each rate is the chance at a point of a usual kind. ``most_kills`` ends it all.
    """

    rng: random.Random
    kill_rate: float
    pause_rate: float
    rebalance_rate: float
    longest_pause_s: float
    most_kills: int
    kills: Counter[str] = field(default_factory=Counter)

    @property
    def exhausted(self) -> bool:
        return self.kills.total() >= self.most_kills

    def at(self, kind: str, number: int) -> Fault | None:
        if self.kills.total() >= self.most_kills:
            return None
        weight = _WEIGHTS.get(kind.partition(":")[0], 1.0) * 4.0 / (1 + self.kills[kind])
        draw = self.rng.random() / weight
        if draw < self.kill_rate:
            self.kills[kind] += 1
            return Fault("kill")
        draw -= self.kill_rate
        if draw < self.pause_rate:
            return Fault("pause", self.rng.uniform(0.01, self.longest_pause_s))
        draw -= self.pause_rate
        return Fault("rebalance") if draw < self.rebalance_rate else None


@dataclass(frozen=True, slots=True)
class GivenFaults:
    """Faults by the number of the point that they strike."""

    faults: Mapping[int, Fault]

    @property
    def exhausted(self) -> bool:
        return False

    def at(self, kind: str, number: int) -> Fault | None:
        return self.faults.get(number)


class Faults:
    """Strikes processes as the plan says, while ``active``; counts what it did."""

    def __init__(self, loop: SimulationLoop, plan: FaultPlan) -> None:
        self.active = True
        self.points = 0
        self.kills: Counter[str] = Counter()
        self.pauses = 0
        self.rebalances = 0
        self.on_fault: Callable[[Process, str, Fault], None] = lambda _process, _kind, _fault: None
        self._loop = loop
        self._plan = plan

    @property
    def exhausted(self) -> bool:
        """Whether the plan has no more of them."""
        return self._plan.exhausted

    async def point(self, kind: str) -> None:
        """A step of the calling process. Where a fault strikes, it goes on later or never."""
        process = self._loop.current_process()
        process.require_alive()
        if self.strike(process, kind):
            await asyncio.sleep(0)
            process.require_alive()

    def strike(self, process: Process, kind: str) -> bool:
        """A step that concerns ``process`` and is taken outside of it; whether a fault struck."""
        if not (self.active and process.alive) or process is self._loop.world:
            return False
        self.points += 1
        fault = self._plan.at(kind, self.points)
        if fault is None:
            return False
        if fault.kind == "kill":
            self.kills[kind] += 1
            self._loop.kill(process)
        elif fault.kind == "pause":
            self.pauses += 1
            self.pause(process, fault.pause_s)
        else:
            self.rebalances += 1
        self.on_fault(process, kind, fault)
        return True

    def pause(self, process: Process, pause_s: float) -> None:
        """Stop ``process`` where it stands; what reached the network goes on without it."""

        def resume() -> None:
            process.paused = False

        if not process.paused:
            process.paused = True
            self._loop.in_world(pause_s, resume)
