"""Cooldown, incidents that open, go on and close, all in event time; ids that never change."""

from __future__ import annotations

import polars as pl

from detectors.incidents import IncidentTracker, IncidentUpdate, stable_id
from detectors.pack import RuleSpec
from detectors.rules import Condition, Rule, compile_rules

MINUTE_MS = 60_000
START_MS = 1_780_000_000_000
CLOSES_AFTER_MS = 30 * MINUTE_MS


def rule(rule_id: str = "burst") -> Rule:
    """A rule with ten minutes of cooldown."""
    spec = RuleSpec(rule_id, "Burst", "made >= 3", "high", 10 * MINUTE_MS, "runbook.md")
    return compile_rules([spec], {"made": pl.Float64()}).rules[0]


def find(tracker: IncidentTracker, minute: float, key: str = "user") -> bool:
    """A finding at a minute; whether it is an alert."""
    time_ms = START_MS + int(minute * MINUTE_MS)
    if tracker.suppress(rule(), key, time_ms):
        return False
    tracker.alert(rule(), key, time_ms, f"evt-{minute}")
    return True


def close(tracker: IncidentTracker, minute: float) -> list[IncidentUpdate]:
    """What closes when event time reaches a minute."""
    return list(tracker.close_due(START_MS + int(minute * MINUTE_MS)))


def test_findings_within_the_cooldown_are_counted_not_alerted() -> None:
    """The first alerts, those within ten minutes of an alert do not, the next one does."""
    tracker = IncidentTracker()
    assert [find(tracker, minute) for minute in (0, 1, 9.99, 10, 15, 20)] == [
        True,
        False,
        False,
        True,
        False,
        True,
    ]
    [closed] = close(tracker, 1_000)
    assert (closed.state, closed.alerts, closed.findings) == ("closed", 3, 6)


def test_an_incident_closes_after_its_last_finding_not_its_last_alert() -> None:
    """Half an hour of silence; a finding in cooldown prolongs it."""
    tracker = IncidentTracker()
    find(tracker, 0)
    find(tracker, 9)
    assert close(tracker, 38.9) == []
    [closed] = close(tracker, 39)
    assert closed.time_ms == START_MS + 9 * MINUTE_MS + CLOSES_AFTER_MS
    assert len(tracker) == 0


def test_the_next_episode_is_another_incident() -> None:
    """Same rule, same key, another start: another id."""
    tracker = IncidentTracker()
    find(tracker, 0)
    [first] = close(tracker, 60)
    find(tracker, 61)
    [second] = close(tracker, 120)
    assert first.incident_id != second.incident_id


def test_closings_come_in_the_order_of_their_times() -> None:
    """However they were opened, and also when several are due at once."""
    tracker = IncidentTracker()
    for minute, key in ((0, "c"), (1, "a"), (2, "b")):
        find(tracker, minute, key)
    find(tracker, 5, "c")
    assert [update.key for update in close(tracker, 1_000)] == ["a", "b", "c"]


def test_a_late_finding_does_not_turn_back_time() -> None:
    """It belongs to the incident and its cooldown; the end stays where it was."""
    tracker = IncidentTracker()
    find(tracker, 12)
    assert find(tracker, 3) is False
    [closed] = close(tracker, 1_000)
    assert closed.last_finding_ms == START_MS + 12 * MINUTE_MS


def test_the_longest_idle_incident_closes_when_there_are_too_many() -> None:
    """The bound holds, what it cost is counted, nothing is left behind in silence."""
    tracker = IncidentTracker(capacity=2)
    for minute, key in ((0, "a"), (1, "b"), (2, "c")):
        find(tracker, minute, key)
    [closed] = tracker.evict_over_capacity()
    assert (closed.key, closed.state) == ("a", "closed")
    assert (len(tracker), tracker.evicted) == (2, 1)


def test_ids_never_change() -> None:
    """They are in stores and chats: this fails if someone changes how they are made."""
    assert stable_id("alr", "inc_1", 2) == "alr_67bcb040bdd9dd44ae55"
    assert stable_id("alr", "inc_12", "") != stable_id("alr", "inc_1", "2")


def test_a_condition_reads_as_a_sentence() -> None:
    """Value against threshold; a fact without the value twice."""
    assert str(Condition("made", ">=", 20, 23.0, holds=True)) == "made 23 >= 20"
    assert str(Condition("tier", "=", "free", "free", holds=True)) == "tier = free"
    assert str(Condition("ratio", ">", 0.5, 0.123456, holds=False)) == "ratio 0.1235 > 0.5"
