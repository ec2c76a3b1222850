"""Who is woken, and how often: a campaign and an outage, behind the real Alertmanager.

Events go through Kafka, the worker, the store, its pager, and Prometheus with our rules, to
Alertmanager with our routes; a receiver notes what a pager would get.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest
import yaml

from monitor.simulator.engine import simulate
from monitor.simulator.kafka_output import write_kafka
from monitor.simulator.scenario import Scenario
from tests.integration.kafka_harness import Installation
from tests.integration.services import Service, write_settings
from tests.kafka import ExistingBroker, KafkaBroker
from tests.postgres import PostgresServer
from tests.prometheus import AlertmanagerServer, PrometheusServer
from tests.prometheus.server import PROVISIONED
from tests.support.components import require
from tests.support.waiting import wait_until

_MINUTES: Final = 75
_ATTACK_AT_S: Final = 1_200
_FIRST_PART_MINUTES: Final = 32
_SEED: Final = 1
# In production 30 s: on a busy machine the stages may be seconds apart.
_GROUP_WAIT_S: Final = 6
_GROUP_INTERVAL_S: Final = 3
_PATIENCE: Final = "3s"


@dataclass
class Pager:
    """What the receiver ``pager`` was told: the group, and whether it fires."""

    told: list[tuple[str, str]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def of(self, prefix: str) -> list[str]:
        """``firing`` and ``resolved`` of groups that begin so, in order."""
        return [status for group, status in self.told if group.startswith(prefix)]


@contextmanager
def listening() -> Iterator[Pager]:
    """A webhook receiver on the loopback."""
    pager = Pager()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            pager.told.append((content["groupLabels"].get("group", ""), content["status"]))
            pager.alerts += content["alerts"]
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Tests are quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        pager.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield pager
        finally:
            server.shutdown()
            thread.join(10)


def routes_to(pager: Pager) -> dict[str, Any]:
    """Our own configuration of Alertmanager, less patient, with a receiver for the pager."""
    path = PROVISIONED / "alertmanager" / "alertmanager.yml"
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["route"] |= {
        "group_wait": f"{_GROUP_WAIT_S}s",
        "group_interval": f"{_GROUP_INTERVAL_S}s",
    }
    for receiver in document["receivers"]:
        if receiver["name"] == "pager":
            receiver["webhook_configs"] = [{"url": pager.url, "send_resolved": True}]
    return document


class _ImpatientPrometheus(PrometheusServer):
    """With our rules, but no condition has to hold for minutes."""

    def __init__(self, targets: dict[str, list[str]], alertmanagers: list[str]) -> None:
        super().__init__(targets, alertmanagers)
        document = yaml.safe_load(self._configuration.read_text(encoding="utf-8"))
        rules = [Path(name) for name in document["rule_files"]]
        for path in rules:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            for group in content["groups"]:
                for rule in group["rules"]:
                    if "for" in rule:
                        rule["for"] = _PATIENCE
            (self.folder / path.name).write_text(yaml.safe_dump(content), encoding="utf-8")
        document["rule_files"] = [str(self.folder / path.name) for path in rules]
        self._configuration.write_text(yaml.safe_dump(document), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Running:
    """All the servers, and the pager behind them."""

    place: Installation
    worker: Service
    prometheus: PrometheusServer
    pager: Pager


@pytest.fixture(scope="module")
def running(
    kafka: KafkaBroker | ExistingBroker,
    postgres: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    require("prometheus")
    require("alertmanager")
    folder = tmp_path_factory.mktemp("paging")
    place = Installation.create(kafka.bootstrap, partitions=2)
    with ExitStack() as stack:
        pager = stack.enter_context(listening())
        alertmanager = stack.enter_context(AlertmanagerServer(routes_to(pager)))
        settings = write_settings(
            place,
            folder,
            store={"url": postgres.url(postgres.new_database())},
            paging={"alertmanagers": alertmanager.url, "interval_s": 0.5},
        )
        worker = stack.enter_context(Service("worker", settings))
        store = stack.enter_context(Service("store", settings))
        jobs = {"floodwatch-worker": [worker.address], "floodwatch-store": [store.address]}
        alertmanagers = [f"127.0.0.1:{alertmanager.port}"]
        worker.wait_until_ready()
        store.wait_until_ready()
        prometheus = stack.enter_context(_ImpatientPrometheus(jobs, alertmanagers))
        yield Running(place, worker, prometheus, pager)


def planted_campaign() -> tuple[pl.DataFrame, pl.DataFrame]:
    """A farm of new accounts on an ordinary day, and the calm after it, until now."""
    content = {
        "name": "farm",
        "users": 3_000,
        "minutes": _MINUTES,
        "attacks": [{"kind": "sybil-farm", "start_s": _ATTACK_AT_S}],
    }
    start_ms = round(1_000 * (time.time() - 60 * _MINUTES))
    scenario = Scenario.model_validate(content)
    events = simulate(scenario, seed=_SEED, start_ms=start_ms).events
    begun = pl.col("time_ms") < start_ms + 60_000 * _FIRST_PART_MINUTES
    return events.filter(begun), events.filter(~begun)


def test_a_campaign_pages_once_and_is_over_once(running: Running) -> None:
    """It grows from alert to alert, and its members have alerts of their own: one page."""
    place, pager = running.place, running.pager
    for part, status in zip(planted_campaign(), ("firing", "resolved"), strict=True):
        write_kafka(iter([part]), [place.bootstrap], place.names.inputs)
        wait_until(lambda status=status: status in pager.of("campaign/"), f"it is {status}")  # type: ignore[misc]
    settle()
    assert pager.of("campaign/") == ["firing", "resolved"]
    assert pager.told == [(group, status) for group, status in pager.told if "campaign/" in group]
    (alert, *_) = pager.alerts
    assert alert["labels"]["key_space"] == "campaign"
    assert "users at once on one key" in alert["annotations"]["summary"]
    assert alert["annotations"]["command"].startswith("floodwatch incidents show inc_")
    assert alert["annotations"]["runbook_url"].endswith(".md")


def test_an_outage_pages_once_and_is_over_once(running: Running) -> None:
    """Whatever else goes wrong while there is no worker follows from that, and is not paged."""
    pager = running.pager
    wait_until(lambda: running.prometheus.total("up") == 2, "both are scraped")
    before = len(pager.told)
    running.worker.kill()
    wait_until(lambda: "firing" in pager.of("monitor/"), "somebody is paged")
    settle()
    running.worker.start()
    running.worker.wait_until_ready()
    wait_until(lambda: "resolved" in pager.of("monitor/"), "it is over")
    settle()
    assert pager.told[before:] == [("monitor/down", "firing"), ("monitor/down", "resolved")]


def settle() -> None:
    """Wait as long as Alertmanager would take to say more of a group, twice."""
    # What must not happen cannot be waited for; this long it would have had for it.
    time.sleep(2 * _GROUP_INTERVAL_S + _GROUP_WAIT_S)
