"""Cases of rules: the events they stand for, what is evaluated, and what a failure says."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.packs import CaseResult, check_pack, load_pack
from monitor.packs.models import StepModel
from monitor.packs.steps import expand

FEATURES = """\
windows:
  1m: {panes: 6}
  1h: {panes: 6}
derived:
  - {name: age_days, sql: "(time_ms - account_created_ms) / 86400000.0"}
  - {name: blocked_ratio, sql: "blocked_1h / greatest(made_1h, 1)"}
features:
  - {name: made, kind: count, where: "type = 'generation.requested'", windows: [1m, 1h]}
  - {name: blocked, kind: count, where: "type = 'generation.blocked'", windows: [1h]}
  - {name: pause, kind: gap, where: "type = 'generation.requested'", windows: [1h]}
"""
LIMITS = """\
default_tier: free
decision: 1m
actions: {generation: "type = 'generation.requested'"}
limits:
  - {name: per_minute, action: generation, per: 1m, allow: {free: 5, pro: 50}}
"""


def _check(folder: Path, when: str, must: str, must_not: str) -> tuple[CaseResult, CaseResult]:
    """The results of one rule with a case that must fire and one that must not."""
    (folder / "features.yaml").write_text(FEATURES)
    (folder / "limits.yaml").write_text(LIMITS)
    (folder / "rules.yaml").write_text(
        f"""\
rules:
  - id: rule
    title: Rule
    when: "{when}"
    severity: low
    cooldown: 1m
    runbook: rule.md
    cases:
      - {{name: must, fires: true, {must}}}
      - {{name: must not, fires: false, {must_not}}}
"""
    )
    first, second = check_pack(load_pack(folder))
    return first, second


def _steps(*steps: dict[str, object]) -> list[dict[str, object]]:
    return list(expand(StepModel.model_validate(step) for step in steps))


def test_steps_become_events_in_time() -> None:
    rows = _steps(
        {"type": "generation.requested", "times": 2, "every": "10s", "prompt_fingerprint": "p{i}"},
        {"type": "generation.blocked", "at": "5m", "account_age": "2d", "account_idle": "1h"},
    )
    start = rows[0]["time_ms"]
    assert isinstance(start, int)
    times = [row["time_ms"] for row in rows]
    assert times == [start, start + 10_000, start + 20_000 + 300_000]
    assert [row.get("prompt_fingerprint") for row in rows] == ["p0", "p1", None]
    assert {row["user_id"] for row in rows} == {"user-1"}
    assert len({row["event_id"] for row in rows}) == 3
    assert rows[2]["account_created_ms"] == start + 320_000 - 2 * 86_400_000
    assert rows[2]["account_last_active_ms"] == start + 320_000 - 3_600_000


def test_lists_are_cycled_through() -> None:
    rows = _steps(
        {
            "type": ["generation.requested", "generation.blocked"],
            "times": 4,
            "every": ["1s", "9s"],
            "cost": [1, 2.5, None],
        }
    )
    start = rows[0]["time_ms"]
    assert isinstance(start, int)
    assert [row["time_ms"] for row in rows] == [start + ms for ms in (0, 1_000, 10_000, 11_000)]
    assert [row["cost"] for row in rows] == [1, 2.5, None, 1]
    assert [row["type"] for row in rows][::2] == ["generation.requested"] * 2


def test_feedback_is_about_the_user_of_the_case() -> None:
    (row,) = _steps({"type": "report.filed", "user_id": "reporter-{i}"})
    assert row["subject_user_id"] == "user-1"
    assert row["user_id"] == "reporter-0"
    (other,) = _steps({"type": "report.filed", "subject_user_id": "someone"})
    assert other["subject_user_id"] == "someone"


def test_cases_pass_by_columns_and_by_events(tmp_path: Path) -> None:
    results = _check(
        tmp_path,
        "made_1m >= 3 and tier = 'free'",
        "events: [{times: 3, type: generation.requested, tier: free}]",
        "columns: {made_1m: 9, tier: pro}",
    )
    assert all(result.passed for result in results)
    assert [result.fired for result in results] == [True, False]


def test_what_a_row_does_not_name_is_zero_false_null_or_derived(tmp_path: Path) -> None:
    """Features are 0, limits false, gaps and event columns null, derived ones computed."""
    results = _check(
        tmp_path,
        "blocked_ratio = 0.5 and made_1m = 0 and limited = false and pause_cv_1h is null "
        "and age_days is null and tier is null",
        "columns: {blocked_1h: 2, made_1h: 4}",
        "columns: {blocked_1h: 2, made_1h: 4, blocked_ratio: 0.9}",
    )
    assert all(result.passed for result in results)


def test_events_meet_the_limits_of_the_pack(tmp_path: Path) -> None:
    results = _check(
        tmp_path,
        "over_per_minute",
        "events: [{times: 6, type: generation.requested, tier: free}]",
        "events: [{times: 6, type: generation.requested, tier: pro}]",
    )
    assert all(result.passed for result in results)


def test_a_case_that_should_have_fired_shows_the_nearest_miss(tmp_path: Path) -> None:
    by_events, by_columns = _check(
        tmp_path,
        "made_1m >= 5 and made_1h >= 3",
        "events: [{times: 4, type: generation.requested}]",
        "columns: {made_1m: 7, made_1h: 3}",
    )
    assert not by_events.passed
    assert by_events.detail == "did not fire, closest miss: made_1m 4 >= 5"
    assert not by_columns.passed
    assert by_columns.detail == "fired, because made_1m 7 >= 5; made_1h 3 >= 3"


def test_a_case_that_should_not_have_fired_shows_why_it_did(tmp_path: Path) -> None:
    by_columns, by_events = _check(
        tmp_path,
        "made_1m >= 3",
        "columns: {made_1m: 2}",
        "events: [{times: 5, type: generation.requested}]",
    )
    assert by_columns.detail == "did not fire, closest miss: made_1m 2 >= 3"
    assert by_events.fired
    assert by_events.detail.startswith("fired, because made_1m ")


@pytest.mark.parametrize(
    ("columns", "detail"),
    [
        ("{mad_1m: 3}", "no column 'mad_1m' (did you mean 'made_1m'?)"),
        ("{tier: 3}", "tier: 3 is not text"),
        ("{made_1m: many}", "made_1m: 'many' is not a number"),
        ("{type: generation}", "type: 'generation' is not one of generation.requested, "),
        ("{limited: 1}", "limited: 1 is not true or false"),
        ("{time_ms: 0.5}", "time_ms: 0.5 is not a whole number"),
    ],
)
def test_rows_that_cannot_be_made_fail_their_case(
    tmp_path: Path, columns: str, detail: str
) -> None:
    """Also where the case must not fire: it would pass for the wrong reason."""
    first, second = _check(tmp_path, "made_1m >= 3", f"columns: {columns}", f"columns: {columns}")
    assert not first.passed
    assert not second.passed
    assert detail in second.detail


def test_a_case_is_judged_by_its_own_rule(tmp_path: Path) -> None:
    """The whole pack runs, so other rules may fire on the same events."""
    _check(
        tmp_path,
        "made_1m >= 3",
        "events: [{times: 3, type: generation.requested}]",
        "columns: {made_1m: 2}",
    )
    path = tmp_path / "rules.yaml"
    second = path.read_text().removeprefix("rules:\n").replace("id: rule", "id: other")
    path.write_text(path.read_text() + second.replace("made_1m >= 3", "made_1m >= 9"))
    results = check_pack(load_pack(tmp_path))
    must = [(result.rule_id, result.fired) for result in results if result.case == "must"]
    assert must == [("rule", True), ("other", False)]
