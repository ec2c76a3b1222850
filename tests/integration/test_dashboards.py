"""Dashboards and rules against the real servers, over a planted hour played at high speed.

Kafka, a worker, the store on PostgreSQL, Alertmanager and Prometheus with our rules; then every
query of every panel and every rule must have an answer, or is listed here as empty, and why.
"""

from __future__ import annotations

import math
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest
from kafka import KafkaProducer
from PIL import Image
from sqlalchemy import Engine, create_engine

from dashboards.command import dashboard_names, read_dashboard
from dashboards.preview.answers import Answers, TimeRange, with_choices
from dashboards.preview.page import draw_page
from dashboards.rules.catalogue import RECORDED, alerts
from monitor.models.registry import Registry
from monitor.simulator.engine import DEFAULT_START_MS, simulate
from monitor.simulator.kafka_output import write_kafka
from monitor.simulator.scenario import load_scenario
from tests.integration.kafka_harness import Installation
from tests.integration.services import Service, write_settings
from tests.kafka import ExistingBroker, KafkaBroker
from tests.postgres import PostgresServer
from tests.prometheus import AlertmanagerServer, PrometheusServer
from tests.prometheus.server import SCRAPE_S
from tests.support.components import require
from tests.support.dashboards import Target, metric_names, targets
from tests.support.waiting import wait_until

DEMO_MODEL: Final = Path(__file__).parents[2] / "monitor" / "demo" / "model"
SLICES: Final = 4
START_S: Final = DEFAULT_START_MS / 1_000
HOUR: Final = TimeRange(START_S, START_S + 3_600, SCRAPE_S)
"""The hour that is played: always the same one, on a Monday morning."""

NOTHING_FIRES: Final = "nothing is wrong with the monitor"
NOT_A_FULL_HOUR: Final = "drift is judged by full hours, of 500 sampled rows or more"
NOBODY_JUDGED: Final = "nobody gave a verdict, wrote a note or acknowledged"
NO_SHADOW: Final = "the default pack has no rule in shadow mode"

EXPECTED_EMPTY: Final[Mapping[tuple[str, str, str], str]] = {
    ("overview", "Firing", "A"): NOTHING_FIRES,
    ("detection", "What shadow rules would have said", "A"): NO_SHADOW,
    ("detection", "Drift of features", "A"): NOT_A_FULL_HOUR,
    ("incidents", "Was the rule right?", "A"): NOBODY_JUDGED,
    ("incidents", "What people said", "A"): NOBODY_JUDGED,
}
EMPTY_METRICS: Final[Mapping[str, str]] = {"floodwatch_model_drift_psi": NOT_A_FULL_HOUR}


@dataclass(frozen=True, slots=True)
class Played:
    """The servers after the hour was played; ``shown`` is the time on the wall that it took."""

    prometheus: PrometheusServer
    engine: Engine
    shown: TimeRange
    events: int

    def answers(self, dashboard: str, *, hour: bool = False) -> Answers:
        """Who answers the queries of a dashboard, with its variables chosen.

        Metrics have the time at which they were scraped, incidents that of events: the ``hour``.
        """
        asked = Answers(self.prometheus.url, self.engine, HOUR if hour else self.shown)
        return with_choices(asked, read_dashboard(dashboard))


@pytest.fixture(scope="module")
def played(
    kafka: KafkaBroker | ExistingBroker,
    postgres: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Played]:
    """The planted hour, of which every query is asked."""
    require("prometheus")
    require("alertmanager")
    folder = tmp_path_factory.mktemp("dashboards")
    place = Installation.create(kafka.bootstrap, partitions=2)
    url = postgres.url(postgres.new_database())
    with ExitStack() as stack:
        alertmanager = stack.enter_context(
            AlertmanagerServer({"route": {"receiver": "none"}, "receivers": [{"name": "none"}]})
        )
        settings = _settings(place, folder, url, alertmanager.url)
        services = [stack.enter_context(Service(name, settings)) for name in ("worker", "store")]
        for service in services:
            service.wait_until_ready()
        jobs = {f"floodwatch-{service.command}": [service.address] for service in services}
        prometheus = stack.enter_context(PrometheusServer(jobs, [f"127.0.0.1:{alertmanager.port}"]))
        wait_until(lambda: prometheus.total("up") == len(jobs), "both are scraped")
        started_s = time.time()
        events = _play(place, prometheus)
        engine = create_engine(url)
        stack.callback(engine.dispose)
        yield Played(prometheus, engine, TimeRange(started_s, time.time(), SCRAPE_S), events)


def test_the_whole_hour_was_processed_and_stored(played: Played) -> None:
    """Else the checks below say little."""
    counted = played.prometheus.total("floodwatch_events_total")
    late = played.prometheus.total("floodwatch_late_events_total")
    assert counted + late == played.events
    delays = played.prometheus.total("floodwatch_event_delay_seconds_count")
    assert delays == played.events + 1, "each event, and the one that is none"
    assert played.prometheus.total("floodwatch_store_rows_total") > 50


def test_what_is_served_is_as_prometheus_wants_it(played: Played) -> None:
    """The real ``/metrics`` of both services, by promtool's linter."""
    for target in played.prometheus.api("targets")["activeTargets"]:
        with urllib.request.urlopen(target["scrapeUrl"], timeout=10) as response:
            text = response.read()
        linted = subprocess.run(
            ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
        )
        assert (linted.returncode, linted.stdout + linted.stderr) == (0, b"")


def test_every_query_of_every_panel_has_an_answer(played: Played) -> None:
    """Or is listed as empty; and what is listed must be empty, or the list is wrong."""
    answered: list[tuple[str, str, str]] = []
    empty: list[tuple[str, str, str]] = []
    for target in targets():
        (answered if _has_data(played, target) else empty).append(target.identity)
    assert sorted(set(empty) - EXPECTED_EMPTY.keys()) == [], "no data"
    assert sorted(EXPECTED_EMPTY.keys() & set(answered)) == [], "listed as empty, but has data"
    assert EXPECTED_EMPTY.keys() <= set(empty), "listed, but there is no such query"


def test_every_rule_is_evaluated_without_error_and_records(played: Played) -> None:
    groups = played.prometheus.api("rules")["groups"]
    ill = [
        (rule["name"], rule["lastError"])
        for group in groups
        for rule in group["rules"]
        if rule["health"] != "ok"
    ]
    assert ill == []
    assert {rule["name"] for group in groups for rule in group["rules"]} == {
        *(rule.name for group in RECORDED for rule in group.rules),
        *(alert.name for alert in alerts()),
    }
    for group in RECORDED:
        for rule in group.rules:
            assert played.prometheus.query(rule.name), f"{rule.name} has no value"


def test_every_metric_of_every_alert_has_series(played: Played) -> None:
    """An alert on a metric that nobody serves is silent for ever."""
    empty = {
        name
        for alert in alerts()
        for name in metric_names(alert.expr)
        if not played.prometheus.query(name)
    }
    assert empty == set(EMPTY_METRICS)


def test_a_monitor_that_is_well_wakes_nobody(played: Played) -> None:
    """The watchdog fires, and what is about the planted misuse; nothing about the monitor."""
    about_traffic = "monitor/(drift|volume)"
    firing = played.prometheus.query(
        f'ALERTS{{alertstate="firing", severity!="none", group!~"{about_traffic}"}}'
    )
    assert [one["metric"] for one in firing] == []
    assert played.prometheus.total('ALERTS{alertname="FloodwatchWatchdog"}') == 1


@pytest.mark.parametrize("name", dashboard_names())
def test_each_dashboard_is_drawn(played: Played, name: str, tmp_path: Path) -> None:
    """A picture of the size of its grid, small enough for the documentation."""
    path = tmp_path / f"{name}.png"
    draw_page(read_dashboard(name), played.answers(name, hour=name == "incidents"), path)
    with Image.open(path) as picture:
        width, height = picture.size
        colours = picture.convert("RGB").getcolors(maxcolors=1 << 20)
    assert width == 1_600
    assert height > 800
    assert path.stat().st_size < 300_000
    assert colours is not None
    assert len(colours) > 40, "nothing is drawn on it"


def _settings(place: Installation, folder: Path, url: str, alertmanager: str) -> Path:
    """A configuration file of both services."""
    registry = Registry(folder / "models")
    registry.promote(registry.add(DEMO_MODEL), "champion")
    return write_settings(
        place,
        folder,
        models={"registry": str(folder / "models")},
        store={"url": url},
        paging={"alertmanagers": alertmanager},
    )


def _play(place: Installation, prometheus: PrometheusServer) -> int:
    """The events of the hour, slice by slice as they are counted; how many."""
    scenario, start_ms = load_scenario("all-attacks"), int(HOUR.start_s * 1_000)
    events = simulate(scenario, seed=3, start_ms=start_ms).events
    size = math.ceil(len(events) / SLICES)
    for number in range(SLICES):
        part = events[number * size : (number + 1) * size]
        write_kafka(iter([part]), [place.bootstrap], place.names.inputs)
        sent = min((number + 1) * size, len(events))
        wait_until(lambda sent=sent: _done(prometheus) >= sent, f"{sent:,} are counted")  # type: ignore[misc]
    _plant_rubbish(place)
    old = events[:20].with_columns(time_ms=pl.col("time_ms") - 400 * 86_400_000)
    write_kafka(iter([old]), [place.bootstrap], place.names.inputs)
    total = len(events) + len(old)
    wait_until(lambda: _done(prometheus) >= total, "the late ones are counted")
    wait_until(lambda: _settled(prometheus), "all is stored")
    return total


def _plant_rubbish(place: Installation) -> None:
    producer = KafkaProducer(bootstrap_servers=place.bootstrap)
    try:
        producer.send(place.names.inputs[0], b"not JSON", key=b"nobody").get(30)
    finally:
        producer.close()


def _done(prometheus: PrometheusServer) -> float:
    return prometheus.total("floodwatch_events_total or floodwatch_late_events_total")


def _settled(prometheus: PrometheusServer) -> bool:
    waiting = "floodwatch_consumer_lag_records or floodwatch_store_lag_records"
    paged = "floodwatch_pages_firing"
    return prometheus.total(waiting) == 0 and bool(prometheus.query(paged))


def _has_data(played: Played, target: Target) -> bool:
    query: Mapping[str, Any] = target.query
    if "rawSql" in query:
        return bool(played.answers(target.dashboard, hour=True).table(query).rows)
    # Without the panel's own interval: that may be longer than it took to play the hour.
    found = played.answers(target.dashboard).metrics(query)
    return any(bool((~pl.Series(series.values).is_nan()).any()) for series in found)
