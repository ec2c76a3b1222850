"""``floodwatch topics create`` and ``floodwatch worker`` on a real broker, as one runs them."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from monitor.cloudevents import ALERT_TYPE, decode_event
from monitor.kafka.topics import TopicNames
from monitor.simulator.engine import simulate
from monitor.simulator.kafka_output import write_kafka
from monitor.simulator.scenario import load_scenario
from tests.integration.kafka_harness import Installation
from tests.kafka import ExistingBroker, KafkaBroker
from tests.support.topics import topic_lines
from tests.support.waiting import wait_until


@pytest.fixture
def settings(kafka: KafkaBroker | ExistingBroker, tmp_path: Path) -> Path:
    """A configuration file with the broker and topic names of this test."""
    names = TopicNames.with_prefix(f"t{uuid.uuid4().hex[:8]}-")
    listed = topic_lines(names)
    path = tmp_path / "floodwatch.yaml"
    path.write_text(
        f"kafka:\n  brokers: {kafka.bootstrap}\n  group: {names.alerts}-group\n"
        f"  topics:\n{listed}\nmetrics: {{port: 0}}\n",
        encoding="utf-8",
    )
    return path


def floodwatch(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "monitor", *map(str, arguments)]


@contextmanager
def worker(settings: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process; killed if it still runs when the block ends."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            floodwatch("worker", "--config", settings), stdout=file, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def answer(address: str, path: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(address + path, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def counted(address: str, pattern: str) -> float:
    """The sum of the samples that match."""
    _, text = answer(address, "/metrics")
    return sum(float(line.split()[-1]) for line in text.splitlines() if re.match(pattern, line))


def test_topics_worker_metrics_and_a_clean_end(
    kafka: KafkaBroker | ExistingBroker, settings: Path, tmp_path: Path
) -> None:
    """Events of the demo's scenario become alerts on the topic; every one is counted."""
    subprocess.run(
        floodwatch("topics", "--config", settings, "create", "--partitions", "2"), check=True
    )
    found = re.findall(r"    \w+: (\S+)", settings.read_text("utf-8"))
    names = TopicNames(*found)
    place = Installation(kafka.bootstrap, names, f"{names.alerts}-group", 2)
    events = simulate(load_scenario("demo"), seed=1, users=2_000, minutes=3.0).events
    write_kafka(iter([events]), [kafka.bootstrap], names.inputs)
    log = tmp_path / "worker.log"
    with worker(settings, log) as process:
        wait_until(lambda: "metrics on" in log.read_text("utf-8"), "it serves metrics")
        match = re.search(r"metrics on (http://\S+)/metrics", log.read_text("utf-8"))
        assert match
        address = match[1]
        wait_until(lambda: answer(address, "/readyz") == (200, "ok\n"), "it is ready")
        assert answer(address, "/healthz") == (200, "ok\n")
        wait_until(
            lambda: counted(address, "floodwatch_events_total") == len(events), "all are processed"
        )
        wait_until(
            lambda: (
                counted(address, "floodwatch_consumer_lag_records") == 0
                and counted(address, "floodwatch_assigned_partitions") == 2
            ),
            "there is no lag",
        )
        alerts = counted(address, "floodwatch_alerts_total")
        delays = counted(address, "floodwatch_alert_delay_seconds_count")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text("utf-8")
    published = [decode_event(record.value) for record in place.read(names.alerts)]
    assert {event.type for event in published} == {ALERT_TYPE}
    assert len(published) == alerts == delays > 0
    committed = place.committed()
    assert sum(committed.values()) == len(events)
    assert "Traceback" not in log.read_text("utf-8")


def test_a_worker_without_topics_ends_with_what_would_make_them(
    settings: Path,
) -> None:
    result = subprocess.run(
        floodwatch("worker", "--config", settings), capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "error: topics missing" in result.stderr
    assert "floodwatch topics create" in result.stderr
    assert "Traceback" not in result.stderr
