"""Recording and alerting rules: made of the code, tested by promtool, each with a runbook."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml
from prometheus_client import generate_latest

from dashboards import objectives
from dashboards.catalogue import views
from dashboards.rules.catalogue import ALERTING, RECORDED, alerts
from dashboards.rules.detection import VOLUME_RULES
from dashboards.rules.liveness import WATCHDOG, WORKER_JOB
from dashboards.rules.model import Alert, Record
from dashboards.rules.store import STORE_JOB
from dashboards.written import rule_files
from tests.support.components import require
from tests.support.dashboards import FOLDER, exported_names, metric_names
from tests.unit.test_metrics import exercised

ROOT: Final = FOLDER.parent
RUNBOOKS: Final = ROOT / "docs" / "runbooks"
RULES: Final = [FOLDER / "prometheus" / name for name in ("alerting.yml", "recording.yml")]
TESTS: Final = sorted((FOLDER / "prometheus" / "tests").glob("*.yml"))
ALERTS: Final = [pytest.param(alert, id=alert.name) for alert in alerts()]
TELLS: Final = {"page": "pages", "ticket": "ticket", "none": "never told"}


def promtool(*arguments: str | Path, text: bytes | None = None) -> str:
    require("prometheus")
    result = subprocess.run(
        ["promtool", *map(str, arguments)], input=text, capture_output=True, check=False
    )
    said = (result.stdout + result.stderr).decode()
    assert result.returncode == 0, said
    return said


def test_every_file_is_what_the_code_makes() -> None:
    """`make dashboards` writes them anew."""
    made = {FOLDER / path: text for path, text in rule_files()}
    assert {path: path.read_text(encoding="utf-8") for path in (*RULES, *TESTS)} == made


def test_prometheus_takes_the_rules() -> None:
    assert "FAILED" not in promtool("check", "rules", *RULES)


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in TESTS])
def test_every_alert_fires_when_it_should_and_only_then(path: Path) -> None:
    """The cases beside each alert, in promtool's own evaluation."""
    assert "SUCCESS" in promtool("test", "rules", path)


def test_every_alert_has_cases_of_both_kinds() -> None:
    """The watchdog apart, which is there to fire."""
    for alert in alerts():
        kinds = {bool(case.says) for case in alert.cases}
        assert kinds == ({True} if alert is WATCHDOG else {True, False}), alert.name


def test_metrics_are_as_prometheus_wants_them() -> None:
    """What a worker serves, looked at by promtool's linter."""
    said = promtool("check", "metrics", text=generate_latest(exercised().registry))
    assert not said.strip(), said


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_is_wrong_how_much_and_where_to_look(alert: Alert) -> None:
    assert re.fullmatch(r"Floodwatch[A-Z][A-Za-z0-9]+", alert.name)
    assert 10 <= len(alert.summary) <= 70
    assert not alert.summary.endswith(".")
    assert "{{" not in alert.summary, "a summary is the same each time: people group by it"
    assert alert.description.endswith(".")
    assert len(alert.description) <= 250
    assert alert.dashboard in {view.uid for view in views()}
    assert alert.audience in TELLS


@pytest.mark.parametrize("alert", ALERTS)
def test_every_metric_of_an_alert_is_exported_or_recorded(alert: Alert) -> None:
    assert not metric_names(alert.expr) - exported_names() - _recorded()


def test_recording_rules_name_exported_metrics_and_are_used() -> None:
    """A rule that nobody asks is work for nothing."""
    asked = {name for alert in alerts() for name in metric_names(alert.expr)}
    for group in RECORDED:
        for rule in group.rules:
            assert isinstance(rule, Record)
            assert not metric_names(rule.expr) - exported_names()
            assert rule.name in asked, f"{rule.name} is recorded for nobody"


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_a_runbook_that_begins_with_what_it_is(alert: Alert) -> None:
    """The page on the phone is the truth: title, name, who is told, for how long it waits."""
    text = (RUNBOOKS / "monitor" / f"{alert.name}.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    waits = f" · after {alert.pending}" if alert.pending else ""
    assert lines[0] == f"# {alert.summary}"
    assert lines[2] == f"`{alert.name}` · {TELLS[alert.audience]}{waits}"
    assert "## Look first" in text
    assert "## Do" in text
    assert len(lines) <= 45, "too long for a phone at night"


def test_every_runbook_about_the_monitor_has_its_alert_and_is_in_the_index() -> None:
    pages = {path.stem for path in (RUNBOOKS / "monitor").glob("*.md")}
    assert pages == {alert.name for alert in alerts()}
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    for alert in alerts():
        assert f"| [{alert.summary}](monitor/{alert.name}.md) | {TELLS[alert.audience]} |" in index


def test_the_objective_is_a_bucket_of_the_histogram() -> None:
    """Else the share of events in time would be a guess."""
    text = generate_latest(exercised().registry).decode()
    bucket = f'floodwatch_event_delay_seconds_bucket{{le="{objectives.EVENT_DELAY_MAX_S}"}}'
    assert bucket in text


def test_burn_rates_are_those_of_the_workbook() -> None:
    """Budget of 30 days used up when the alert comes: 2 %, 5 %, 10 % and 10 %."""
    hours = {"1h": 1, "6h": 6, "1d": 24, "3d": 72}
    used = [burn.factor * hours[burn.long] / (30 * 24) for burn in objectives.BURN_RATES]
    assert used == pytest.approx([0.02, 0.05, 0.10, 0.10])
    assert [burn.audience for burn in objectives.BURN_RATES] == ["page", "page", "ticket", "ticket"]


def test_jobs_are_named_as_the_rules_know_them() -> None:
    path = FOLDER / "prometheus" / "prometheus.yml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    jobs = {job["job_name"] for job in document["scrape_configs"]}
    assert {WORKER_JOB, STORE_JOB} <= jobs
    assert set(document["global"]["external_labels"]) == {"grafana", "runbooks"}


def test_volume_rules_are_rules_of_the_default_pack() -> None:
    """Else the alert about volumes could never fire."""
    folder = ROOT / "detectors" / "packs" / "default"
    text = "".join(p.read_text(encoding="utf-8") for p in folder.glob("*.yaml"))
    for rule in VOLUME_RULES:
        assert re.search(rf"^ *- id: {rule}$", text, re.MULTILINE)


def _recorded() -> set[str]:
    return {rule.name for group in RECORDED for rule in group.rules if isinstance(rule, Record)}


def test_groups_and_alerts_are_named_once() -> None:
    names = [alert.name for alert in alerts()]
    groups = [group.name for group in (*RECORDED, *ALERTING)]
    assert len(set(names)) == len(names)
    assert len(set(groups)) == len(groups)
