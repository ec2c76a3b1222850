"""The pack that comes with the product: complete, documented, quiet on honest traffic."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from detectors.batch import EventBatch
from detectors.compiled import CompiledPack, compile_pack
from detectors.incidents import Alert
from detectors.pack import CAMPAIGN_SPACE, SEGMENT_SPACE, Pack, RuleSpec
from detectors.pressure import BUILT_IN_RULES, AlertBound, AlertBudget, EvictionWindow
from detectors.shared import SEGMENT_COLUMNS
from detectors.stages import UserStage
from monitor.packs import check_pack, load_pack

ROOT: Final = Path(__file__).resolve().parents[2]
RUNBOOKS: Final = ROOT / "docs" / "runbooks"

MAX_FEATURE_BYTES: Final = 1_024
SECTIONS: Final = ("## Look first", "## Abuse or not?", "## Do", "## Tune")
VERBS: Final = {"warn": "warns about", "throttle": "throttles", "block": "blocks"}
UNITS_MS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000))


@pytest.fixture(scope="module")
def pack() -> Pack:
    return load_pack("default")


@pytest.fixture(scope="module")
def compiled(pack: Pack) -> CompiledPack:
    return compile_pack(pack)


def test_every_case_of_every_rule_passes(pack: Pack) -> None:
    failed = [
        f"{result.rule_id}: {result.case}: {result.detail}"
        for result in check_pack(pack)
        if not result.passed
    ]
    assert not failed, "\n".join(failed)


def test_it_is_as_broad_as_promised(pack: Pack, compiled: CompiledPack) -> None:
    assert len(compiled.features.columns) >= 30
    assert len(pack.rules) >= 14
    assert {limit.action for limit in pack.limits.limits} >= {"generation", "share", "feedback"}
    assert pack.limits.tiers == ("unverified", "free", "plus", "pro", "enterprise")
    periods = {limit.period_ms for limit in pack.limits.limits if limit.action == "generation"}
    assert periods == {60_000, 3_600_000, 86_400_000}
    assert any(limit.quantity == "cost" for limit in pack.limits.limits)


def test_a_user_costs_no_more_than_a_kilobyte(compiled: CompiledPack) -> None:
    assert UserStage(compiled, 16).features.bytes_per_row <= MAX_FEATURE_BYTES


def test_every_rule_has_a_near_miss_played_as_events(pack: Pack) -> None:
    """A case that must not fire proves little if it is one row of zeros.

    What an anomaly model says depends on what it was trained on, what is usual of a segment or of
    keys on hours of traffic: such cases are rows.
    """
    for rule in pack.rules:
        if "anomaly" in rule.tags or rule.key in (SEGMENT_SPACE, CAMPAIGN_SPACE):
            assert any(case.columns and not case.fires for case in rule.cases), rule.id
            continue
        assert any(case.events for case in rule.cases if case.fires), rule.id
        assert any(case.events for case in rule.cases if not case.fires), rule.id


def test_nothing_is_kept_that_nobody_reads(pack: Pack, compiled: CompiledPack) -> None:
    """Every feature costs memory for every user: some rule, or the model, has to need it."""
    derived = {spec.name: spec.sql for spec in pack.derived}
    needed = {column for rule in compiled.rules.rules for column in rule.when.columns}
    assert pack.anomaly is not None
    waiting = [*needed, *pack.anomaly.features, *(spec.where for spec in pack.features)]
    read = set()
    while waiting:
        for word in re.findall(r"\w+", waiting.pop()):
            if word in derived and word not in read:
                waiting.append(derived[word])
            read.add(word)
    assert set(derived) <= read
    for spec in pack.features:
        kept = {f"{spec.name}_{window}" for window in spec.windows}
        if spec.kind == "gap":
            parts = ("mean_s", "cv", "max_s")
            for window in spec.windows:
                columns = {f"{spec.name}_{part}_{window}" for part in parts}
                assert columns & read, f"{spec.name} over {window}"
        else:
            assert kept <= read, kept - read


def test_every_feature_and_derived_column_is_documented(pack: Pack) -> None:
    docs = {spec.name: spec.doc for spec in pack.features}
    docs |= {spec.name: spec.doc for spec in pack.derived}
    assert not [name for name, doc in docs.items() if len(doc) < 10]


def test_stricter_plans_never_allow_more(pack: Pack) -> None:
    for limit in pack.limits.limits:
        allowed = [limit.allow[tier] for tier in pack.limits.tiers]
        assert allowed == sorted(allowed), limit.name


def test_longer_periods_allow_more_than_shorter_ones_but_not_at_full_speed(pack: Pack) -> None:
    """Else the shorter or the longer of two limits would never matter."""
    counting = [limit for limit in pack.limits.limits if limit.quantity == "1"]
    for shorter in counting:
        for longer in counting:
            if shorter.action == longer.action and shorter.period_ms < longer.period_ms:
                times = longer.period_ms / shorter.period_ms
                for tier in pack.limits.tiers:
                    few, many = shorter.allow[tier], longer.allow[tier]
                    assert few < many < few * times, (shorter.name, longer.name, tier)


def test_actions_are_proportionate(pack: Pack) -> None:
    """Only the gravest rule blocks; whatever is decided expires within a day."""
    for rule in pack.rules:
        if rule.action is not None:
            assert rule.action.duration_ms <= 86_400_000, rule.id
            assert rule.action.kind != "block" or rule.severity == "critical", rule.id
            assert rule.action.kind == "warn" or rule.severity != "info", rule.id


def test_reports_by_strangers_never_touch_the_account_they_are_about(
    compiled: CompiledPack,
) -> None:
    """Feedback carries the reporter's plan, age and address, and only rules for feedback fire."""
    start_ms = 1_780_000_000_000
    own = {
        "type": "generation.requested",
        "user_id": "u",
        "tier": "pro",
        "ip": "a",
        "device_id": "d",
    }
    reporter = {"tier": "unverified", "account_created_ms": start_ms, "account_last_active_ms": 1}
    rows = [
        {**own, "event_id": f"e{i}", "time_ms": start_ms + 20_000 * i, "account_created_ms": 1}
        for i in range(40)
    ] + [
        {
            **reporter,
            "type": "report.filed",
            "event_id": f"r{i}",
            "user_id": f"r{i}",
            "subject_user_id": "u",
            "time_ms": start_ms + 800_000 + i,
            "ip": f"i{i}",
            "device_id": f"d{i}",
            "reason": "spam",
        }
        for i in range(30)
    ]
    stage = UserStage(compiled, 64)
    outputs = stage.process(EventBatch.from_rows(rows)).outputs
    alerts = {output.rule_id for output in outputs if isinstance(output, Alert)}
    assert alerts == {"machine-rhythm", "report-surge"}, "twenty seconds apart, thirty reports"


def test_every_rule_has_its_runbook_and_every_runbook_its_rule(pack: Pack) -> None:
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == {rule.id for rule in (*pack.rules, *BUILT_IN_RULES)}
    for rule in (*pack.rules, *BUILT_IN_RULES):
        assert rule.runbook == f"docs/runbooks/{rule.id}.md"


def test_runbooks_say_what_the_rule_does_and_what_to_do(pack: Pack) -> None:
    """Their first lines repeat the rule, so that the page on the phone is the truth."""
    for rule in (*pack.rules, *BUILT_IN_RULES):
        text = (ROOT / rule.runbook).read_text(encoding="utf-8")
        title, _, summary, *_ = text.splitlines()
        assert title == f"# {rule.title}"
        assert summary == _summary(rule)
        positions = [text.find(section) for section in SECTIONS]
        assert -1 not in positions, rule.id
        assert positions == sorted(positions), rule.id
        assert len(text.splitlines()) <= 60, f"{rule.id}: too long for a phone at night"


def test_runbooks_name_columns_that_exist(pack: Pack, compiled: CompiledPack) -> None:
    pattern = re.compile(r"`([a-z]+(?:_[a-z0-9]+)+)`")
    assert compiled.shared is not None
    known = {*compiled.schema, "tier_scale", "minor_safety"}
    known |= {*compiled.shared.schema, *SEGMENT_COLUMNS, "key_spaces"}
    known |= {*compiled.shared.campaign_schema}
    known |= {spec.name for spec in pack.features}
    # What the built-in rules measure.
    known |= AlertBudget.of(["rule"], AlertBound()).storm("rule", 0).keys()
    known |= EvictionWindow(100).pressure(6).keys() | {"max_users"}
    for path in RUNBOOKS.glob("*.md"):
        unknown = set(pattern.findall(path.read_text(encoding="utf-8"))) - known
        assert not unknown, f"{path.name}: {unknown}"


def test_the_index_of_runbooks_lists_every_rule(pack: Pack) -> None:
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    for rule in (*pack.rules, *BUILT_IN_RULES):
        action = f"{rule.action.kind} {rule.action.scope}" if rule.action else "none"
        assert f"| [{rule.title}]({rule.id}.md) | {rule.severity} | {action} |" in index


def _summary(rule: RuleSpec) -> str:
    does = "no action by itself"
    if rule.action:
        duration = _duration(rule.action.duration_ms)
        does = f"{VERBS[rule.action.kind]} `{rule.action.scope}` for {duration}"
    again = f"alerts again after {_duration(rule.cooldown_ms)}"
    return f"`{rule.id}` · {rule.severity} · {does} · {again}"


def _duration(duration_ms: int) -> str:
    for unit, unit_ms in UNITS_MS:
        if duration_ms % unit_ms == 0 and (unit != "d" or duration_ms > unit_ms):
            return f"{duration_ms // unit_ms}{unit}"
    raise AssertionError(f"{duration_ms} ms is no duration that a pack can hold")
