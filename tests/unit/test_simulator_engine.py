"""The simulation as a whole: deterministic, ordered, complete, as busy as asked for."""

from __future__ import annotations

from itertools import pairwise

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from detectors.events import FEEDBACK_TYPES, GENERATION_TYPES, SHARE_TYPES, event_schema
from monitor.simulator import (
    DEFAULT_START_MS,
    Scenario,
    Simulation,
    SimulationError,
    load_scenario,
    simulate,
    simulate_chunks,
)

MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def run() -> Simulation:
    """Forty minutes with every attack that begins in them."""
    return simulate(load_scenario("all-attacks"), seed=3, users=400, minutes=40)


def test_the_same_arguments_give_the_same_simulation(run: Simulation) -> None:
    """To the last byte: a seed is how a finding is reproduced."""
    again = simulate(load_scenario("all-attacks"), seed=3, users=400, minutes=40)
    assert_frame_equal(again.events, run.events)
    assert_frame_equal(again.labels, run.labels)
    assert_frame_equal(again.actors, run.actors)


def test_another_seed_gives_other_events_and_identifiers(run: Simulation) -> None:
    """So that two simulations can be poured into one system."""
    other = simulate(load_scenario("all-attacks"), seed=4, users=400, minutes=40)
    for name in ("event_id", "user_id", "device_id", "session_id", "prompt_fingerprint"):
        assert not set(other.events[name].drop_nulls()) & set(run.events[name].drop_nulls())


def test_chunks_are_the_whole_in_pieces(run: Simulation) -> None:
    """They follow each other without a gap and hold only events of their own time."""
    scenario = load_scenario("all-attacks")
    chunks = list(simulate_chunks(scenario, seed=3, users=400, minutes=40))
    assert len(chunks) > 1
    assert chunks[0].begin_ms == DEFAULT_START_MS
    assert chunks[-1].end_ms == DEFAULT_START_MS + 40 * MINUTE_MS
    for before, after in pairwise(chunks):
        assert before.end_ms == after.begin_ms
    for chunk in chunks:
        assert chunk.events["time_ms"].is_between(chunk.begin_ms, chunk.end_ms, "left").all()
        assert set(chunk.labels["event_id"]) <= set(chunk.events["event_id"])
        assert chunk.label_times_ms.len() == chunk.labels.height
    assert_frame_equal(pl.concat([chunk.events for chunk in chunks]), run.events)
    assert_frame_equal(pl.concat([chunk.labels for chunk in chunks]), run.labels)


def test_chunks_stay_small_however_busy_the_platform_is() -> None:
    """Memory is bounded by the chunk, so chunks get shorter as the rate grows."""
    scenario = Scenario.model_validate({"name": "busy", "baseline": {"events_per_s": 4000}})
    chunk = next(simulate_chunks(scenario, seed=1, users=300_000, minutes=600))
    assert 50_000 < chunk.events.height < 200_000
    assert chunk.end_ms - chunk.begin_ms < MINUTE_MS


def test_events_have_exactly_the_columns_of_the_core(run: Simulation) -> None:
    """Names, order and types: the table can be fed to the detection as it is."""
    assert run.events.schema == pl.Schema(event_schema())


def test_events_are_in_order_inside_the_time_asked_for(run: Simulation) -> None:
    """By time, then generation before share before feedback."""
    topics = pl.concat(
        pl.DataFrame({"type": types, "topic": [topic] * len(types)})
        for topic, types in enumerate((GENERATION_TYPES, SHARE_TYPES, FEEDBACK_TYPES))
    )
    keys = run.events.select(pl.col("type").cast(pl.String), "time_ms").join(
        topics, on="type", maintain_order="left"
    )
    assert keys.select(pl.col("time_ms") * 4 + pl.col("topic")).to_series().is_sorted()
    end_ms = DEFAULT_START_MS + 40 * MINUTE_MS
    assert run.events["time_ms"].is_between(DEFAULT_START_MS, end_ms, "left").all()


def test_event_ids_are_unique(run: Simulation) -> None:
    assert run.events["event_id"].n_unique() == run.events.height


def test_actors_sum_up_the_labels(run: Simulation) -> None:
    """First and last event and their number, for every account and attack."""
    times = run.events.select("event_id", "time_ms")
    expected = (
        run.labels.join(times, on="event_id")
        .group_by("user_id", "attack_kind", "attack_id")
        .agg(
            pl.col("time_ms").min().alias("first_ms"),
            pl.col("time_ms").max().alias("last_ms"),
            pl.len().cast(pl.Int64).alias("events"),
        )
    )
    assert_frame_equal(run.actors, expected, check_row_order=False)


def test_more_users_make_more_events() -> None:
    """Four times the accounts: four times the events, give or take."""
    counts = [
        simulate(load_scenario("baseline"), seed=5, users=users, minutes=180).events.height
        for users in (1_500, 6_000)
    ]
    assert 3.0 < counts[1] / counts[0] < 5.3


@pytest.mark.parametrize(("start_h", "users", "minutes"), [(0, 25_000, 20), (15, 4_000, 90)])
def test_a_rate_that_is_asked_for_is_met(start_h: int, users: int, minutes: int) -> None:
    """At any hour, from the first minute on: sessions are under way when the run starts."""
    rate = users / 100
    scenario = Scenario.model_validate({"name": "rate", "baseline": {"events_per_s": rate}})
    start_ms = DEFAULT_START_MS + start_h * 60 * MINUTE_MS
    events = simulate(scenario, seed=2, users=users, minutes=minutes, start_ms=start_ms).events
    per_minute = events.group_by((pl.col("time_ms") - start_ms) // MINUTE_MS).len()
    assert per_minute.height == minutes
    assert events.height / (60 * minutes) == pytest.approx(rate, rel=0.12)
    first = per_minute.sort("time_ms")["len"].head(3).mean()
    assert first == pytest.approx(60 * rate, rel=0.3)


def test_a_rate_that_people_cannot_make_is_refused() -> None:
    """Honest accounts that act like machines would make every figure of false alarms a lie."""
    scenario = Scenario.model_validate({"name": "rate", "baseline": {"events_per_s": 500}})
    with pytest.raises(SimulationError, match=r"100 users cannot make 500 events/s.*at least \d+"):
        simulate_chunks(scenario, seed=1, users=100, minutes=1)


@pytest.mark.parametrize(
    ("seed", "users", "minutes", "named"),
    [(1, 0, 1, "users"), (1, 5, 0, "minutes"), (-1, 5, 1, "seed")],
)
def test_senseless_arguments_are_refused(seed: int, users: int, minutes: int, named: str) -> None:
    with pytest.raises(SimulationError, match=named):
        simulate_chunks(load_scenario("baseline"), seed=seed, users=users, minutes=minutes)


def test_one_user_for_one_minute_is_a_simulation_too() -> None:
    """The smallest run has the schema, if hardly an event."""
    run = simulate(load_scenario("baseline"), seed=1, users=1, minutes=1)
    assert run.events.schema == pl.Schema(event_schema())
    assert run.labels.height == run.actors.height == 0
