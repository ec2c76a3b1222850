"""Pictures of dashboards: units as Grafana writes them, variables, and what the extra is for.

That they are drawn from real answers: ``tests/integration/test_dashboards.py``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from dashboards.command import read_dashboard
from dashboards.preview.answers import Answers, PreviewError, TimeRange, with_choices
from dashboards.preview.ink import shortened, text_width_px
from dashboards.preview.units import colour_of, mapped, written
from monitor.store.engine import open_engine
from monitor.store.schema import migrate

HOUR = TimeRange(1_772_442_000.0, 1_772_445_600.0, 15.0)


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "shown"),
    [
        (0.4721, "s", None, "472 ms"),
        (5, "s", None, "5 s"),
        (600, "s", None, "10 mins"),
        (0.00042, "s", None, "420 µs"),
        (0.0018, "percentunit", 2, "0.18%"),
        (1_500_000_000, "bytes", None, "1.40 GiB"),
        (2_048, "Bps", None, "2 KiB/s"),
        (12_345, "short", None, "12.3 K"),
        (9.25, "cps", None, "9.25 c/s"),
        (7, "none", None, "7"),
        (1_772_442_000_000, "dateTimeAsIso", None, "2026-03-02 09:00:00"),
        (float("nan"), "none", None, "No data"),
        (float("inf"), "s", None, "∞"),
        (None, "none", None, ""),
        ("share-flood", "none", None, "share-flood"),
    ],
)
def test_values_are_written_with_their_units(
    value: object, unit: str, decimals: int | None, shown: str
) -> None:
    assert written(value, unit, decimals) == shown


def test_thresholds_and_mappings_give_colours() -> None:
    steps: list[dict[str, Any]] = [{"color": "green"}, {"value": 5, "color": "red"}]
    assert [colour_of(value, steps) for value in (4.9, 5.0)] == ["green", "red"]
    mappings = [{"options": {"1": {"text": "yes", "color": "green"}}}]
    assert mapped(1.0, mappings) == ("yes", "green")
    assert mapped(0.0, mappings) is None


def test_the_step_is_never_below_the_scrape_interval_nor_what_a_panel_wants() -> None:
    assert HOUR.step_s == 15
    assert HOUR.rate_interval_s == 60, "four scrapes, so that no point is without a rate"
    coarse = Answers("", None, HOUR).every("5m").shown
    assert coarse.step_s == 300
    assert coarse.rate_interval_s == 315


def test_what_is_typed_is_quoted_and_the_time_range_is_filled_in() -> None:
    answers = Answers("", None, HOUR, {"key": "o'hara"})
    sql = answers.sql("SELECT 1 WHERE ${key:sqlstring} = 'x' AND time_ms <= $__to")
    assert sql == "SELECT 1 WHERE 'o''hara' = 'x' AND time_ms <= 1772445600000"


def test_the_incident_that_is_shown_is_the_gravest_that_is_open(tmp_path: Path) -> None:
    """As Grafana does: the first choice of the variable. SQLite answers like PostgreSQL."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    engine = open_engine(url)
    migrate(engine)
    row = (
        "INSERT INTO incidents (incident_id, state, rule_id, rule_version, title, severity, mode,"
        " key_space, key, opened_ms, last_finding_ms, time_ms, alerts, findings, stored_ms)"
        " VALUES (:id, 'opened', 'r', 'v', 't', :severity, 'live', 'user', 'u', :at, :at, :at,"
        " 1, 1, :at)"
    )
    at = int(HOUR.start_s * 1_000) + 5
    with engine.begin() as connection:
        connection.execute(text(row), {"id": "inc_1", "severity": "low", "at": at + 9})
        connection.execute(text(row), {"id": "inc_2", "severity": "high", "at": at})
    answers = with_choices(Answers("", engine, HOUR), read_dashboard("incidents"))
    assert answers.chosen == {"incident": "inc_2"}
    for panel in read_dashboard("incidents")["panels"]:
        for target in panel.get("targets", ()):
            assert answers.table(target).columns
    engine.dispose()


def test_texts_are_cut_to_their_room() -> None:
    assert shortened("a short one", 200, 9) == "a short one"
    cut = shortened("a text that is far too long for its column", 80, 9)
    assert cut.endswith("…")
    assert text_width_px(cut, 9) <= 80


def test_an_unreachable_prometheus_is_named() -> None:
    with pytest.raises(PreviewError, match=r"127\.0\.0\.1:1 does not answer"):
        Answers("http://127.0.0.1:1", None, HOUR).metrics({"expr": "up"})


def test_a_panel_of_the_store_without_a_store_says_so() -> None:
    with pytest.raises(PreviewError, match="--store"):
        Answers("", None, HOUR).table({"rawSql": "SELECT 1"})


def test_colons_in_sql_are_no_parameters(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    answers = Answers("", engine, HOUR)
    assert answers.table({"rawSql": "SELECT 'rule:x' AS reason"}).rows == [{"reason": "rule:x"}]
    engine.dispose()


def test_without_the_extra_the_command_says_what_installs_it(tmp_path: Path) -> None:
    """Matplotlib is hidden from the interpreter that runs it."""
    code = (
        "import sys; sys.modules['matplotlib'] = None; "
        "from monitor.cli import main; main(['dashboards', 'preview', '--out', sys.argv[1]])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "floodwatch[dashboards]" in result.stderr
    assert "Traceback" not in result.stderr
