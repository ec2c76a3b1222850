"""Open incidents as blocks: what changes is written, and what comes back acts the same."""

from __future__ import annotations

import polars as pl

from detectors.incidents import IncidentTracker, IncidentUpdate
from detectors.pack import RuleSpec
from detectors.rules import Rule, compile_rules
from tests.support.events import START_MS

MINUTE_MS = 60_000


def rule() -> Rule:
    """A rule with ten minutes of cooldown: incidents close after half an hour."""
    spec = RuleSpec("burst", "Burst", "made >= 3", "high", 10 * MINUTE_MS, "runbook.md")
    return compile_rules([spec], {"made": pl.Float64()}).rules[0]


RULE = rule()


def find(tracker: IncidentTracker, minute: float, key: str) -> None:
    """A finding at a minute."""
    time_ms = START_MS + int(minute * MINUTE_MS)
    if not tracker.suppress(RULE, key, time_ms):
        tracker.alert(RULE, key, time_ms, f"evt-{minute}")


def close(tracker: IncidentTracker, minute: float) -> list[IncidentUpdate]:
    """What closes when event time reaches a minute."""
    return list(tracker.close_due(START_MS + int(minute * MINUTE_MS)))


def copied(tracker: IncidentTracker) -> IncidentTracker:
    """Another tracker with its state."""
    other = IncidentTracker(tracker.capacity)
    said = other.restore(tracker.copy(full=True), tracker.counters, [RULE])
    assert said == []
    return other


def test_a_due_time_that_moves_is_a_change() -> None:
    """Nothing else happens to the incident at that time."""
    tracker = IncidentTracker()
    find(tracker, 0, "user")
    find(tracker, 9, "user")
    [before] = tracker.copy(full=False)
    assert close(tracker, 30) == []
    [after] = tracker.copy(full=False)
    assert (after.arrays["due_ms"] - before.arrays["due_ms"]).tolist() == [9 * MINUTE_MS]
    assert close(tracker, 38) == []
    assert tracker.copy(full=False) == []


def test_who_is_closed_for_lack_of_room_stays_the_same() -> None:
    """By the time an incident is due, which is not yet that of its last finding."""
    tracker = IncidentTracker(capacity=2)
    find(tracker, 0, "early")
    find(tracker, 5, "later")
    find(tracker, 9, "early")
    again = copied(tracker)
    closed = []
    for one in (tracker, again):
        find(one, 9, "third")
        closed.append([update.key for update in one.evict_over_capacity()])
    assert closed == [["early"], ["early"]]
    assert tracker.counters == again.counters


def test_incidents_come_in_blocks_of_a_thousand() -> None:
    """One finding more writes one block; blocks without incidents are gone."""
    tracker = IncidentTracker()
    for number in range(2_500):
        find(tracker, number / 1_000, f"user-{number}")
    assert [len(block.arrays["place"]) for block in tracker.copy(full=False)] == [1_000, 1_000, 500]
    find(tracker, 5, "user-1234")
    assert [block.name for block in tracker.copy(full=False)] == ["incidents/1"]
    assert len(close(tracker, 30 + 0.9995)) == 1_000
    assert tracker.names() == ["incidents/1", "incidents/2"]
    assert tracker.copy(full=False) == []
    find(tracker, 31, "another")
    assert [block.name for block in tracker.copy(full=False)] == ["incidents/0"]
    assert copied(tracker).counters == tracker.counters


def test_keys_are_whatever_text_they_are() -> None:
    """Quotes, line ends, other alphabets."""
    keys = ['"', "\\", "\n\r\0", "ünïcode ✓ 用户", " ", "[]{},:"]
    tracker = IncidentTracker()
    for key in keys:
        find(tracker, 0, key)
    again = copied(tracker)
    closed = [update.key for update in close(tracker, 60)]
    assert closed == [update.key for update in close(again, 60)]
    assert sorted(closed) == sorted(keys)
