"""Floods do not blind the monitor: of users, of one user's events, of one rule's alerts.

The flood of users is a million here, ten million with ``FLOODWATCH_LONG=1`` in the environment.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.batch import EventBatch
from detectors.compiled import CompiledPack, compile_pack
from detectors.incidents import Alert, Decision, Output
from detectors.keys import hash_string
from detectors.pack import RuleSpec
from detectors.pressure import ALERT_STORM, USER_TABLE_PRESSURE, AlertBound, AlertBudget
from detectors.stages import StageOutputs, UserStage
from detectors.topology import DEFAULT_MAX_USERS
from monitor.packs import load_pack
from tests.support.events import START_MS, complete, random_events, small_pack

LONG: Final = os.environ.get("FLOODWATCH_LONG") == "1"
FLOOD: Final = 10_000_000 if LONG else 1_000_000
FLOOD_SPACING_MS: Final = 4
CHUNK: Final = 5_000
MAX_USERS: Final = 20_000
HONEST: Final = 50
ATTACKERS: Final = 5
# Between two events of an honest user there are more new users than rows; an attacker is faster.
HONEST_SPACING_MS: Final = 100_000
ATTACK_SPACING_MS: Final = 3_000
ATTACK_EVENTS: Final = 30

STATM: Final = Path("/proc/self/statm")

SMALL: Final = compile_pack(small_pack())
NOISY: Final = RuleSpec("noisy", "Fires for everyone", "time_ms > 0", "low", 60_000, "noisy.md")
WITH_NOISY: Final = compile_pack(replace(small_pack(), rules=(NOISY, *small_pack().rules)))


def requests(user_ids: pl.Series, times_ms: np.ndarray, name: str) -> pl.DataFrame:
    """One generation of each user at each time (n,); ``name`` makes the event ids distinct."""
    index = pl.int_range(len(user_ids), eager=True).cast(pl.String)
    return pl.DataFrame({"user_id": user_ids, "time_ms": times_ms, "event_id": name + index})


def residents() -> pl.DataFrame:
    """Events of honest users, who are there all the time, and of attackers in the middle of it."""
    rng = np.random.default_rng(4)
    length_ms = FLOOD * FLOOD_SPACING_MS
    parts = []
    for user in range(HONEST):
        # The second event comes soon: that is when the table begins to protect a user.
        times_ms = np.arange(0, length_ms, HONEST_SPACING_MS) + rng.integers(0, 5_000)
        times_ms = np.insert(times_ms, 1, times_ms[0] + 2_000)
        users = pl.repeat(f"honest-{user}", len(times_ms), eager=True)
        parts.append(requests(users, START_MS + times_ms, f"honest-{user}-"))
    for user in range(ATTACKERS):
        first_ms = length_ms // 4 + rng.integers(0, length_ms // 2)
        times_ms = first_ms + ATTACK_SPACING_MS * np.arange(ATTACK_EVENTS)
        users = pl.repeat(f"attacker-{user}", len(times_ms), eager=True)
        parts.append(requests(users, START_MS + times_ms, f"attacker-{user}-"))
    return pl.concat(parts).sort("time_ms", maintain_order=True)


def batches(events: pl.DataFrame, flood: int, *, flooded: bool) -> Iterator[EventBatch]:
    """``events`` in the order of their times, alone or among ``flood`` never-seen users."""
    span_ms = CHUNK * FLOOD_SPACING_MS
    for number in range(flood // CHUNK):
        start_ms = START_MS + number * span_ms
        mine = events.filter(pl.col("time_ms").is_between(start_ms, start_ms + span_ms, "left"))
        if flooded:
            ids = pl.int_range(number * CHUNK, (number + 1) * CHUNK, eager=True).cast(pl.String)
            times_ms = start_ms + FLOOD_SPACING_MS * np.arange(CHUNK)
            others = requests("bot-" + ids, times_ms, f"flood-{number}-")
            mine = pl.concat([mine, others]).sort("time_ms", maintain_order=True)
        if len(mine):
            full = mine.with_columns(type=pl.lit("generation.requested"), tier=pl.lit("free"))
            yield EventBatch.of(complete(full))


def row_of(stage: UserStage, user_id: str) -> list[bytes]:
    """Everything the stage's features know of a user."""
    row = stage.keys.find(hash_string(user_id))
    assert row is not None, f"{user_id} was forgotten"
    return [array[row].tobytes() for array in stage.features.state]


def subject(output: Output) -> str:
    """Whom an output is about."""
    return output.user_id if isinstance(output, Decision) else output.key


def test_a_flood_of_new_users_pushes_out_nobody_who_is_active() -> None:
    """Outputs about everyone else and their windows are byte for byte those without the flood.

    More new users than the table has rows come between two events of each honest user: a plain
    least-recently-used table would have forgotten all of them each time.
    """
    events = residents()
    assert HONEST_SPACING_MS / FLOOD_SPACING_MS > MAX_USERS
    calm, flooded = UserStage(SMALL, MAX_USERS), UserStage(SMALL, MAX_USERS)
    expected, seen = [], []
    for batch in batches(events, FLOOD, flooded=False):
        expected += calm.process(batch).outputs
    for batch in batches(events, FLOOD, flooded=True):
        seen += flooded.process(batch).outputs
    end_ms = START_MS + 2 * FLOOD * FLOOD_SPACING_MS
    expected += calm.advance(end_ms).outputs
    seen += flooded.advance(end_ms).outputs
    assert flooded.keys.evicted == FLOOD + HONEST + ATTACKERS - MAX_USERS
    assert [output for output in seen if subject(output) != "users"] == expected
    alerted = {output.key for output in seen if isinstance(output, Alert)}
    assert alerted == {*(f"attacker-{user}" for user in range(ATTACKERS)), "users"}
    for user in range(HONEST):
        assert row_of(flooded, f"honest-{user}") == row_of(calm, f"honest-{user}")


@pytest.mark.skipif(not STATM.exists(), reason="this machine does not tell a process's memory")
def test_memory_stays_within_what_the_table_may_hold() -> None:
    """Resident memory grows by the bytes of a user times the rows, and by no tenth more."""
    pack = compile_pack(load_pack("default"))
    nobody = residents().clear()
    warm = UserStage(pack, 10)
    for batch in batches(nobody, 10 * CHUNK, flooded=True):
        warm.process(batch)
    stage = UserStage(pack, DEFAULT_MAX_USERS)
    before_bytes = resident_bytes()
    most_bytes = 0
    for batch in batches(nobody, max(FLOOD // 2, 2 * DEFAULT_MAX_USERS), flooded=True):
        stage.process(batch)
        most_bytes = max(most_bytes, resident_bytes() - before_bytes)
    assert stage.keys.evicted > DEFAULT_MAX_USERS // 2
    assert most_bytes <= 1.1 * DEFAULT_MAX_USERS * stage.bytes_per_user


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def test_one_user_with_half_of_all_events_changes_nothing_for_anyone() -> None:
    """Outputs about the hot user and about the others are those that each have alone."""
    hot = random_events(1, 8_000, 60).with_columns(
        event_id="hot-" + pl.col("event_id"), user_id=pl.lit("hot"), subject_user_id=pl.lit("hot")
    )
    others = random_events(2, 8_000, 60)
    both = pl.concat([hot, others]).sort("time_ms", maintain_order=True)
    seen = outputs_of(both)
    for alone, is_hot in ((hot, True), (others, False)):
        expected = outputs_of(alone.sort("time_ms", maintain_order=True))
        assert [o for o in seen if (subject(o) == "hot") == is_hot] == expected
        assert any(isinstance(output, Alert) for output in expected)


def outputs_of(events: pl.DataFrame) -> list[Output]:
    """All that a stage with room for everyone makes of events, up to the last closing."""
    stage = UserStage(SMALL, 61)
    cuts = list(range(0, len(events), 3_000))
    outputs = [o for part in EventBatch.of(events).split(cuts) for o in stage.process(part).outputs]
    return outputs + stage.advance(START_MS + 86_400_000).outputs


def run(pack: CompiledPack, batch: EventBatch, cuts: list[int], max_users: int) -> StageOutputs:
    """All that a stage with small bounds makes of a batch."""
    stage = UserStage(pack, max_users)
    rule_ids = [rule.spec.id for rule in pack.rules.rules]
    stage.alerting.budget = AlertBudget.of(rule_ids, AlertBound(per_minute=6, burst=20))
    stage.incidents.rule_capacity = 5
    whole = StageOutputs()
    for part in batch.split(cuts):
        result = stage.process(part)
        whole.outputs += result.outputs
        whole.shed += result.shed
    return whole


def rule_ids(outputs: list[Output]) -> set[str]:
    return {output.rule_id for output in outputs if isinstance(output, Alert)}


@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(0, 800), max_size=20),
    max_users=st.sampled_from([8, 100]),
)
@settings(max_examples=30, deadline=None)
def test_shedding_and_pressure_do_not_depend_on_batches(
    seed: int, cuts: list[int], max_users: int
) -> None:
    """A function of the events in order; and the workload does shed and evict."""
    batch = EventBatch.of(random_events(seed, 800, 40))
    one, other = run(WITH_NOISY, batch, [], max_users), run(WITH_NOISY, batch, cuts, max_users)
    assert (one.outputs, one.shed) == (other.outputs, other.shed)
    assert ALERT_STORM in rule_ids(one.outputs)
    assert (USER_TABLE_PRESSURE in rule_ids(one.outputs)) == (max_users == 8)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_storm_leaves_the_other_rules_alone(seed: int) -> None:
    """Alerts, incidents and decisions of the others are exactly those without the noisy rule."""
    batch = EventBatch.of(random_events(seed, 800, 10))
    stormy, calm = run(WITH_NOISY, batch, [], 100).outputs, run(SMALL, batch, [], 100).outputs

    def of_others(outputs: list[Output]) -> list[Output]:
        return [
            replace(output, pack_version="") if isinstance(output, Alert) else output
            for output in outputs
            if "noisy" not in str(output)
        ]

    assert of_others(stormy) == of_others(calm)
    assert rule_ids(calm)
    assert rule_ids(stormy) > rule_ids(calm)
