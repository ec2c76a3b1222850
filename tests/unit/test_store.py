"""The writer and its spool: detection never waits, nothing is lost within the bound."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from detectors.incidents import Output
from monitor.store import Store, StoreError
from monitor.store.entries import Entry, as_entries
from monitor.store.errors import StoreUnavailableError
from monitor.store.spool import Spool
from monitor.store.store import Written
from monitor.store.writer import StoreWriter, WriterLimits
from monitor.store_metrics import StoreMetrics
from tests.support.outputs import a_decision, an_alert, an_incident

MB = 1 << 20


class Database(Store):
    """A store in SQLite that can be away, held up, or broken."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"sqlite:///{path}")
        self.away = False
        self.broken = False
        self.attempts = 0
        self.open = threading.Event()
        self.open.set()

    def write_each(self, entries: Sequence[Entry]) -> Written:
        self.attempts += 1
        assert self.open.wait(60)
        if self.broken:
            raise ZeroDivisionError("a mistake in the program")
        if self.away:
            raise StoreUnavailableError(f"store {self.url}: it is away")
        return super().write_each(entries)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "store.db")


def some(first: int, count: int) -> list[Output]:
    made: list[Output] = []
    for number in range(first, first + count):
        made += [an_incident(number), an_alert(number), a_decision(number)]
    return made


def alert_ids(path: Path) -> list[str]:
    """What another process would read, in order of time of writing."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT alert_id FROM alerts").fetchall()
    return sorted((str(alert_id) for (alert_id,) in found), key=lambda name: int(name[4:]))


def ids(count: int) -> list[str]:
    return [f"alr_{number}" for number in range(count)]


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until ``condition`` holds; fail with ``what`` after 30 s."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def test_what_is_written_is_stored_by_the_end(database: Database, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    writer = StoreWriter(database, Spool(spool, MB), limits=WriterLimits(batch_outputs=7))
    for number in range(50):
        writer.write(some(number, 1))
    writer.write([])
    writer.close()
    assert alert_ids(tmp_path / "store.db") == ids(50)
    assert not spool.exists(), "nothing waits: nothing is left behind"


def test_detection_never_waits_for_a_slow_database(database: Database, tmp_path: Path) -> None:
    """While a write hangs, more comes than memory may hold: it goes to disk, and is stored."""
    registry = CollectorRegistry()
    writer = StoreWriter(
        database,
        Spool(tmp_path / "spool", 10 * MB),
        limits=WriterLimits(batch_outputs=10, queue_outputs=100),
        observer=StoreMetrics(registry),
    )
    database.open.clear()
    for number in range(200):
        writer.write(some(number, 1))  # Would hang here, if it waited.
    assert len(writer._spool) >= 480
    database.open.set()
    writer.close()
    assert alert_ids(tmp_path / "store.db") == ids(200)
    written = registry.get_sample_value("floodwatch_store_rows_total", {"table": "alerts"})
    assert written == 200
    assert registry.get_sample_value("floodwatch_store_dropped_total") == 0
    assert registry.get_sample_value("floodwatch_store_spooled_outputs") == 0


def test_what_comes_while_the_database_is_away_is_stored_when_it_is_back(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    registry = CollectorRegistry()
    writer = StoreWriter(database, Spool(tmp_path / "spool", MB), observer=StoreMetrics(registry))
    writer.write(some(0, 3))
    until(lambda: database.counts()["alerts"] == 3, "the first are stored")
    database.away = True
    for number in range(3, 40):
        writer.write(some(number, 1))
    until(lambda: len(writer._spool) == 37 * 3, "the others wait on disk")
    assert database.counts()["alerts"] == 3
    assert registry.get_sample_value("floodwatch_store_up") == 0
    database.away = False
    until(lambda: database.counts()["alerts"] == 40, "they are stored without a further output")
    writer.close()
    assert registry.get_sample_value("floodwatch_store_up") == 1
    assert alert_ids(tmp_path / "store.db") == ids(40)
    said = [record.getMessage() for record in caplog.records if "store" in record.name]
    assert len([line for line in said if "it is away; what comes meanwhile waits in" in line]) == 1
    assert len([line for line in said if line.endswith("is back")]) == 1


def test_what_a_process_leaves_in_the_spool_is_stored_by_the_next(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database.away = True
    writer = StoreWriter(database, Spool(tmp_path / "spool", MB))
    writer.write(some(0, 10))
    writer.close()
    assert writer.waiting == 30
    assert "30 outputs wait in" in caplog.text
    with closing(Database(tmp_path / "store.db")) as again:
        StoreWriter(again, Spool(tmp_path / "spool", MB)).close()
    assert alert_ids(tmp_path / "store.db") == ids(10)


def test_beyond_its_bound_the_spool_loses_the_newest_and_says_how_many(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    line = len(as_entries([an_alert(10)])[0].data)
    registry = CollectorRegistry()
    spool = Spool(tmp_path / "spool", 6 * (line + 40))
    database.away = True
    writer = StoreWriter(database, spool, observer=StoreMetrics(registry))
    writer.write([an_alert(number) for number in range(10)])
    until(lambda: writer.dropped > 0, "some are lost")
    database.away = False
    writer.close()
    kept = alert_ids(tmp_path / "store.db")
    assert kept == ids(len(kept))
    assert 5 <= len(kept) <= 6
    assert writer.dropped == 10 - len(kept)
    assert registry.get_sample_value("floodwatch_store_dropped_total") == writer.dropped
    assert "is full: outputs are lost" in caplog.text


def test_a_disk_that_fails_is_a_full_spool(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = StoreWriter(database, Spool(tmp_path / "spool", MB))
    database.away = True
    shutil.rmtree(tmp_path / "spool")
    writer.write(some(0, 1))
    until(lambda: writer.dropped == 3, "they are counted")
    database.away = False
    writer.write(some(1, 1))
    writer.close()
    assert "cannot be written: [Errno 2]" in caplog.text
    assert alert_ids(tmp_path / "store.db") == ["alr_1"]


def test_a_line_that_a_crash_cut_off_is_said_and_the_rest_is_stored(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path / "spool", MB)
    spool.append(as_entries([an_alert(number) for number in range(3)]))
    spool.close()
    (segment,) = (tmp_path / "spool").glob("*.ndjson")
    segment.write_bytes(segment.read_bytes()[:-20])
    StoreWriter(database, Spool(tmp_path / "spool", MB)).close()
    assert alert_ids(tmp_path / "store.db") == ids(2)
    assert f"{segment} line 3 is damaged and left out" in caplog.text


def test_a_spool_belongs_to_one_process(tmp_path: Path) -> None:
    with (
        closing(Spool(tmp_path / "spool", MB)),
        pytest.raises(StoreError, match="another process uses it"),
    ):
        Spool(tmp_path / "spool", MB)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be used"):
        Spool(tmp_path / "file", MB)


def test_a_spool_is_cut_into_segments_that_are_stored_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.store.spool._SEGMENT_BYTES", 2_000)
    spool = Spool(tmp_path / "spool", MB)
    for number in range(30):
        assert spool.append(as_entries([an_alert(number)])) == 1
    files = sorted((tmp_path / "spool").glob("*.ndjson"))
    assert len(files) > 5
    assert sum(path.stat().st_size for path in files) == spool.size_bytes
    found: list[str] = []
    while (segment := spool.oldest()) is not None:
        if not found:
            spool.append(as_entries([an_alert(30)]))
        found += [entry.id for entry in spool.read(segment)]
        spool.remove(segment)
    spool.close()
    assert found == ids(31)


def test_a_mistake_in_the_program_is_raised_where_it_is_written_and_closed(
    database: Database, tmp_path: Path
) -> None:
    writer = StoreWriter(database, Spool(tmp_path / "spool", MB))
    database.broken = True
    writer.write(some(0, 1))
    until(lambda: not writer._thread.is_alive(), "it ends")
    with pytest.raises(StoreError, match="writing has ended: ZeroDivisionError"):
        writer.write(some(1, 1))
    with pytest.raises(StoreError, match="a mistake in the program"):
        writer.close()
    with closing(Database(tmp_path / "store.db")) as again:
        StoreWriter(again, Spool(tmp_path / "spool", MB)).close()
    assert alert_ids(tmp_path / "store.db") == ["alr_0"], "what it had in hand is not lost"


def test_a_store_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="unable to open"):
        Store(f"sqlite:///{tmp_path / 'folder'}")
    (tmp_path / "file").write_bytes(b"not a database, surely" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store(f"sqlite:///{tmp_path / 'file'}")
    with pytest.raises(StoreError, match="not a database URL"):
        Store("nonsense")
    absent = tmp_path / "absent"
    with pytest.raises(StoreError, match="No such file"):
        Store("postgresql+psycopg://nobody@127.0.0.1:1/none", password_file=absent)


def test_readers_do_not_wait_for_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(Store(f"sqlite:///{path}")) as store:
        store.write([an_alert(1)])
        with closing(sqlite3.connect(path, timeout=0)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM alerts").fetchone() == (1,)
            store.write([an_alert(2)])
            assert reader.execute("SELECT count(*) FROM alerts").fetchone() == (1,)
        with closing(sqlite3.connect(path)) as reader:
            assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
