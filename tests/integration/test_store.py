"""One suite over both databases: each output once, the newest incident, migrations, the audit."""

from __future__ import annotations

import itertools
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from detectors.incidents import Decision, IncidentState, IncidentUpdate, Output
from monitor.store.audit import verify_audit
from monitor.store.engine import open_engine, reading, writing
from monitor.store.entries import read_entry
from monitor.store.errors import (
    StoreRejectedError,
    StoreSchemaError,
)
from monitor.store.people import People
from monitor.store.schema import check_schema, migrate
from monitor.store.store import Store
from monitor.store.tables import (
    ACKNOWLEDGEMENTS,
    ALERTS,
    AUDIT,
    DECISIONS,
    INCIDENT_UPDATES,
    INCIDENTS,
    METADATA,
    NOTES,
    VERDICTS,
)
from tests.support.outputs import a_decision, an_alert, an_incident
from tests.support.stores import Clock, a_full_alert, count, plain, rows

_DAY_MS = 86_400_000


# -- what detection says


def test_outputs_written_twice_are_kept_once(store: Store) -> None:
    outputs: list[Output] = [
        *(an_incident(1), an_alert(1), a_decision(1)),
        *(an_incident(2), an_alert(2), an_incident(2, "updated", findings=4)),
    ]
    expected = {"alerts": 2, "incidents": 2, "incident_updates": 3, "decisions": 1}
    store.write(outputs)
    assert store.counts() == expected
    before = [rows(store, table) for table in (ALERTS, INCIDENTS, INCIDENT_UPDATES, DECISIONS)]
    store.write(outputs)
    store.write([*outputs, *outputs])
    for output in outputs:
        store.write([output])
    assert store.counts() == expected
    after = [rows(store, table) for table in (ALERTS, INCIDENTS, INCIDENT_UPDATES, DECISIONS)]
    assert after == before


def test_every_field_of_an_alert_comes_back(store: Store, store_clock: Clock) -> None:
    alert = a_full_alert()
    store.write([alert])
    (row,) = rows(store, ALERTS)
    assert row.pop("record") == plain(alert)
    assert (row.pop("members"), row.pop("anomaly_rank")) == (9, 0.99997)
    assert row.pop("stored_ms") == store_clock.now_ms
    assert row == {name: getattr(alert, name) for name in row}
    store.write([an_alert(2)])
    bare = rows(store, ALERTS)[1]
    assert (bare["members"], bare["anomaly_rank"]) == (None, None)


def test_every_field_of_incidents_and_decisions_is_a_column(
    store: Store, store_clock: Clock
) -> None:
    incident, decision = an_incident(1, "updated", findings=7), a_decision(1)
    store.write([incident, decision])
    (row,) = rows(store, INCIDENTS)
    assert row == {**plain(incident), "stored_ms": store_clock.now_ms}
    assert set(row) - {"stored_ms"} == set(IncidentUpdate.__slots__)
    (row,) = rows(store, DECISIONS)
    assert row == {**plain(decision), "stored_ms": store_clock.now_ms}
    assert set(row) - {"stored_ms"} == set(Decision.__slots__)


_UPDATES: list[tuple[IncidentState, int]] = [
    ("opened", 1),
    ("updated", 3),
    ("updated", 9),
    ("closed", 9),
]


def test_an_incident_is_as_its_newest_update_says_in_whatever_order_they_come(
    store: Store,
) -> None:
    """Every order of its updates, in one batch and one by one."""
    orders = list(itertools.permutations(_UPDATES))
    for number, order in enumerate(orders):
        for state, findings in order:
            store.write([an_incident(number, state, findings=findings)])
        store.write([an_incident(number + 100, state, findings=n) for state, n in order])
    stored = rows(store, INCIDENTS)
    assert len(stored) == 2 * len(orders)
    assert {(row["state"], row["findings"]) for row in stored} == {("closed", 9)}
    assert count(store, INCIDENT_UPDATES) == len(stored) * len(_UPDATES)


def test_an_open_incident_goes_on_and_never_back(store: Store) -> None:
    for state, findings in (("updated", 3), ("opened", 1), ("updated", 5), ("updated", 3)):
        store.write([an_incident(1, state, findings=findings)])  # type: ignore[arg-type]
    (row,) = rows(store, INCIDENTS)
    assert (row["state"], row["findings"]) == ("updated", 5)


def test_writers_at_once_lose_nothing_and_double_nothing(store_url: str, store: Store) -> None:
    """As when partitions change hands: two write the same, in other orders and cuts."""
    outputs: list[Output] = []
    for number in range(300):
        outputs += [an_incident(number), an_alert(number), a_decision(number)]
        outputs.append(an_incident(number, "closed", findings=2))
    errors: list[BaseException] = []

    def write(seed: int) -> None:
        choice = random.Random(seed)
        mixed = choice.sample(outputs, len(outputs))
        try:
            with closing(Store(store_url)) as own:
                while mixed:
                    size = choice.randint(1, 200)
                    batch, mixed = mixed[:size], mixed[size:]
                    own.write(batch)
        except BaseException as error:  # noqa: BLE001 - it is raised in the main thread
            errors.append(error)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    expected = {"alerts": 300, "incidents": 300, "incident_updates": 600, "decisions": 300}
    assert store.counts() == expected
    assert {row["state"] for row in rows(store, INCIDENTS)} == {"closed"}


def test_what_a_platform_takes_for_a_user_id_does_not_stop_the_store(store: Store) -> None:
    strange = ["a\0b", "é" * 5_000, "'; DROP TABLE alerts; --", "\\u0000", '"{}[]', "\u202e\ud7ff"]
    store.write([an_alert(number, key=key) for number, key in enumerate(strange)])
    expected = [key.replace("\0", "\N{REPLACEMENT CHARACTER}") for key in strange]
    assert [row["key"] for row in rows(store, ALERTS)] == expected
    assert [row["record"]["key"] for row in rows(store, ALERTS)] == expected


def test_numbers_that_are_none_are_stored_as_nothing(store: Store) -> None:
    alert = a_full_alert()
    values = {name: getattr(alert, name) for name in type(alert).__slots__}
    odd = {"nan": float("nan"), "endless": float("inf"), "tiny": 5e-324, "large": 1.5e15}
    store.write([type(alert)(**{**values, "context": odd})])
    (row,) = rows(store, ALERTS)
    expected = {"nan": None, "endless": None, "tiny": 5e-324, "large": 1.5e15}
    assert row["record"]["context"] == expected


def test_what_the_database_refuses_is_left_out_and_told(store: Store) -> None:
    """A number that no column holds: of a batch of eight, seven are stored."""
    entries = [
        read_entry("decision", msgspec.Raw(msgspec.json.encode(a_decision(number))))
        for number in range(8)
    ]
    bad = plain(a_decision(3)) | {"kind": None}
    entries[3] = msgspec.structs.replace(entries[3], data=msgspec.Raw(msgspec.json.encode(bad)))
    with pytest.raises(StoreRejectedError, match="kind"):
        store.write_entries(entries)
    assert store.counts()["decisions"] == 0, "all or nothing"
    written = store.write_each(entries)
    assert [one.entry for one in written.rejected] == [entries[3]]
    assert "kind" in written.rejected[0].reason
    assert store.counts()["decisions"] == written.rows["decisions"] == 7


def test_what_another_version_added_to_an_alert_is_kept(store: Store) -> None:
    record = plain(an_alert(1)) | {"added_later": {"a": [1, 2]}}
    del record["suppressed"]
    store.write_entries([read_entry("alert", msgspec.Raw(msgspec.json.encode(record)))])
    (row,) = rows(store, ALERTS)
    assert row["record"] == record


def test_what_is_too_old_is_removed_and_the_rest_stays(store: Store, store_clock: Clock) -> None:
    people = People(store.engine, store_clock)
    for number in (1, 2):
        store.write([an_incident(number), an_alert(number), a_decision(number)])
        people.acknowledge(f"inc_{number}", "ann")
        people.note(f"inc_{number}", "odd", "ann")
        people.judge(f"inc_{number}", "abuse", "", "ann")
    people.snooze("inc_1", 1_000, "", "ann")
    store_clock.now_ms += 9 * _DAY_MS
    store.write([an_incident(2, "updated", findings=3), an_alert(3), an_incident(4)])
    removed = store.prune_days(7)
    assert removed == {
        "alerts": 2,
        "incidents": 1,
        "incident_updates": 2,
        "decisions": 2,
        "acknowledgements": 1,
        "notes": 1,
        "snoozes": 1,
    }
    assert store.prune_days(7) == dict.fromkeys(removed, 0)
    assert [row["incident_id"] for row in rows(store, INCIDENTS)] == ["inc_2", "inc_4"]
    assert [row["incident_id"] for row in rows(store, ACKNOWLEDGEMENTS)] == ["inc_2"]
    assert [row["incident_id"] for row in rows(store, NOTES)] == ["inc_2"]
    assert count(store, VERDICTS) == 2
    assert verify_audit(store.engine).count == count(store, AUDIT) == 7


def test_more_than_one_round_of_old_rows_is_removed(
    store: Store, store_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.store.store._PRUNED_AT_ONCE", 4)
    store.write([an_alert(number) for number in range(10)])
    store_clock.now_ms += _DAY_MS
    store.write([an_alert(10)])
    assert store.prune(store_clock.now_ms)["alerts"] == 10
    assert [row["alert_id"] for row in rows(store, ALERTS)] == ["alr_10"]


# -- the tables


def test_an_empty_database_gets_the_tables_that_the_code_works_with(store_url: str) -> None:
    engine = open_engine(store_url)
    with pytest.raises(StoreSchemaError, match=r"no tables yet.*floodwatch store migrate"):
        check_schema(engine)
    before, now = migrate(engine)
    assert before is None
    assert migrate(engine) == (now, now)
    check_schema(engine)
    with reading(engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_two_that_migrate_at_once_wait_for_each_other(store_url: str) -> None:
    found: list[object] = []

    def open_and_write(number: int) -> None:
        try:
            with closing(Store(store_url)) as store:
                store.write([an_alert(number)])
                found.append(number)
        except BaseException as error:  # noqa: BLE001 - it is compared below
            found.append(error)

    threads = [threading.Thread(target=open_and_write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, found)) == ["0", "1", "2", "3"]
    with closing(Store(store_url)) as store:
        assert store.counts()["alerts"] == 4


def test_a_new_file_may_be_opened_by_many_at_the_same_moment(tmp_path: Path) -> None:
    # Without a second try one connection in a hundred is refused here.
    def opened(number: int) -> str:
        engine = open_engine(f"sqlite:///{tmp_path / str(number // 6)}.db")
        with reading(engine) as connection:
            mode: str = connection.execute(text("PRAGMA journal_mode")).scalar_one()
        engine.dispose()
        return mode

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(opened, range(1_800))) == {"wal"}


def test_tables_of_a_newer_version_are_refused(store_url: str) -> None:
    with closing(Store(store_url)) as store, writing(store.engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreSchemaError, match="version 9999, newer than this program knows"):
        Store(store_url)
    engine = open_engine(store_url)
    with pytest.raises(StoreSchemaError, match="upgrade Floodwatch"):
        check_schema(engine)
    engine.dispose()


def test_tables_that_are_not_ours_are_refused_and_stay(store_url: str) -> None:
    engine = open_engine(store_url)
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE alerts (mine INTEGER)"))
    with pytest.raises(StoreSchemaError, match=r"has tables \(alerts\) but no version"):
        Store(store_url)
    assert inspect(engine).get_table_names() == ["alerts"]
    engine.dispose()
