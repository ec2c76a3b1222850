"""The events of a run: every attack and honest traffic, and no topic that ever falls silent.

The scenario has a feedback event every twenty seconds. The merge of the three topics waits for
the quietest, so someone here files a report every few events, in each partition, about a user
who is just then active: the order of the topics matters for the features of that user.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from monitor.simulator import load_scenario, simulate_chunks
from monitor.simulator.attacks.kinds import AnyAttack
from monitor.simulator.kafka_output import event_keys, murmur2
from tests.chaos.errors import ChaosError

__all__ = ["make_corpus", "partitions_of"]

_SURPLUS: Final = 1.05
_EVENTS_PER_USER: Final = 30
_LEAST_USERS: Final = 2_000
_LEAST_TIMES: Final = 3
_EVENTS_PER_TIME: Final = 20_000
_EVENTS_OF_ATTACKS: Final = 4_000
_SPREAD_S: Final = 2_400.0
"""All attacks of the scenario, once in so many events, spread over the first part of the hour."""


def make_corpus(events: int, *, partitions: int, report_every: int, seed: int) -> pl.DataFrame:
    """At least ``events`` events in the order of their times, an hour of all attacks many times.

    After every ``report_every`` events each partition gets a report.
    """
    scenario = load_scenario("all-attacks")
    times = max(_LEAST_TIMES, events // _EVENTS_PER_TIME)
    attacks = tuple(_shifted(attack, n, times) for n in range(times) for attack in scenario.attacks)
    honest_per_s = (events - times * _EVENTS_OF_ATTACKS) / (scenario.minutes * 60)
    baseline = scenario.baseline.model_copy(update={"events_per_s": _SURPLUS * honest_per_s})
    scenario = scenario.model_copy(update={"baseline": baseline, "attacks": attacks})
    users = max(_LEAST_USERS, events // _EVENTS_PER_USER)
    chunks = simulate_chunks(scenario, seed=seed, users=users)
    simulated = pl.concat([chunk.events for chunk in chunks])
    if len(simulated) < events:
        raise ChaosError(f"the simulation gave {len(simulated)} events instead of {events}")
    return _with_reports(simulated, partitions, report_every)


def partitions_of(keys: pl.Series, partitions: int) -> pl.Series:
    """The partition that Kafka's clients choose for each key."""
    hashed = murmur2(keys.cast(pl.Binary).to_list()) & np.uint32(0x7FFFFFFF)
    return pl.Series("partition", (hashed % np.uint32(partitions)).astype(np.int64))


def _shifted(attack: AnyAttack, number: int, times: int) -> AnyAttack:
    """The same attack at another time of the hour."""
    start_s = (attack.start_s + _SPREAD_S * number / times) % _SPREAD_S
    return attack.model_copy(update={"start_s": start_s})


def _with_reports(events: pl.DataFrame, partitions: int, report_every: int) -> pl.DataFrame:
    """Reports about the first user of each partition in every ``report_every`` events."""
    subjects = (
        events.select("time_ms", "user_id", stretch=pl.int_range(pl.len()) // report_every)
        .with_columns(partitions_of(event_keys(events), partitions))
        .group_by("stretch", "partition", maintain_order=True)
        .first()
    )
    real = events.filter(pl.col("type") == "report.filed")
    if not len(real):
        raise ChaosError("the scenario has no reports to make others of")
    template = real[np.arange(len(subjects)) % len(real)]
    reports = template.with_columns(
        event_id=pl.format("report-{}-{}", subjects["stretch"], subjects["partition"]),
        time_ms=subjects["time_ms"],
        subject_user_id=subjects["user_id"],
    )
    return pl.concat([events, reports]).sort("time_ms", maintain_order=True)
