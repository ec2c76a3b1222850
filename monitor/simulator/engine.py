"""The simulation: honest traffic and attacks, merged in the order of time, with the truth beside.

Time is cut into blocks. What happens in a block may cause events in later ones (a video is ready
some seconds after it was asked for); those are held back until their block comes. So events come
out in order, a block at a time, and memory holds one block, the sessions in progress and what is
held back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl

from monitor.simulator.arrivals import plan_arrivals
from monitor.simulator.baseline import Baseline
from monitor.simulator.errors import SimulationError
from monitor.simulator.identifiers import Identifiers
from monitor.simulator.materialise import materialise, topic_order
from monitor.simulator.population import build_population
from monitor.simulator.rows import Integers, Rows, blank_rows, join_rows, take_rows
from monitor.simulator.scenario import Scenario
from monitor.simulator.schedule import Instance, schedule_attacks

__all__ = [
    "DEFAULT_START_MS",
    "LABEL_SCHEMA",
    "Chunk",
    "Simulation",
    "actors_of",
    "simulate",
    "simulate_chunks",
]

DEFAULT_START_MS: Final = 1_772_442_000_000
"""Monday, 2 March 2026, 09:00 UTC."""

LABEL_SCHEMA: Final[dict[str, pl.DataType]] = {
    "event_id": pl.String(),
    "user_id": pl.String(),
    "attack_kind": pl.String(),
    "attack_id": pl.String(),
}

_BLOCK_EVENTS: Final = 120_000
_BLOCK_MIN_MS: Final = 1_000
_BLOCK_MAX_MS: Final = 600_000
_STEP_MAX_MS: Final = 60_000
"""Honest traffic moves on in steps: within one, nobody starts two sessions."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The events of a stretch of time, [begin, end) in ms, sorted; labels of those of attacks.

    ``label_times_ms`` has the time of each label.
    """

    begin_ms: int
    end_ms: int
    events: pl.DataFrame
    labels: pl.DataFrame
    label_times_ms: pl.Series

    def without_events(self) -> Chunk:
        """The truth alone, for who passes the events on and keeps what is known of them."""
        return replace(self, events=self.events.clear())


@dataclass(frozen=True, slots=True)
class Simulation:
    """A whole run.

    ``events`` has ``detectors.events.event_schema()``, sorted by time, then topic (generation,
    share, feedback). ``labels`` (event_id, user_id, attack_kind, attack_id) has every event of an
    attack, ``actors`` (user_id, attack_kind, attack_id, first_ms, last_ms, events) every attacker.
    """

    events: pl.DataFrame
    labels: pl.DataFrame
    actors: pl.DataFrame


def simulate(
    scenario: Scenario,
    *,
    seed: int,
    users: int | None = None,
    minutes: float | None = None,
    start_ms: int = DEFAULT_START_MS,
) -> Simulation:
    """Simulate all at once; see ``simulate_chunks``, of which this is the sum."""
    chunks = list(
        simulate_chunks(scenario, seed=seed, users=users, minutes=minutes, start_ms=start_ms)
    )
    return Simulation(
        events=pl.concat([chunk.events for chunk in chunks]),
        labels=pl.concat([chunk.labels for chunk in chunks]),
        actors=actors_of(chunks),
    )


def simulate_chunks(
    scenario: Scenario,
    *,
    seed: int,
    users: int | None = None,
    minutes: float | None = None,
    start_ms: int = DEFAULT_START_MS,
) -> Iterator[Chunk]:
    """Simulate ``minutes`` from ``start_ms`` on with ``users`` honest accounts, in bounded memory.

    What is None is taken from the scenario. The same arguments give the same events. Chunks
    follow each other without a gap and cover the whole time; each has about 100,000 events at
    most (attacks not counted) and lasts ten minutes at most.

    Raises SimulationError (before the first chunk) for what cannot be simulated.
    """
    users = scenario.users if users is None else users
    minutes = scenario.minutes if minutes is None else minutes
    if users < 1 or not minutes > 0:
        raise SimulationError(f"users ({users}) and minutes ({minutes}) have to be above 0")
    if seed < 0:
        raise SimulationError(f"seed ({seed}) has to be 0 or more")
    return _Run(scenario, seed, users, start_ms, start_ms + round(60_000 * minutes)).chunks()


def actors_of(chunks: list[Chunk]) -> pl.DataFrame:
    """Every attacker in ``chunks``: one row for each account and attack, by first event."""
    labelled = [chunk.labels.with_columns(time_ms=chunk.label_times_ms) for chunk in chunks]
    return (
        pl.concat(labelled)
        .group_by("user_id", "attack_kind", "attack_id", maintain_order=True)
        .agg(
            first_ms=pl.col("time_ms").min(),
            last_ms=pl.col("time_ms").max(),
            events=pl.len().cast(pl.Int64),
        )
    )


class _Run:
    """The state of a simulation between two blocks."""

    def __init__(
        self, scenario: Scenario, seed: int, users: int, start_ms: int, end_ms: int
    ) -> None:
        settings = scenario.baseline
        rng = np.random.default_rng([seed, 0])
        population = build_population(rng, settings, users, start_ms, end_ms)
        arrivals = plan_arrivals(population, settings, start_ms, end_ms)
        rate = max(arrivals.expected_events_per_s(start_ms), 1e-9)
        block_ms = int(1000.0 * _BLOCK_EVENTS / rate)
        self._block_ms = max(_BLOCK_MIN_MS, min(_BLOCK_MAX_MS, block_ms))
        self._baseline = Baseline(population, arrivals, settings, rng, start_ms)
        self._identifiers = Identifiers(seed)
        self._instances = schedule_attacks(scenario, seed, start_ms, end_ms)
        self._users = users
        self._start_ms = start_ms
        self._end_ms = end_ms
        self._held_back = blank_rows(0)
        self._events = 0

    def chunks(self) -> Iterator[Chunk]:
        started = 0
        for begin_ms in range(self._start_ms, self._end_ms, self._block_ms):
            end_ms = min(begin_ms + self._block_ms, self._end_ms)
            parts = [self._held_back]
            parts += [
                self._baseline.step(step_ms, min(step_ms + _STEP_MAX_MS, end_ms))
                for step_ms in range(begin_ms, end_ms, _STEP_MAX_MS)
            ]
            while started < len(self._instances) and self._instances[started].start_ms < end_ms:
                parts.append(self._instances[started].plan(self._users))
                started += 1
            yield self._finish(join_rows(parts), begin_ms, end_ms)

    def _finish(self, rows: Rows, begin_ms: int, end_ms: int) -> Chunk:
        """Put the rows of this block in order and into words; hold the others back."""
        is_due = rows["time_ms"] < end_ms
        is_later = ~is_due & (rows["time_ms"] < self._end_ms)
        self._held_back = take_rows(rows, np.flatnonzero(is_later))
        rows = take_rows(rows, _in_order(rows, np.flatnonzero(is_due)))
        events = materialise(rows, self._events, self._identifiers)
        self._events += len(rows)
        labels, label_times_ms = _label(rows, events, self._instances)
        return Chunk(begin_ms, end_ms, events, labels, label_times_ms)


def _in_order(rows: Rows, places: Integers) -> Integers:
    """``places`` sorted by time, then topic, then as they are."""
    key = rows["time_ms"][places] * 4 + topic_order(rows["type"][places])
    return places[np.argsort(key, kind="stable")]


def _label(
    rows: Rows, events: pl.DataFrame, instances: tuple[Instance, ...]
) -> tuple[pl.DataFrame, pl.Series]:
    """The labels of the rows that belong to attacks, and their times."""
    planted = np.flatnonzero(rows["attack"] >= 0)
    attacks = rows["attack"][planted]
    distinct, back = np.unique(attacks, return_inverse=True)
    chosen = [instances[index] for index in distinct]
    kinds = pl.Series([one.attack.kind for one in chosen], dtype=pl.String)
    attack_ids = pl.Series([one.attack_id for one in chosen], dtype=pl.String)
    marked = events[planted]
    labels = pl.DataFrame(
        {
            "event_id": marked["event_id"],
            "user_id": marked["user_id"],
            "attack_kind": kinds.gather(back),
            "attack_id": attack_ids.gather(back),
        },
        schema=LABEL_SCHEMA,
    )
    return labels, marked["time_ms"]
