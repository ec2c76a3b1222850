"""``floodwatch incidents`` and ``floodwatch store``: what they say, and how they end."""

from __future__ import annotations

import io
import json
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from monitor.cli import main
from monitor.incident_page import print_dossier
from monitor.incidents_display import ago_text, number_text
from monitor.runbooks import find_runbook, first_steps, runbook_folders
from monitor.store import Store
from monitor.store.reading import Incidents
from monitor.verdict_events import subjects_of
from tests.support.outputs import TIME_MS, a_decision, an_alert, an_incident
from tests.support.stores import a_full_alert

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo's store, where the commands look by themselves, with two incidents."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "build" / "demo" / "floodwatch.db"
    with closing(Store(f"sqlite:///{path}")) as store:
        store.write([an_incident(1), an_incident(1, "updated", findings=40), a_full_alert(1)])
        store.write([a_decision(1), an_incident(2, "closed", severity="low", key="user-2")])
    return path


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of ``floodwatch ARGUMENTS``."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, error = capfd.readouterr()
    assert "Traceback" not in error
    return int(ended.value.code or 0), out, error


def page(path: Path, width: int, incident_id: str = "inc_1") -> str:
    """What ``show`` prints on a terminal of that width."""
    file = io.StringIO()
    with closing(Store(f"sqlite:///{path}")) as store:
        dossier = Incidents(store.engine).dossier(incident_id)
    print_dossier(Console(file=file, width=width), dossier, now_ms=TIME_MS + 7_200_000)
    return file.getvalue()


@pytest.mark.usefixtures("path")
def test_list_says_what_there_is_and_for_machines_the_same(
    capfd: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = run(capfd, "incidents", "list")
    assert code == 0
    assert re.search(r"^1 +high +open .* Burst of generations +user-1", out, re.MULTILINE)
    assert re.search(r"^2 +low +closed .*user-2", out, re.MULTILINE)
    assert out.splitlines()[-1].strip() == "2 incidents"
    code, out, _ = run(capfd, "incidents", "list", "--json", "--severity", "high")
    facts = json.loads(out)
    assert (facts["total"], facts["snoozed"]) == (1, 0)
    assert facts["incidents"][0]["findings"] == 40
    _, out, _ = run(capfd, "incidents", "list", "--limit", "1")
    assert "2 incidents, the newest 1 shown (--limit)" in out


@pytest.mark.parametrize("width", [40, 80, 120])
def test_show_explains_an_incident_on_any_terminal(path: Path, width: int) -> None:
    text = page(path, width)
    assert max(map(len, text.splitlines())) <= width
    flat = " ".join(text.split())
    for said in (
        "Burst of generations high · open · user user-1",
        "40 findings",
        "generations_1m 45 ≥ 30",
        "more unusual than 99.997 % of the reference",
        "pace_1h 112 above 100 %",
        "trust it less: drift",
        "Together: 9 users",
        "expected 0.01 by chance, q = 0.003",
        "50 % were blocked by the guard in the last day, of others 1 %",
        "user-1 3 user-2 1.5",
        "tier free",
        "cost 1.25",
        "evt-1",
        "throttle generation until",
        "opened 1 alert, 1 finding",
        "docs/runbooks/burst.md",
        "floodwatch incidents ack 1",
    ):
        assert said.replace(" ", "") in flat.replace(" ", ""), said
    assert "ip" not in re.findall(r"\w+", flat), "what is unknown is left out"


def test_show_says_where_the_alerts_are_gone_or_of_another_version(path: Path) -> None:
    assert "its alerts are not in the store" in page(path, 80, "inc_2")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("""UPDATE alerts SET record = '{"alert_id": 7}'""")
        connection.commit()
    assert "written by another version" in page(path, 80)


def test_what_users_choose_cannot_move_the_cursor(path: Path) -> None:
    evil = "a\x1b[2J\u202e\nb"
    with closing(Store(f"sqlite:///{path}")) as store:
        store.write([an_incident(5, key=evil), an_alert(5, key=evil, title=evil)])
    text = page(path, 80, "inc_5")
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "a\\u001b[2J\\u202e\\u000ab" in text


def test_an_engineer_works_on_an_incident(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capfd, "incidents", "ack", "1", "--as", "ann")
    assert (code, out) == (0, "inc_1: ann is on it\n")
    _, out, _ = run(capfd, "incidents", "ack", "inc_1", "--as", "bob")
    assert out.startswith("inc_1: ann is on it since 20")
    _, out, _ = run(capfd, "incidents", "snooze", "latest", "--for", "2h", "--as", "ann")
    assert re.fullmatch(r"inc_1: snoozed until 20\S+ \S+ UTC\n", out)
    _, out, _ = run(capfd, "incidents", "list", "--open")
    assert "0 incidents; 1 snoozed and left out" in out
    _, out, _ = run(capfd, "incidents", "list")
    assert re.search(r"^1 +high +snoozed .*ann", out, re.MULTILINE)
    _, out, _ = run(capfd, "incidents", "note", "1", "asked the studio", "--as", "ann")
    assert out == "inc_1: noted\n"
    code, out, _ = run(
        capfd, "incidents", "verdict", "1", "false-positive", "--reason", "a class", "--as", "bob"
    )
    assert code == 0
    assert out.splitlines()[0] == "inc_1: benign, says bob"
    assert "the detection was not told: no broker is configured" in out
    text = page(path, 100)
    for said in (
        "ann is on it",
        "ann snoozed until",
        "ann: asked the studio",
        "bob verdict: benign (the detection was not told): a class",
    ):
        assert said in text
    _, out, _ = run(capfd, "incidents", "snooze", "1", "--for", "0s", "--as", "ann")
    assert out == "inc_1: not snoozed any more\n"
    code, out, _ = run(capfd, "store", "verify")
    assert code == 0
    noted = re.fullmatch(
        r"the audit is whole: 5 rows, the last one's hash is ([0-9a-f]{64})\n", out
    )
    assert noted
    assert run(capfd, "store", "verify", "--expect", noted[1])[0] == 0
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE audit SET author = 'eve' WHERE number = 2")
        connection.commit()
    code, _, error = run(capfd, "store", "verify")
    assert code == 1
    assert "row 2 is not what its hash says" in error


@pytest.mark.usefixtures("path")
def test_a_verdict_that_cannot_be_published_is_kept_and_says_how_to_go_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    verdict = ("incidents", "verdict", "1", "abuse", "--as", "ann", "--brokers", "127.0.0.1:1")
    code, out, error = run(capfd, *verdict)
    assert code == 1
    assert "inc_1: abuse, says ann" in out
    assert "it is stored, but the detection was not told: no Kafka broker answers" in error
    assert "do it with 'floodwatch incidents verdict 1 abuse'" in error


def test_the_users_of_an_incident_are_its_key_or_those_its_alerts_name(path: Path) -> None:
    with closing(Store(f"sqlite:///{path}")) as store:
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE incidents SET key_space = 'campaign', key = 'c1'")
        dossier = Incidents(store.engine).dossier("inc_1")
        assert subjects_of(dossier) == ["user-1", "user-2"]
        assert subjects_of(Incidents(store.engine).dossier("inc_2")) == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["incidents", "show", "9"], 1, "there is no incident '9'"),
        (["incidents", "ack", "9", "--as", "ann"], 1, "incidents list"),
        (["incidents", "verdict", "1", "abus", "--as", "ann"], 2, "did you mean 'abuse'?"),
        (["incidents", "snooze", "1", "--for", "2 days"], 2, "is not a duration"),
        (["incidents", "snooze", "1", "--for", "90d"], 2, "tune the rule instead"),
        (["incidents", "list", "--severity", "hgih"], 2, "did you mean 'high'?"),
        (["incidents", "list", "--since", "yesterday"], 2, "--since: 'yesterday'"),
        (["incidents", "note", "1", "  "], 2, "the note is empty"),
        (["incidents", "ack", "1", "--as", " "], 2, "a name is needed"),
        (["incidents", "list", "--store", "mysql://x"], 2, "store.url"),
        (["incidents", "list", "--store", "sqlite:///none.db"], 1, "there is no such file"),
        (["store", "migrate"], 2, "store.url is not set"),
        (["store"], 2, "store.url is not set"),
        (["store", "--store", "sqlite:///x.db", "migrate"], 2, "come after it"),
    ],
)
@pytest.mark.usefixtures("path")
def test_what_cannot_be_done_says_why(
    capfd: pytest.CaptureFixture[str], arguments: Sequence[str], code: int, said: str
) -> None:
    found, _, error = run(capfd, *arguments)
    assert found == code
    assert said in " ".join(error.replace("│", " ").split())


def test_without_any_store_it_says_where_one_would_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = run(capfd, "incidents", "list")
    assert code == 1
    assert "no store is configured" in error
    assert "--store" in error
    assert "make demo" in error


def test_tables_are_migrated_and_pruned_on_demand(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    assert run(capfd, "store", "migrate", "--store", url)[1].endswith(
        "was empty, is now of version 0001\n"
    )
    assert run(capfd, "store", "migrate", "--store", url)[1].endswith("is of version 0001\n")
    with closing(Store(url, now_ms=lambda: TIME_MS)) as store:
        store.write([an_alert(1), an_incident(1)])
    code, out, _ = run(capfd, "store", "prune", "--days", "1", "--store", url)
    assert (code, out) == (
        0,
        "removed what is older than 1 days: 1 alerts, 1 incidents, 1 incident_updates\n",
    )


def test_every_runbook_of_the_pack_has_first_steps() -> None:
    pages = [one for one in RUNBOOKS.glob("*.md") if one.name != "README.md"]
    assert len(pages) > 20
    for runbook in pages:
        steps = first_steps(runbook.read_text(encoding="utf-8"))
        assert steps, runbook.name
        assert not any("`" in step or "](" in step for step in steps)
    assert find_runbook("docs/runbooks/swarm.md", runbook_folders()) is not None
    assert find_runbook("docs/runbooks/none.md", runbook_folders()) is None
    assert find_runbook("https://wiki.example/swarm.md", runbook_folders()) is None


@pytest.mark.parametrize(
    ("time_ms", "said"),
    [(0, "0 s ago"), (-90_000, "1 min ago"), (-7_200_000, "2 h ago"), (3 * 86_400_000, "in 3 d")],
)
def test_distances_in_time_are_told_in_the_largest_unit(time_ms: int, said: str) -> None:
    assert ago_text(TIME_MS + time_ms, TIME_MS) == said


def test_values_are_told_with_the_digits_that_matter() -> None:
    values = [45.0, 0.00457, 0.999973, 1234.5, True, None, "a\x1b"]
    expected = ["45", "0.00457", "0.99997", "1,234", "true", "none", "a\\u001b"]
    assert [number_text(value) for value in values] == expected
