"""The store and the file sink: everything once, newest incident wins, batches whole."""

from __future__ import annotations

import base64
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from detectors.incidents import IncidentState, Output
from monitor.sinks import NdjsonSink
from monitor.store import Store, StoreError
from monitor.wire import DeadLetter, Reason
from tests.support.outputs import a_decision, an_alert, an_incident


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    """What another process would read."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def test_outputs_written_twice_are_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "store.db"
    outputs: list[Output] = [
        an_incident(1),
        an_alert(1),
        a_decision(1),
        an_incident(2),
        an_alert(2),
    ]
    with closing(Store(f"sqlite:///{path}")) as store:
        store.write(outputs)
        store.write(outputs)
        assert store.counts() == {"alerts": 2, "incidents": 2, "decisions": 1}
    with closing(Store(f"sqlite:///{path}")) as store:
        store.write(outputs[:1])
        assert store.counts() == {"alerts": 2, "incidents": 2, "decisions": 1}


def test_an_alert_is_stored_with_its_evidence_and_context(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(Store(f"sqlite:///{path}")) as store:
        store.write([an_alert(7)])
    ((alert_id, key, record),) = rows(path, "SELECT alert_id, key, record FROM alerts")
    assert (alert_id, key) == ("alr_7", "user-1")
    content = json.loads(str(record))
    assert content["evidence"] == [
        {
            "column": "generations_1m",
            "operator": ">=",
            "threshold": 30,
            "value": 45.0,
            "holds": True,
        }
    ]
    assert content["context"] == {"tier": "free", "verified": False}


@pytest.mark.parametrize(
    ("updates", "expected"),
    [
        ([("opened", 1), ("updated", 5), ("closed", 9)], ("closed", 9)),
        ([("updated", 5), ("opened", 1)], ("updated", 5)),
        ([("closed", 9), ("opened", 1), ("updated", 9)], ("closed", 9)),
        ([("updated", 5), ("closed", 5)], ("closed", 5)),
    ],
)
def test_an_incident_is_as_its_newest_update_says_in_whatever_order_they_come(
    tmp_path: Path, updates: list[tuple[IncidentState, int]], expected: tuple[str, int]
) -> None:
    path = tmp_path / "store.db"
    with closing(Store(f"sqlite:///{path}")) as store:
        for state, findings in updates:
            store.write([an_incident(1, state, findings=findings)])
    assert rows(path, "SELECT state, findings FROM incidents") == [expected]


def test_several_updates_of_an_incident_in_one_batch(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(Store(f"sqlite:///{path}")) as store:
        store.write([an_incident(1), an_incident(1, "updated", findings=3)])
    assert rows(path, "SELECT state, findings FROM incidents") == [("updated", 3)]


def test_a_batch_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(Store(f"sqlite:///{path}")) as store:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TABLE decisions")
            connection.commit()
        with pytest.raises(StoreError, match="no such table: decisions"):
            store.write([an_alert(1), a_decision(1)])
    assert rows(path, "SELECT count(*) FROM alerts") == [(0,)]


def test_readers_do_not_wait_for_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(Store(f"sqlite:///{path}")) as store:
        store.write([an_alert(1)])
        with closing(sqlite3.connect(path, timeout=0)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM alerts").fetchone() == (1,)
            store.write([an_alert(2)])
            assert reader.execute("SELECT count(*) FROM alerts").fetchone() == (1,)
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_store_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="unable to open"):
        Store(f"sqlite:///{tmp_path / 'folder'}")
    (tmp_path / "file").write_bytes(b"not a database, surely" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store(f"sqlite:///{tmp_path / 'file'}")


def test_files_hold_one_object_a_line_in_log_order(tmp_path: Path) -> None:
    letter = DeadLetter("topic", 0, 9, Reason.EMPTY, "$", "an empty record", b"\xff\x00")
    with closing(NdjsonSink(tmp_path)) as sink:
        sink.write([an_incident(1), an_alert(1), an_alert(2)], [letter])
        assert len((tmp_path / "alerts.ndjson").read_bytes().splitlines()) == 2
        sink.write([an_alert(3), a_decision(1)])
    alerts = pl.read_ndjson(tmp_path / "alerts.ndjson")
    assert alerts["alert_id"].to_list() == ["alr_1", "alr_2", "alr_3"]
    assert alerts["evidence"].list.len().to_list() == [1, 1, 1]
    assert json.loads((tmp_path / "incidents.ndjson").read_text())["state"] == "opened"
    assert json.loads((tmp_path / "decisions.ndjson").read_text())["decision_id"] == "dec_1"
    dead = json.loads((tmp_path / "dead_letters.ndjson").read_text())
    assert dead["reason"] == "empty"
    assert base64.b64decode(dead["raw"]) == b"\xff\x00"


def test_files_of_an_earlier_run_are_replaced(tmp_path: Path) -> None:
    for number in (1, 2):
        with closing(NdjsonSink(tmp_path)) as sink:
            sink.write([an_alert(number)])
    assert json.loads((tmp_path / "alerts.ndjson").read_text())["alert_id"] == "alr_2"
