"""What happens in a run: which faults, in which order, to which worker. A seed decides."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from monitor.failpoints import FAILPOINTS
from tests.chaos.faults import (
    FailpointChain,
    Fault,
    Freeze,
    JoinAndLeave,
    KillAndReplace,
    KillAndRestart,
    RestartBroker,
    RollingRestart,
)

__all__ = ["Leg", "Membership", "Section", "full_plan", "short_plan"]

Membership: TypeAlias = Literal["dynamic", "static"]
Together: TypeAlias = tuple[Fault, ...]
"""Faults that happen at the same time, each to another worker."""

_WORKERS: Final = 3
_EXACT_WAIT_MS: Final = 60_000
_DEFAULT_WAIT_MS: Final = 100


@dataclass(frozen=True, slots=True)
class Leg:
    """Faults to workers that are members of the group in one way."""

    membership: Membership
    faults: tuple[Together, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A run of workers on topics of their own.

    Where the merge waits long enough (``exact``), the order in which events are taken follows from
    the topics alone, and everything can be compared with one pass over them. ``events`` is the
    least number of events.
    """

    name: str
    merge_wait_ms: int
    events: int
    events_per_s: float
    legs: tuple[Leg, ...]
    control: bool = False
    workers: int = _WORKERS

    @property
    def exact(self) -> bool:
        """Whether one pass over the topics says what must come out."""
        return self.merge_wait_ms == _EXACT_WAIT_MS

    @property
    def rounds(self) -> int:
        """How often something is done to the workers."""
        return sum(len(leg.faults) for leg in self.legs)


def full_plan(seed: int, events: int) -> tuple[Section, ...]:
    """All of it: at least ``events`` events, one in ten of them in the section at the tail."""
    chance = random.Random(seed)
    dynamic: list[Together] = [
        *_chains(chance, rounds=3),
        *((KillAndRestart(slot),) for slot in (0, 1)),
        *((KillAndReplace(slot),) for slot in (1, 2)),
        *((Freeze(slot),) for slot in (0, 1, 2)),
        (JoinAndLeave(),),
        (RestartBroker(kill=False),),
    ]
    static: list[Together] = [
        *_chains(chance, rounds=2),
        *((KillAndRestart(slot),) for slot in (1, 2)),
        *((KillAndReplace(slot),) for slot in (0, 2)),
        *((Freeze(slot),) for slot in (0, 2)),
        (RollingRestart(),),
        (RestartBroker(kill=True),),
    ]
    tail: list[Together] = [
        (
            FailpointChain(0, ("cuts-committed", "alerts-acknowledged")),
            FailpointChain(1, ("checkpoint-committed", "cuts-committed")),
        ),
        (KillAndRestart(2),),
        (KillAndReplace(1),),
        (Freeze(0),),
    ]
    for faults in (dynamic, static, tail):
        chance.shuffle(faults)
    at_tail = events // 10
    return (
        Section(
            "exact",
            _EXACT_WAIT_MS,
            events - at_tail,
            _pace(events - at_tail, (*dynamic, *static)),
            (Leg("dynamic", tuple(dynamic)), Leg("static", tuple(static))),
            control=True,
        ),
        Section(
            "tail",
            _DEFAULT_WAIT_MS,
            at_tail,
            _pace(at_tail, tail),
            (Leg("dynamic", tuple(tail)),),
        ),
    )


def short_plan(seed: int, events: int) -> tuple[Section, ...]:
    """One kill at each failpoint and two at random, and a zombie; about a minute."""
    chance = random.Random(seed)
    faults: list[Together] = [*_chains(chance, rounds=1), (Freeze(2),)]
    legs = (Leg("static", tuple(faults)),)
    return (Section("short", _EXACT_WAIT_MS, events, _pace(events, faults), legs),)


def _chains(chance: random.Random, rounds: int) -> list[Together]:
    """In each round every failpoint once, shared by two workers while the third goes on."""
    found: list[Together] = []
    for number in range(rounds):
        names = chance.sample(FAILPOINTS, len(FAILPOINTS))
        half = len(names) // 2
        found.append(
            (
                FailpointChain(number % _WORKERS, tuple(names[:half])),
                FailpointChain((number + 1) % _WORKERS, tuple(names[half:])),
            )
        )
    return found


def _pace(events: int, faults: Sequence[Together]) -> float:
    """Events per second, so that most are out when the last fault is over."""
    expected_s = 8.0 + sum(max(_EXPECTED_S[type(f)] for f in together) for together in faults)
    return events / expected_s


_EXPECTED_S: Final = {
    FailpointChain: 35.0,
    Freeze: 14.0,
    JoinAndLeave: 16.0,
    KillAndReplace: 14.0,
    KillAndRestart: 12.0,
    RestartBroker: 14.0,
    RollingRestart: 25.0,
}
