"""A database that is killed while a process writes into it: nothing lost, nothing twice."""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from detectors.incidents import Output
from monitor.store import Store, StoreError
from monitor.store.engine import open_engine, reading
from monitor.store.spool import Spool
from monitor.store.writer import StoreWriter, WriterLimits
from monitor.store_metrics import StoreMetrics
from tests.postgres import PostgresServer
from tests.postgres.server import PASSWORD
from tests.support.outputs import a_decision, an_alert, an_incident
from tests.support.waiting import wait_until

_AWAY_S = 60.0 if os.environ.get("FLOODWATCH_LONG") else 1.5


def some(number: int) -> list[Output]:
    return [an_incident(number), an_alert(number), a_decision(number)]


def test_what_is_written_while_the_server_is_down_is_stored_when_it_is_up(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    """Killed and started again under a writer that goes on all the time."""
    url = own_postgres.url(own_postgres.new_database())
    registry = CollectorRegistry()
    writer = StoreWriter(
        Store(url),
        Spool(tmp_path / "spool", 1 << 30),
        limits=WriterLimits(batch_outputs=50),
        observer=StoreMetrics(registry),
    )
    number = 0

    def write(count: int) -> None:
        nonlocal number
        for _ in range(count):
            writer.write(some(number))
            number += 1

    write(300)
    own_postgres.kill()
    until_s = time.monotonic() + _AWAY_S
    while time.monotonic() < until_s:
        started_s = time.monotonic()
        write(20)
        assert time.monotonic() - started_s < 1.0, "it waited for the database"
        wait_until(lambda: not writer._queue, "the thread keeps up")
    assert registry.get_sample_value("floodwatch_store_spooled_outputs") or len(writer._spool)
    own_postgres.start()
    write(20)
    wait_until(lambda: writer.waiting == 0, "what waited is stored")
    write(20)
    writer.close()
    with closing(Store(url)) as store:
        assert store.counts() == dict.fromkeys(
            ("alerts", "incidents", "incident_updates", "decisions"), number
        )
    assert writer.dropped == 0
    assert not (tmp_path / "spool").exists()


def test_the_password_comes_from_a_file_and_is_never_said(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = postgres.new_database()
    url = postgres.url(database, password=False)
    monkeypatch.delenv("PGPASSWORD", raising=False)
    with pytest.raises(StoreError, match="no password supplied"):
        Store(url)
    secret = tmp_path / "secret"
    secret.write_text("wrong\n", encoding="utf-8")
    with pytest.raises(StoreError, match="password authentication failed") as caught:
        Store(url, password_file=secret)
    assert "wrong" not in str(caught.value)
    secret.write_text(f"  {PASSWORD}\n", encoding="utf-8")
    with closing(Store(url, password_file=secret)) as store:
        assert store.url == url.replace("floodwatch@", "floodwatch:***@")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    engine = open_engine(url)
    with reading(engine) as connection:
        assert connection.dialect.name == "postgresql"
    engine.dispose()
