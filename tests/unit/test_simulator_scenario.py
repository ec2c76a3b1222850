"""Scenario files: what is in them, and what a wrong one gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.simulator import ScenarioError, builtin_scenarios, load_scenario
from monitor.simulator.engine import DEFAULT_START_MS
from monitor.simulator.schedule import schedule_attacks

MINUTE_MS = 60_000


def _write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", builtin_scenarios())
def test_built_in_scenarios_load(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario.description
    assert (name == "baseline") == (not scenario.attacks)


def test_a_file_says_what_the_platform_is_like_and_what_is_planted(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        "name: mine\nusers: 50\nbaseline: {sessions_per_day: 6}\n"
        "attacks:\n  - {kind: burst-bot, generations_per_minute: 30, count: 2}\n",
    )
    scenario = load_scenario(path)
    assert scenario.users == 50
    assert scenario.baseline.sessions_per_day == 6
    assert scenario.attacks[0].model_dump()["generations_per_minute"] == 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nuser: 5\n", r"mine\.yaml:2: user: unknown key \(did you mean 'users'\?"),
        ("users: 5\n", r"name: is missing"),
        ("- 1\n", r"has to be a mapping with the keys name, description, users"),
        ("name: x\nname: y\n", r"mine\.yaml:2: name: duplicate key"),
        ("name: [\n", r"mine\.yaml:2"),
        (
            "name: x\nbaseline:\n  pace: fast\n",
            r"mine\.yaml:3: baseline\.pace: .*valid number.*'fast'",
        ),
        (
            "name: x\nbaseline:\n  speed: 2\n",
            r"baseline\.speed: unknown key \(.*allowed: sessions_per_day, events_per_s",
        ),
        (
            "name: x\nattacks:\n  - {kind: burst-bott}\n",
            r"attacks\[0\]\.kind: unknown kind 'burst-bott' \(did you mean 'burst-bot'\? allowed: ",
        ),
        ("name: x\nattacks:\n  - {count: 1}\n", r"attacks\[0\]\.kind: is missing \(allowed: "),
        (
            "name: x\nattacks:\n  - {kind: scrape, burst: 3}\n",
            r"attacks\[0\]\.burst: unknown key \(did you mean 'bursts'\? allowed: .*gap_s",
        ),
        (
            "name: x\nattacks:\n  - {kind: sybil-farm, shared: phone}\n",
            r"attacks\[0\]\.shared: .*'device', 'address' or 'both', not 'phone'",
        ),
        (
            "name: x\nattacks:\n  - {kind: scrape, count: 0}\n",
            r"attacks\[0\]\.count: .*greater than or equal to 1, not 0",
        ),
    ],
)
def test_a_wrong_file_is_refused_by_key_with_what_is_allowed(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ScenarioError, match=message):
        load_scenario(_write(tmp_path, text))


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    path = _write(tmp_path, "name: x\nuser: 5\nbaseline: {pace: -1}\n")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert len(str(caught.value).splitlines()) == 2


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ScenarioError, match=r"did you mean 'share-flood'\?.*sybil-farm"):
        load_scenario("share-floods")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"gone\.yaml: cannot be read"):
        load_scenario(str(tmp_path / "gone.yaml"))


def test_attacks_start_when_they_are_told_to(tmp_path: Path) -> None:
    """Offset, number, spread and recurrence, in order and only inside of the run."""
    path = _write(
        tmp_path,
        "name: x\nattacks:\n"
        "  - {kind: scrape, start_s: 600, every_s: 1200}\n"
        "  - {kind: burst-bot, start_s: 120, count: 3, within_s: 60}\n"
        "  - {kind: share-flood, start_s: 3600}\n",
    )
    end_ms = DEFAULT_START_MS + 60 * MINUTE_MS
    instances = schedule_attacks(load_scenario(path), 1, DEFAULT_START_MS, end_ms)
    starts = {one.attack_id: (one.start_ms - DEFAULT_START_MS) / 1000 for one in instances}
    assert [starts[f"scrape-{number}"] for number in (1, 2, 3)] == [600, 1800, 3000]
    assert [one.start_ms for one in instances] == sorted(one.start_ms for one in instances)
    assert [one.index for one in instances] == list(range(6))
    bots = [starts[f"burst-bot-{number}"] for number in (1, 2, 3)]
    assert 120 <= min(bots) < max(bots) < 180


def test_more_attacks_than_numbers_for_them_are_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, "name: x\nattacks:\n  - {kind: scrape, count: 1000, every_s: 1}\n")
    end_ms = DEFAULT_START_MS + 60 * MINUTE_MS
    with pytest.raises(ScenarioError, match="raise every_s"):
        schedule_attacks(load_scenario(path), 1, DEFAULT_START_MS, end_ms)
