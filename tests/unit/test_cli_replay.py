"""``floodwatch replay``: results, summary, accounting, the same whatever the partitions."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from monitor.cli import main
from monitor.simulator import load_scenario, simulate, to_wire_json

FILES = ("alerts.ndjson", "incidents.ndjson", "decisions.ndjson", "dead_letters.ndjson")


@pytest.fixture(scope="module")
def events() -> pl.DataFrame:
    """Some minutes with attacks."""
    scenario = load_scenario("demo")
    return simulate(scenario, seed=5, users=2_000, minutes=3.0).events


@pytest.fixture(scope="module")
def log(events: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The events as NDJSON, with two records that cannot be used between them."""
    lines = to_wire_json(events).to_list()
    lines[100:100] = ["{broken", '{"event_id": 1}']
    path = tmp_path_factory.mktemp("logs") / "events.ndjson"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def replay(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a replay."""
    with pytest.raises(SystemExit) as ended:
        main(["replay", *map(str, arguments)])
    out, error = capfd.readouterr()
    return int(ended.value.code or 0), out, error


def records(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]


def test_a_replay_writes_what_it_found_and_a_summary_that_adds_up(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, log: Path, events: pl.DataFrame
) -> None:
    code, out, error = replay(capfd, log, "--out", tmp_path)
    assert (code, error) == (0, "")
    alerts = records(tmp_path, "alerts.ndjson")
    incidents = records(tmp_path, "incidents.ndjson")
    summary = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert alerts
    assert all(alert["evidence"] for alert in alerts)
    assert summary["events"] == len(events) == sum(summary["events_by_type"].values())
    assert summary["dead_letters_by_reason"] == {"malformed_json": 1, "wrong_type": 1}
    assert [letter["offset"] for letter in records(tmp_path, "dead_letters.ndjson")] == [100, 101]
    assert summary["alerts"] == len(alerts) == sum(summary["alerts_by_rule"].values())
    assert summary["alerts"] == sum(summary["alerts_by_severity"].values())
    assert summary["incidents"] == len({incident["incident_id"] for incident in incidents})
    assert summary["top_keys"][0]["alerts"] >= summary["top_keys"][-1]["alerts"]
    assert summary["first_event_time"].startswith("2026-03-02T09:00:0")
    assert summary["last_event_time"].startswith("2026-03-02T09:02:5")
    assert summary["events_per_s"] > 0
    assert summary["rule_errors"] == {}
    lines = out.splitlines()
    assert lines[-1] == (
        f"{len(events):,} events, {len(alerts):,} alerts, {summary['incidents']:,} incidents"
    )
    assert "dead letters: 2 (1 malformed_json, 1 wrong_type)" in lines
    assert f"Results in {tmp_path}" in lines


def test_a_replay_repeated_gives_the_same_bytes(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, log: Path
) -> None:
    for name in ("a", "b"):
        replay(capfd, log, "--out", tmp_path / name)
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_formats_and_partitions_do_not_change_the_results(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, log: Path, events: pl.DataFrame
) -> None:
    table = tmp_path / "events.parquet"
    events.write_parquet(table)
    replay(capfd, log, "--out", tmp_path / "lines")
    replay(capfd, table, "--out", tmp_path / "table", "--partitions", "3")
    for file in FILES[:3]:
        one, three = (
            sorted(json.dumps(record) for record in records(tmp_path / name, file))
            for name in ("lines", "table")
        )
        assert one == three
    summaries = [
        json.loads((tmp_path / name / "summary.json").read_text("utf-8"))
        for name in ("lines", "table")
    ]
    for key in ("events_by_type", "alerts_by_rule", "findings_by_rule", "top_keys", "incidents"):
        assert summaries[0][key] == summaries[1][key]


def test_a_store_is_filled_where_one_is_configured(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    log: Path,
) -> None:
    monkeypatch.setenv("FLOODWATCH_STORE__URL", f"sqlite:///{tmp_path / 'kept.db'}")
    replay(capfd, log, "--out", tmp_path / "out")
    replay(capfd, log, "--out", tmp_path / "out")
    with closing(sqlite3.connect(tmp_path / "kept.db")) as connection:
        (count,) = connection.execute("SELECT count(*) FROM alerts").fetchone()
    assert count == len(records(tmp_path / "out", "alerts.ndjson"))


def test_what_cannot_be_replayed_is_an_error_and_no_traceback(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, log: Path
) -> None:
    code, _, error = replay(capfd, tmp_path / "absent.ndjson", "--out", tmp_path / "o")
    assert code == 1
    assert "absent.ndjson: no such file" in error
    code, _, error = replay(capfd, log, "--out", log)
    assert code == 1
    assert str(log) in error
    code, _, error = replay(capfd, log, "--out", tmp_path / "o", "--partitions", "0")
    assert code == 2
    assert "runner.partitions (from the command line)" in error
    code, _, error = replay(capfd, log)
    assert code == 2
    assert "Missing option '--out'" in error
