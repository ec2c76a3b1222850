"""One section of a run: events flow, faults happen one after the other, then all is read."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from tests.chaos.arena import Arena, Steps, perform, until
from tests.chaos.background import Background
from tests.chaos.feed import Feed
from tests.chaos.fleet import Ending, Fleet
from tests.chaos.journal import Journal
from tests.chaos.place import PARTITIONS, Place
from tests.chaos.plan import Leg, Membership, Section
from tests.chaos.watcher import Watcher
from tests.kafka import KafkaBroker

__all__ = ["Outcome", "Progress", "run_section"]

_CONTROL_PROCESSES: Final = 2
_CONTROL_ENDINGS_MAX: Final = 1_000
_DRAIN_DEADLINE_S: Final = 300.0
_CONTROL_SILENT_S: Final = 30.0
_DRAIN_WAIT_MS: Final = 100


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a section has come; for a progress line."""

    section: str
    done: int
    rounds: int
    kills: int
    zombies: int
    rebalances: int
    sent: int
    least: int
    doing: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a section leaves on the broker, and what happened on the way."""

    section: Section
    place: Place
    journal: Journal
    rebalances: int
    endings: tuple[Ending, ...]
    control_kills: int
    control_endings: int


def run_section(
    broker: KafkaBroker,
    section: Section,
    events: pl.DataFrame,
    folder: Path,
    seed: int,
    tell: Callable[[Progress], None],
) -> Outcome:
    """Run a section; raises ChaosError where it cannot be brought to its end."""
    logs = folder / "logs"
    logs.mkdir(parents=True)
    place = Place.create(broker.bootstrap, section.name, folder, control=section.control)
    published = (place.names.alerts, place.names.decisions)
    watcher = Watcher(broker.bootstrap, place.group, published, PARTITIONS)
    feed = Feed(
        broker.bootstrap,
        events,
        place.names,
        partitions=PARTITIONS,
        events_per_s=section.events_per_s,
        least=section.events,
        sample_topic=place.control_topic,
    )
    with ExitStack() as stack:
        background = stack.enter_context(Background())
        fleet = stack.enter_context(Fleet("worker", logs))
        control = None
        if section.control:
            control = Fleet("control", logs, endings_max=_CONTROL_ENDINGS_MAX)
            stack.enter_context(control)
        background.start(watcher.run(place.coordinator_partitions))
        background.start(feed.run())
        journal, chance = Journal(folder / "journal.jsonl"), random.Random(seed)
        arena = Arena(broker, fleet, control, watcher, journal, background, chance, section.workers)
        course = _Course(section, place, arena, feed, tell)
        course.play()
        return course.outcome()


class _Course:
    """The course of a section."""

    def __init__(
        self,
        section: Section,
        place: Place,
        arena: Arena,
        feed: Feed,
        tell: Callable[[Progress], None],
    ) -> None:
        self._section = section
        self._place = place
        self._arena = arena
        self._feed = feed
        self._tell = tell
        self._done = 0

    def play(self) -> None:
        """All legs, then everything is read to its end."""
        self._start_control()
        for leg in self._section.legs:
            self._play_leg(leg)
        self._feed.finish()
        self._perform(until(lambda: self._feed.done, "the rest of the events goes out"))
        self._arena.fleet.stop_all()
        self._drain()

    def outcome(self) -> Outcome:
        """What there is to judge."""
        arena = self._arena
        return Outcome(
            self._section,
            self._place,
            arena.journal,
            arena.watcher.rebalances,
            tuple(arena.fleet.endings),
            arena.control.kills if arena.control else 0,
            len(arena.control.endings) if arena.control else 0,
        )

    def _play_leg(self, leg: Leg) -> None:
        arena = self._arena
        arena.fleet.stop_all()
        mark = arena.watcher.mark(time.time())
        self._start_workers(self._section.merge_wait_ms, leg.membership)
        begun = until(lambda: mark.resumed_after_s is not None, "the workers begin")
        self._perform(begun, arena.joined(arena.workers))
        for together in leg.faults:
            self._feed.allow((self._done + 1) / self._section.rounds)
            for fault in together:
                arena.journal.note("fault", fault=repr(fault), membership=leg.membership)
            self._perform(*(fault.steps(arena) for fault in together))
            self._perform(arena.joined(arena.workers))
            self._done += 1

    def _start_workers(self, merge_wait_ms: int, membership: Membership) -> None:
        arena, place = self._arena, self._place
        arena.membership = membership
        place.configure(merge_wait_ms)
        arena.fleet.command = lambda slot: place.worker_command(
            f"{place.group}-{slot}" if membership == "static" else None
        )
        for slot in range(arena.workers):
            arena.fleet.start(slot)

    def _start_control(self) -> None:
        if self._arena.control is not None:
            self._arena.control.command = lambda _slot: self._place.control_command()
            for slot in range(_CONTROL_PROCESSES):
                self._arena.control.start(slot)

    def _drain(self) -> None:
        """Read all to the end: what lies in the topics is merged exactly without a long wait."""
        arena, place = self._arena, self._place
        self._start_workers(_DRAIN_WAIT_MS, self._section.legs[-1].membership)
        watched = [self._read_to_end(arena.watcher, place.names.inputs, "the workers")]
        if arena.control is not None and place.control_topic is not None:
            watcher = Watcher(place.bootstrap, place.control_group)
            arena.background.start(watcher.run(place.coordinator_partitions))
            watched.append(self._control_ends(watcher, place.control_topic))
        self._perform(*watched, arena.joined(arena.workers))
        arena.fleet.stop_all()
        if arena.control is not None:
            arena.control.stop_all()

    def _read_to_end(self, watcher: Watcher, topics: tuple[str, ...], who: str) -> Steps:
        end = sum(self._place.ends(topics).values())
        yield from until(
            lambda: watcher.committed(topics) >= end,
            f"{who} commit the last of {end:,} records",
            deadline_s=_DRAIN_DEADLINE_S,
        )

    def _control_ends(self, watcher: Watcher, topic: str) -> Steps:
        """Until the control has committed all, or nothing more for a while.

        Stock Faust commits nothing beyond an event that it has lost sight of.
        """
        end = sum(self._place.ends([topic]).values())
        seen, since_s = -1, time.monotonic()
        while seen < end and time.monotonic() < since_s + _CONTROL_SILENT_S:
            committed = watcher.committed((topic,))
            if committed != seen:
                seen, since_s = committed, time.monotonic()
            yield f"the control commits the last of {end:,} records"

    def _perform(self, *together: Steps) -> None:
        perform(self._arena, together, self._progress)

    def _progress(self, doing: str) -> None:
        arena = self._arena
        self._tell(
            Progress(
                self._section.name,
                self._done,
                self._section.rounds,
                arena.journal.kills,
                arena.journal.counts["zombie"],
                arena.watcher.rebalances,
                self._feed.sent,
                self._section.events,
                doing,
            )
        )
