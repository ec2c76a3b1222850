"""Loading packs: what becomes of a good one, and how precisely a bad one is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from detectors.errors import PackError
from detectors.pack import Action, FeatureSpec, LimitSpec, WindowSpec
from monitor.packs import PackProblems, load_pack, read_pack

FEATURES = """\
windows:
  1m: {panes: 6}
  1h: {panes: 12}
derived:
  - {name: age_days, sql: "(time_ms - account_created_ms) / 86400000.0"}
  - {name: share_of_blocked, sql: "blocked_1h / greatest(made_1h, 1)"}
features:
  - {name: made, kind: count, where: "type = 'generation.requested'", windows: [1m, 1h]}
  - {name: blocked, kind: count, where: "type = 'generation.blocked'", windows: [1h]}
  - {name: spent, kind: sum, of: cost, windows: [1h]}
  - {name: prompts, kind: distinct, of: prompt_fingerprint, windows: [1h], capacity: 32}
  - {name: pause, kind: gap, windows: [1h]}
"""
RULES = """\
rules:
  - id: burst
    title: Burst
    when: "made_1m >= 10"
    severity: high
    cooldown: 10m
    action: {kind: throttle, scope: generation, for: 1h}
    runbook: docs/runbooks/burst.md
    tags: [automation]
    cases:
      - {name: many, fires: true, columns: {made_1m: 12}}
      - {name: few, fires: false, events: [{times: 3, type: generation.requested}]}
"""
LIMITS = """\
default_tier: free
decision: 1m
actions:
  generation: "type = 'generation.requested'"
limits:
  - {name: per_minute, action: generation, per: 1m, allow: {free: 5, pro: 50}}
  - {name: per_day, action: generation, per: 24h, quantity: cost, allow: {free: 100, pro: 1e4}}
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a pack into ``mine`` below the current folder; files can be replaced."""
    monkeypatch.chdir(tmp_path)

    def write_pack(*, features: str = FEATURES, rules: str = RULES, limits: str = LIMITS) -> Path:
        folder = Path("mine")
        folder.mkdir(exist_ok=True)
        for name, text in (("features", features), ("rules", rules), ("limits", limits)):
            (folder / f"{name}.yaml").write_text(text)
        return folder

    return write_pack


def _problems(folder: Path) -> list[str]:
    with pytest.raises(PackProblems) as raised:
        load_pack(folder)
    return str(raised.value).splitlines()


def test_a_pack_becomes_plain_descriptions(write: Write) -> None:
    pack = load_pack(write())
    assert pack.name == "mine"
    assert pack.windows == (WindowSpec("1m", 60_000, 6), WindowSpec("1h", 3_600_000, 12))
    made = FeatureSpec("made", "count", ("1m", "1h"), "type = 'generation.requested'")
    assert pack.features[0] == made
    assert pack.features[3].capacity == 32
    assert pack.rules[0].action == Action("throttle", "generation", 3_600_000)
    assert pack.rules[0].cooldown_ms == 600_000
    assert [case.fires for case in pack.rules[0].cases] == [True, False]
    assert len(pack.rules[0].cases[1].events) == 3
    allow = {"free": 100.0, "pro": 10_000.0}
    assert pack.limits.limits[1] == LimitSpec("per_day", "generation", 86_400_000, allow, "cost")
    assert pack.limits.tiers == ("free", "pro")
    assert pack.limits.decision_ms == 60_000


def test_the_version_changes_with_what_is_detected_only(write: Write) -> None:
    """Titles, documentation and cases may be improved without new ids for every incident."""
    version = load_pack(write()).version
    reworded = RULES.replace("title: Burst", "title: Bursting").replace(
        "made_1m: 12", "made_1m: 99"
    )
    assert load_pack(write(rules=reworded)).version == version
    assert load_pack(write(rules=RULES.replace(">= 10", ">= 11"))).version != version
    assert load_pack(write(limits=LIMITS.replace("free: 5,", "free: 6,"))).version != version


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "severity: high",
            "severity: hgih",
            "5: rules[0].severity: 'hgih' is not one of 'info', 'low', 'medium', 'high' or",
        ),
        (
            "cooldown: 10m",
            "coldown: 10m",
            "6: rules[0].coldown: unknown key (did you mean 'cooldown'?)",
        ),
        ("title: Burst", "mode: live", "2: rules[0]: 'title' is missing"),
        ("for: 1h", "fro: 1h", "7: rules[0].action.fro: unknown key (did you mean 'for'?)"),
        (
            "cooldown: 10m",
            "cooldown: 10 minutes",
            "6: rules[0].cooldown: '10 minutes' is not a duration such as 30s, 10m, 24h or 7d",
        ),
        ("cooldown: 10m", "cooldown: 8d", "6: rules[0].cooldown: 8d is outside 10s to 7d"),
        (
            "scope: generation",
            "scope: generations",
            "7: rules[0].action.scope: unknown action 'generations' (did you mean 'generation'?)",
        ),
        (
            "id: burst",
            "id: Big Burst",
            "2: rules[0].id: 'Big Burst' cannot be used here (it must match",
        ),
        (
            "fires: false",
            "fires: true",
            "2: rules[0]: no case with 'fires: false': a rule needs at least one case that must",
        ),
        (
            "fires: true",
            "fires: yes",
            "11: rules[0].cases[0].fires: 'yes' should be a valid boolean",
        ),
        (
            "columns: {made_1m: 12}",
            "columns: {made_1m: 12}, events: [{type: report.filed}]",
            "11: rules[0].cases[0]: a case has either 'columns' (one row) or 'events'",
        ),
        (
            "type: generation.requested",
            "type: generation.request",
            "12: rules[0].cases[1].events[0].type: 'generation.request' is not one of",
        ),
        (
            "times: 3,",
            "times: 3, tire: pro,",
            "12: rules[0].cases[1].events[0].tire: is no event column (did you mean 'tier'?)",
        ),
        (
            "times: 3,",
            "times: 30000,",
            "12: rules[0].cases[1].events[0].times: 30000 should be less than or equal to 20000",
        ),
        (
            "times: 3,",
            "times: 3, cost: dear,",
            "12: rules[0].cases[1].events[0].cost: 'dear' is not a number",
        ),
        (
            "times: 3,",
            "times: 3, time_ms: 5,",
            "12: rules[0].cases[1].events[0].time_ms: is filled in (use 'at' and 'every' to say",
        ),
        (
            "made_1m >= 10",
            "mad_1m >= 10",
            "4: rules[0].when: unknown column 'mad_1m' at character 1 of 'mad_1m >= 10' (did you",
        ),
        (
            "made_1m >= 10",
            "made_1m + 10",
            "4: rules[0].when: the value is Float64, not a boolean at character 1 of 'made_1m +",
        ),
        ("made_1m >= 10", "made_1m >= avg(made_1m)", "4: rules[0].when: "),
        ("made_1m >= 10", "made_1m >=", "4: rules[0].when: not a SQL expression"),
    ],
)
def test_a_broken_rule_is_refused_by_line_and_key(
    write: Write, old: str, new: str, expected: str
) -> None:
    assert old in RULES
    problems = _problems(write(rules=RULES.replace(old, new)))
    assert any(problem.startswith(f"mine/rules.yaml:{expected}") for problem in problems), problems


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "1h: {panes: 12}",
            "1h: {panes: 7}",
            "3: windows.1h.panes: 1h is not divisible into 7 panes of at least 1s (6 would do)",
        ),
        (
            "1h: {panes: 12}",
            "1h: {panes: 1}",
            "3: windows.1h.panes: 1 should be greater than or equal to 2",
        ),
        (
            "kind: count, where: \"type = 'generation.blocked'\"",
            "kind: cuont, where: \"type = 'generation.blocked'\"",
            "9: features[1].kind: 'cuont' is not one of 'count', 'sum', 'distinct' or 'gap' (did",
        ),
        (
            "kind: sum, of: cost",
            "kind: sum",
            "10: features[2]: kind 'sum' needs 'of': what is to be counted",
        ),
        ("kind: gap", "kind: gap, of: cost", "12: features[4]: kind 'gap' takes no 'of'"),
        (
            "kind: gap",
            "kind: gap, capacity: 9",
            "12: features[4]: kind 'gap' takes no 'capacity', only 'distinct' does",
        ),
        (
            "capacity: 32",
            "capacity: 257",
            "11: features[3].capacity: 257 should be less than or equal to 256",
        ),
        (
            "windows: [1m, 1h]",
            "windows: [1m, 2h]",
            "8: features[0].windows[1]: unknown window '2h'",
        ),
        (
            "windows: [1m, 1h]",
            "windows: [1m, 1m]",
            "8: features[0].windows[1]: window '1m' is given twice",
        ),
        ("name: spent", "name: made", "10: features[2].name: 'made' is already taken in line 8"),
        (
            "of: cost",
            "of: costs",
            "10: features[2].of: unknown column 'costs' at character 1 of 'costs' (did you mean",
        ),
        (
            "of: prompt_fingerprint",
            "of: cost",
            "11: features[3]: distinct needs a text column, not 'cost'",
        ),
        (
            "account_created_ms) /",
            "account_create_ms) /",
            "5: derived[0].sql: unknown column 'account_create_ms'",
        ),
        ("name: age_days", "name: tier", "5: derived[0]: column 'tier' exists already"),
        ("1m: {panes: 6}", "90: {panes: 6}", "2: windows: keys must be plain words"),
        ("1m: {panes: 6}", "soon: {panes: 6}", "2: windows.soon: 'soon' is not a duration"),
    ],
)
def test_a_broken_feature_is_refused_by_line_and_key(
    write: Write, old: str, new: str, expected: str
) -> None:
    assert old in FEATURES
    problems = _problems(write(features=FEATURES.replace(old, new)))
    assert problems[0].startswith(f"mine/features.yaml:{expected}")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "default_tier: free",
            "default_tier: fee",
            "1: default_tier: no limit allows tier 'fee' (did you mean 'free'?)",
        ),
        (
            "per_day, action: generation",
            "per_day, action: sharing",
            "7: limits[1].action: unknown action 'sharing' (actions are generation)",
        ),
        (
            "{free: 100, pro: 1e4}",
            "{free: 100}",
            "7: limits[1].allow: says nothing for pro (every limit names every tier)",
        ),
        (
            "{free: 100, pro: 1e4}",
            "{free: 100, pro: -1}",
            "7: limits[1].allow.pro: -1 should be greater than or equal to 0",
        ),
        (
            "name: per_day",
            "name: per_minute",
            "7: limits[1].name: 'per_minute' is already taken in line 6",
        ),
        (
            "quantity: cost",
            "quantity: cots",
            "7: limits[1].quantity: unknown column 'cots' at character 1 of 'cots' (did you mean",
        ),
        (
            "type = 'generation.requested'",
            "kind = 'generation.requested'",
            "4: actions.generation: unknown column 'kind'",
        ),
        ("actions:\n", "action:\n", "1: 'actions' is missing"),
    ],
)
def test_a_broken_limit_is_refused_by_line_and_key(
    write: Write, old: str, new: str, expected: str
) -> None:
    assert old in LIMITS
    problems = _problems(write(limits=LIMITS.replace(old, new)))
    assert problems[0].startswith(f"mine/limits.yaml:{expected}")


def test_everything_wrong_in_all_files_is_reported_at_once(write: Write) -> None:
    folder = write(
        features=FEATURES.replace("1h: {panes: 12}", "1h: {panes: 7}"),
        rules=RULES.replace("high", "hgih").replace("title", "tilte"),
        limits=LIMITS.replace("default_tier: free", "default_tier: fee"),
    )
    assert [problem.split(": ")[:2] for problem in _problems(folder)] == [
        ["mine/features.yaml:3", "windows.1h.panes"],
        ["mine/limits.yaml:1", "default_tier"],
        ["mine/rules.yaml:2", "rules[0]"],
        ["mine/rules.yaml:3", "rules[0].tilte"],
        ["mine/rules.yaml:5", "rules[0].severity"],
    ]


def test_all_sql_errors_are_reported_but_not_what_follows_from_them(write: Write) -> None:
    """The rule and the derived column are right: only the feature that they use is not."""
    folder = write(
        features=FEATURES.replace("'generation.blocked'", "'generation.blocked' and x = 1"),
        rules=RULES.replace("made_1m >= 10", "blocked_1h > 3 and share_of_blocked > 0.5"),
        limits=LIMITS.replace("quantity: cost", "quantity: cots"),
    )
    assert [problem.split(": ")[:2] for problem in _problems(folder)] == [
        ["mine/features.yaml:9", "features[1].where"],
        ["mine/limits.yaml:7", "limits[1].quantity"],
    ]


def test_rules_and_limits_that_depend_on_other_rows_or_the_clock_are_refused(write: Write) -> None:
    for sql in ("made_1m > now()", "row_number() over () > 1", "sum(made_1m) > 3"):
        (problem,) = _problems(write(rules=RULES.replace("made_1m >= 10", sql)))
        assert problem.startswith("mine/rules.yaml:4: rules[0].when: ")


def test_duplicate_rule_ids_are_refused(write: Write) -> None:
    second = RULES.removeprefix("rules:\n")
    assert _problems(write(rules=RULES + second)) == [
        "mine/rules.yaml:13: rules[1].id: 'burst' is already taken in line 2"
    ]


def test_empty_and_absent_files_are_named(write: Write) -> None:
    folder = write(rules="")
    (folder / "limits.yaml").unlink()
    assert _problems(folder) == [
        "mine/limits.yaml: cannot be read: No such file or directory",
        "mine/rules.yaml:1: an empty value is not a mapping of keys to values",
    ]


def test_packs_are_found_by_name_or_by_folder(write: Write) -> None:
    folder = write()
    assert load_pack("default").name == "default"
    assert load_pack("mine") == load_pack("./mine") == load_pack(folder.resolve())
    with pytest.raises(PackError, match=r"neither a built-in pack .* \(did you mean 'default'\?\)"):
        load_pack("defualt")
    with pytest.raises(PackError, match="is not a folder"):
        load_pack(folder / "rules.yaml")


def test_the_error_names_its_first_problem_for_programs(write: Write) -> None:
    with pytest.raises(PackError) as raised:
        read_pack(write(rules=RULES.replace("high", "hgih")))
    assert str(raised.value).endswith(
        "'hgih' is not one of 'info', 'low', 'medium', 'high' or 'critical' (did you mean 'high'?)"
    )
    assert raised.value.where == "mine/rules.yaml:5"
    assert raised.value.hint == "did you mean 'high'?"
