"""The budget of alerts, the window of evictions, and what the stage says when they are exceeded."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.batch import EventBatch
from detectors.compiled import CompiledPack, compile_pack
from detectors.errors import PackError
from detectors.incidents import Alert, Decision, IncidentUpdate, Output
from detectors.pack import Action, RuleSpec
from detectors.pressure import (
    ALERT_STORM,
    BUILT_IN_RULES,
    USER_TABLE_PRESSURE,
    AlertBound,
    AlertBudget,
    EvictionWindow,
)
from detectors.stages import UserStage
from tests.support.events import START_MS, complete, small_pack

MINUTE_MS = 60_000
NOISY = RuleSpec(
    "noisy",
    "Fires for everyone",
    "time_ms > 0",
    "low",
    60_000,
    "docs/runbooks/noisy.md",
    action=Action("warn", "all", 60_000),
)
FEW = AlertBound(per_minute=6, burst=20)


def with_noisy() -> CompiledPack:
    pack = small_pack()
    return compile_pack(replace(pack, rules=(NOISY, *pack.rules)))


def bounded(pack: CompiledPack, max_users: int = 1_000) -> UserStage:
    """A stage of which a rule may alert little."""
    stage = UserStage(pack, max_users)
    stage.alerting.budget = AlertBudget.of([rule.spec.id for rule in pack.rules.rules], FEW)
    return stage


def alerts(outputs: list[Output], rule_id: str) -> list[Alert]:
    return [o for o in outputs if isinstance(o, Alert) and o.rule_id == rule_id]


def facts(alert: Alert) -> dict[str, object]:
    return {condition.column: condition.value for condition in alert.evidence}


def newcomers(users: int, *, spacing_ms: int) -> EventBatch:
    """One event of each of many users."""
    frame = pl.DataFrame(
        {
            "event_id": [f"evt-{index}" for index in range(users)],
            "type": ["generation.requested"] * users,
            "time_ms": START_MS + spacing_ms * np.arange(users),
            "user_id": [f"new-{index}" for index in range(users)],
            "tier": ["free"] * users,
        }
    )
    return EventBatch.of(complete(frame))


def test_a_rule_may_burst_and_then_alerts_at_its_rate() -> None:
    """A thousand at once, then one every 200 ms; nothing for whoever asks again meanwhile."""
    budget = AlertBudget.of(["a", "b"], AlertBound())
    assert [budget.take("a", START_MS) for _ in range(1_002)] == [True] * 1_000 + [False] * 2
    times = [START_MS + after for after in (199, 200, 201, 399, 400)]
    assert [budget.take("a", time) for time in times] == [False, True, False, False, True]
    assert budget.take("b", START_MS), "the budget of another rule is its own"


def test_a_pause_gives_the_whole_burst_again() -> None:
    """200 seconds later; and the storm before is over, its figures do not go on."""
    budget = AlertBudget.of(["a"], AlertBound())
    for _ in range(1_500):
        budget.take("a", START_MS)
    assert budget.storm("a", START_MS + 3_000) == {
        "findings_shed": 500,
        "alerts_made": 1_000,
        "alerts_within_s": 3.0,
        "alerts_per_minute_bound": 300,
        "alerts_burst_bound": 1_000,
    }
    later = START_MS + 200_000
    assert sum(budget.take("a", later) for _ in range(1_500)) == 1_000
    assert budget.storm("a", later)["findings_shed"] == 500


@settings(deadline=None)
@given(
    gaps_ms=st.lists(st.sampled_from([0, 0, 0, 50, 5_000, 90_000]), max_size=200),
    cut=st.integers(0, 200),
)
def test_a_restored_budget_goes_on(gaps_ms: list[int], cut: int) -> None:
    """Its state is JSON; a rule that the state does not know starts with a full budget."""
    bound = AlertBound(per_minute=60, burst=5)
    one, other = AlertBudget.of(["a"], bound), AlertBudget.of(["a", "new"], bound)
    now_ms = START_MS
    for index, gap_ms in enumerate(gaps_ms):
        if index == min(cut, len(gaps_ms) - 1):
            other.restore({**json.loads(json.dumps(one.state())), "gone": {}})
        now_ms += gap_ms
        taken = one.take("a", now_ms)
        if index >= cut:
            assert other.take("a", now_ms) == taken
    assert other.take("new", now_ms)


@settings(deadline=None)
@given(
    capacity=st.integers(1, 200),
    gaps_ms=st.lists(st.sampled_from([0, 1, 1_000, 30_000, 60_000, 400_000]), max_size=120),
    cuts=st.lists(st.integers(0, 120), max_size=5),
)
def test_too_many_evictions_are_told_once_a_minute(
    capacity: int, gaps_ms: list[int], cuts: list[int]
) -> None:
    """Against a plain count over the last ten minutes, whatever the cuts and restarts."""
    times_ms = START_MS + np.cumsum(np.array(gaps_ms, dtype=np.int64))
    minutes = (times_ms // MINUTE_MS).tolist()
    expected: list[tuple[int, int]] = []
    for index, minute in enumerate(minutes):
        in_window = sum(minute - 10 < other <= minute for other in minutes[: index + 1])
        told = expected and minutes[expected[-1][0]] == minute
        if 100 * in_window > 5 * capacity and not told:
            expected.append((index, in_window))
    window = EvictionWindow(capacity)
    told_at = []
    start = 0
    for part in np.split(times_ms, sorted(cut for cut in cuts if cut <= len(gaps_ms))):
        told_at += [(start + index, evictions) for index, evictions in window.add(part)]
        start += len(part)
        restarted = EvictionWindow(capacity)
        restarted.restore(json.loads(json.dumps(window.state())))
        window = restarted
    assert told_at == expected
    assert all(window.pressure(n)["evicted_percent_10m"] > 5 for _, n in told_at)


def test_a_storm_is_shed_and_alerted_on() -> None:
    """A rule that fires for everyone: its alerts are bounded, and someone is told."""
    stage = bounded(with_noisy())
    result = stage.process(newcomers(600, spacing_ms=100))
    made = alerts(result.outputs, "noisy")
    assert len(made) == 20 + 5, "the burst, and six a minute for the minute that it took"
    assert result.shed == {"noisy": 600 - len(made)}
    assert result.findings["noisy"] == 600
    [storm] = alerts(result.outputs, ALERT_STORM)
    assert (storm.key_space, storm.key, storm.time_ms) == ("rule", "noisy", START_MS + 2_000)
    assert facts(storm) == {
        "findings_shed": 1,
        "alerts_made": 20,
        "alerts_within_s": 2.0,
        "alerts_per_minute_bound": 6,
        "alerts_burst_bound": 20,
    }
    assert storm.summary.startswith("A rule floods the alerts: findings_shed 1 > 0; alerts_made")
    assert storm.runbook == f"docs/runbooks/{ALERT_STORM}.md"
    assert len([o for o in result.outputs if isinstance(o, Decision)]) == len(made)


def test_a_storm_that_goes_on_is_told_again_after_ten_minutes() -> None:
    """With how much was shed since it began; its incident counts every shed finding."""
    stage = bounded(with_noisy())
    result = stage.process(newcomers(1_300, spacing_ms=1_000))
    storms = alerts(result.outputs, ALERT_STORM)
    assert [storm.sequence for storm in storms] == [1, 2, 3]
    assert [storm.time_ms - storms[0].time_ms for storm in storms] == [0, 600_000, 1_200_000]
    shed = [facts(storm)["findings_shed"] for storm in storms]
    assert shed == [1, 540 + 1, 1_080 + 1]
    closed = stage.advance(START_MS + 86_400_000).outputs
    [update] = [o for o in closed if isinstance(o, IncidentUpdate) and o.rule_id == ALERT_STORM]
    assert update.findings == result.shed["noisy"]


def test_an_incident_counts_what_was_shed_of_it() -> None:
    """Its next alert says how many findings were held back; it stays open meanwhile."""
    stage = bounded(with_noisy())
    stage.process(newcomers(21, spacing_ms=0))
    again = [60_000, 60_000, 180_000]
    frame = pl.concat([newcomers(2, spacing_ms=0).frame.slice(0, 1)] * len(again)).with_columns(
        event_id=pl.Series([f"again-{index}" for index in range(len(again))]),
        time_ms=pl.Series([START_MS + after_ms for after_ms in again]),
    )
    stage.alerting.budget.restore(
        {"noisy": {"full_ms": START_MS + 300_000, "since_ms": START_MS, "alerts": 0, "shed": 0}}
    )
    result = stage.process(EventBatch.of(frame))
    assert result.shed == {"noisy": 2}
    [alert] = alerts(result.outputs, "noisy")
    assert (alert.sequence, alert.suppressed) == (2, 2)


def test_open_incidents_of_a_rule_are_bounded() -> None:
    """The longest idle of that rule close; those of the other rules stay."""
    pack = with_noisy()
    stage = UserStage(pack, 1_000)
    stage.incidents.rule_capacity = 32
    outputs = stage.process(newcomers(100, spacing_ms=1)).outputs
    closed = [o.key for o in outputs if isinstance(o, IncidentUpdate) and o.state == "closed"]
    assert len(stage.incidents) <= 32
    assert stage.incidents.evicted == len(closed) == 100 - len(stage.incidents)
    assert closed == [f"new-{index}" for index in range(len(closed))]


def test_by_default_no_rule_can_push_out_the_incidents_of_the_others() -> None:
    """All rules of a pack at their bound fit; a large pack keeps a useful number each."""
    pack = with_noisy()
    tracker = UserStage(pack, 10).incidents
    assert tracker.rule_capacity * len(pack.all_rules) <= tracker.capacity
    many = tuple(replace(NOISY, id=f"noisy-{index}") for index in range(200))
    large = compile_pack(replace(small_pack(), rules=many))
    assert UserStage(large, 10).incidents.rule_capacity == 1_000


def test_evictions_that_are_too_many_are_alerted_on() -> None:
    """At the eviction that exceeds 5 % of the rows within ten minutes; then hourly."""
    stage = UserStage(compile_pack(small_pack()), 100)
    result = stage.process(newcomers(8_000, spacing_ms=1_000))
    [first, second, third] = alerts(result.outputs, USER_TABLE_PRESSURE)
    assert (first.key_space, first.key) == ("table", "users")
    assert first.event_id == f"evt-{100 + 5}"
    assert facts(first) == {
        "evicted_percent_10m": 6.0,
        "evictions_10m": 6,
        "table_capacity_rows": 100,
    }
    assert facts(second)["evictions_10m"] in range(540, 601)
    assert second.time_ms - first.time_ms in range(3_600_000, 3_600_000 + MINUTE_MS)
    assert third.incident_id == first.incident_id
    assert first.runbook == f"docs/runbooks/{USER_TABLE_PRESSURE}.md"


def test_a_table_that_holds_everyone_is_under_no_pressure() -> None:
    """New users alone are no reason: rows are there for them."""
    stage = UserStage(compile_pack(small_pack()), 1_000)
    assert not alerts(stage.process(newcomers(1_000, spacing_ms=1)).outputs, USER_TABLE_PRESSURE)


def test_a_rule_without_columns_alerts_too() -> None:
    """``true`` is a rule: it reads nothing, and finds everyone."""
    pack = compile_pack(replace(small_pack(), rules=(replace(NOISY, when="true"),)))
    result = UserStage(pack, 10).process(newcomers(3, spacing_ms=1))
    assert len(alerts(result.outputs, "noisy")) == 3


@pytest.mark.parametrize("built_in", BUILT_IN_RULES, ids=lambda spec: spec.id)
def test_the_id_of_a_built_in_rule_is_taken(built_in: RuleSpec) -> None:
    """Its incidents and budgets would be mixed up."""
    pack = replace(small_pack(), rules=(replace(NOISY, id=built_in.id),))
    with pytest.raises(PackError, match="is built in"):
        compile_pack(pack)
