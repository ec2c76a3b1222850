"""``floodwatch store`` between a real broker and a real database, as one runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from kafka import KafkaProducer

from detectors.incidents import Alert, Decision, Output
from monitor.cli import main
from monitor.cloudevents import alert_event, decision_event, encode_event, incident_event
from monitor.kafka.topics import TopicNames
from monitor.store.store import Store
from monitor.store.tables import ALERTS
from monitor.wire.decode import Decoder
from tests.integration.kafka_harness import IGNORE_SOCKETS, Installation
from tests.kafka import ExistingBroker, KafkaBroker
from tests.postgres import PostgresServer
from tests.postgres.server import PASSWORD
from tests.support.outputs import a_decision, an_alert, an_incident
from tests.support.stores import a_full_alert, rows
from tests.support.waiting import wait_until

_AWAY_S = 60.0 if os.environ.get("FLOODWATCH_LONG") else 2.0


def outputs(first: int, count: int) -> list[Output]:
    """Alerts and what goes with them: 2 incident updates and a decision each."""
    made: list[Output] = []
    for number in range(first, first + count):
        made += [an_incident(number), an_alert(number), a_decision(number)]
        made.append(an_incident(number, "closed", findings=3))
    return made


def stored(count: int) -> dict[str, int]:
    """What the store holds of ``outputs`` of so many alerts, each once."""
    return {
        "alerts": count,
        "incidents": count,
        "incident_updates": 2 * count,
        "decisions": count,
    }


@dataclass
class Place:
    """Topics on a broker and a database, and the environment that names them."""

    topics: Installation
    server: PostgresServer
    database: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    producer: Any = None

    def __enter__(self) -> Self:
        secret = self.folder / "password"
        secret.write_text(f"{PASSWORD}\n", encoding="utf-8")
        names = self.topics.names
        self.environment = {
            **os.environ,
            "FLOODWATCH_KAFKA__BROKERS": self.topics.bootstrap,
            "FLOODWATCH_KAFKA__GROUP": self.topics.group,
            "FLOODWATCH_STORE__URL": self.server.url(self.database, password=False),
            "FLOODWATCH_STORE__PASSWORD_FILE": str(secret),
            "FLOODWATCH_METRICS__PORT": "0",
        }
        for name in TopicNames.__slots__:
            self.environment[f"FLOODWATCH_KAFKA__TOPICS__{name.upper()}"] = getattr(names, name)
        self.producer = KafkaProducer(bootstrap_servers=self.topics.bootstrap, linger_ms=5)
        return self

    def __exit__(self, *_: object) -> None:
        self.producer.close()

    def publish(self, made: Iterable[Output]) -> None:
        """Publish as a worker does, and wait until the broker has it."""
        names = self.topics.names
        for one in made:
            if isinstance(one, Alert):
                topic, key, event = names.alerts, one.key, alert_event(one, "/test")
            elif isinstance(one, Decision):
                topic, key, event = names.decisions, one.user_id, decision_event(one, "/test")
            else:
                topic, key = names.incidents, one.incident_id
                event = incident_event(one, "/test")
            self.producer.send(topic, key=key.encode(), value=encode_event(event))
        self.producer.flush()

    def counts(self) -> dict[str, int]:
        with closing(Store(self.server.url(self.database))) as store:
            return store.counts()


@dataclass
class Service:
    """A running ``floodwatch store``."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def address(self) -> str:
        wait_until(lambda: "metrics on" in self.log.read_text("utf-8"), "it serves metrics")
        match = re.search(r"metrics on (http://\S+)/metrics", self.log.read_text("utf-8"))
        assert match
        return match[1]

    def ready(self) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.address + "/readyz", timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def value(self, pattern: str) -> float:
        """The sum of the samples that match."""
        with urllib.request.urlopen(self.address + "/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if re.match(pattern, line))


@contextmanager
def service(place: Place) -> Iterator[Service]:
    """A process; killed if it still runs when the block ends."""
    log = place.folder / f"store-{len(list(place.folder.glob('store-*.log')))}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "monitor", "store"],
            env=place.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Service(process, log)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def place(
    kafka: KafkaBroker | ExistingBroker, own_postgres: PostgresServer, tmp_path: Path
) -> Iterator[Place]:
    topics = Installation.create(kafka.bootstrap, partitions=2)
    with Place(topics, own_postgres, own_postgres.new_database(), tmp_path) as made:
        yield made


def test_all_that_is_published_is_stored_once_over_kills_and_ends_in_order(place: Place) -> None:
    place.publish(outputs(0, 300))
    with service(place) as first:
        wait_until(lambda: first.value("floodwatch_store_rows_total") > 0, "it stores")
        place.publish(outputs(300, 300))
        first.process.kill()
    place.producer.send(place.topics.names.alerts, value=b"not ours")
    place.publish([*outputs(250, 100), *outputs(600, 50)])
    with service(place) as second:
        wait_until(lambda: place.counts() == stored(650), "all are stored")
        wait_until(lambda: second.value("floodwatch_store_lag_records") == 0, "no lag")
        assert second.ready() == (200, "ok\n")
        assert second.value("floodwatch_store_partitions") == 6
        assert second.value("floodwatch_store_unreadable_messages_total") == 1
        assert second.value("floodwatch_store_up") == 1
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(30) == 0, second.log.read_text("utf-8")
    log = second.log.read_text("utf-8")
    assert re.search(rf"{place.topics.names.alerts}\[\d\]@\d+ is none of our outputs", log)
    assert "Traceback" not in log
    assert place.counts() == stored(650)
    with closing(Store(place.server.url(place.database))) as store:
        records = {row["alert_id"]: row["record"] for row in rows(store, ALERTS)}
    assert records["alr_7"]["evidence"][0]["column"] == "generations_1m"
    with service(place) as third:
        # All was committed: there is nothing to read again.
        wait_until(lambda: third.ready()[0] == 200, "it is ready")
        place.publish(outputs(650, 1))
        wait_until(lambda: place.counts() == stored(651), "it goes on")
        assert third.value("floodwatch_store_batch_outputs_sum") == 4


@IGNORE_SOCKETS
def test_a_database_that_comes_and_goes_costs_nothing(place: Place) -> None:
    """Not there at the start, killed, stopped at the end: all is stored, nothing twice."""
    total = 100
    place.server.stop()
    with service(place) as running:
        wait_until(lambda: "trying until it answers" in running.log.read_text("utf-8"), "it waits")
        status, reason = running.ready()
        assert (status, "cannot be read" in reason) == (503, True), reason
        place.server.start()
        wait_until(lambda: running.ready() == (200, "ok\n"), "it is ready")
        place.publish(outputs(0, 100))
        wait_until(lambda: place.counts() == stored(100), "what came before is stored")
        place.server.kill()
        until_s = time.monotonic() + _AWAY_S
        while time.monotonic() < until_s:
            place.publish(outputs(total, 100))
            total += 100
            wait_until(lambda: running.ready()[0] == 503, "it says so", deadline_s=20)
        status, reason = running.ready()
        assert (status, "cannot write" in reason) == (503, True), reason
        lag = 3 * (total - 100)
        wait_until(lambda: running.value("floodwatch_store_lag_records") >= lag, "lag is told")
        assert running.value("floodwatch_store_up") == 0
        assert running.value("floodwatch_store_failures_total") >= 1
        place.server.start()
        wait_until(lambda: place.counts() == stored(total), "what waited is stored")
        wait_until(lambda: running.ready() == (200, "ok\n"), "it is ready again")
        place.server.stop()
        place.publish(outputs(total, 5))
        wait_until(lambda: running.ready()[0] == 503, "it waits again")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(30) == 0, running.log.read_text("utf-8")
    assert PASSWORD not in running.log.read_text("utf-8") + reason
    place.server.start()
    with service(place):
        wait_until(lambda: place.counts() == stored(total + 5), "what was in hand is read again")


def test_a_verdict_reaches_the_detection_once_for_each_user(
    place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Given twice on the command line; what is published is an event that the worker takes."""
    with closing(Store(place.server.url(place.database))) as store:
        store.write([*outputs(1, 1), a_full_alert(9)])
        store.write([an_incident(9, key="campaign-1")])
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            main(["incidents", "verdict", "inc_1", "true-positive", "--as", "ann"])
        assert not ended.value.code
    said = capfd.readouterr().out
    assert said.count("the detection was told about 1 user") == 1
    assert said.endswith("inc_1: abuse, says ann, as before\n")
    (record,) = place.topics.read(place.topics.names.feedback_events)
    assert record.key == b"user-1"
    wanted = ("event_id", "type", "user_id", "subject_user_id", "verdict", "feedback_kind")
    decoder = Decoder(wanted)
    received_ms = [record.timestamp]
    decoded = decoder.decode("feedback", [record.value], [0], received_ms)
    assert not decoded.dead
    event = decoded.frame.select(wanted[1:]).row(0)
    assert event == ("verdict.given", "ann", "user-1", "abuse", "verdict")
