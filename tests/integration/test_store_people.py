"""What people do to incidents and ask of them, over both databases; the audit of it."""

from __future__ import annotations

import threading

import msgspec
import pytest
from sqlalchemy import text

from monitor.store.audit import verify_audit
from monitor.store.engine import writing
from monitor.store.errors import (
    AuditError,
    UnknownIncidentError,
)
from monitor.store.people import People
from monitor.store.reading import IncidentFilter, Incidents
from monitor.store.store import Store
from monitor.store.tables import (
    AUDIT,
    SNOOZES,
)
from tests.support.outputs import TIME_MS, a_decision, an_incident
from tests.support.stores import Clock, a_full_alert, count, plain, rows


def test_the_first_to_acknowledge_stays(store: Store, store_clock: Clock) -> None:
    people = People(store.engine, store_clock)
    store.write([an_incident(1)])
    first = people.acknowledge("inc_1", "ann")
    store_clock.now_ms += 60_000
    second = people.acknowledge("inc_1", "bob")
    assert (first.author, first.new) == ("ann", True)
    assert (second.author, second.time_ms, second.new) == ("ann", TIME_MS, False)
    assert count(store, AUDIT) == 1


def test_the_newest_verdict_counts_and_the_same_again_is_one(
    store: Store, store_clock: Clock
) -> None:
    people, incidents = People(store.engine, store_clock), Incidents(store.engine, store_clock)
    store.write([an_incident(1)])
    given = people.judge("inc_1", "benign", "a class", "ann")
    again = people.judge("inc_1", "benign", "said twice", "ann")
    assert given.new
    assert not again.new
    assert (again.verdict_id, again.reason) == (given.verdict_id, "a class")
    ids = {given.verdict_id}
    for verdict, author in (("abuse", "bob"), ("benign", "ann"), ("abuse", "bob")):
        # At the same moment of the clock: the order of giving counts all the same.
        changed = people.judge("inc_1", verdict, "", author)  # type: ignore[arg-type]
        assert changed.new
        ids.add(changed.verdict_id)
    assert len(ids) == 4
    assert incidents.page(IncidentFilter(), 5).incidents[0]["verdict"] == "abuse"
    people.published(given.verdict_id)
    dossier = incidents.dossier("inc_1")
    assert [one["verdict"] for one in dossier.verdicts] == ["benign", "abuse", "benign", "abuse"]
    assert [one["published_ms"] for one in dossier.verdicts] == [
        store_clock.now_ms,
        None,
        None,
        None,
    ]


def test_a_snooze_holds_for_the_rule_and_key_until_it_ends(
    store: Store, store_clock: Clock
) -> None:
    people, incidents = People(store.engine, store_clock), Incidents(store.engine, store_clock)
    store.write([an_incident(1), an_incident(2), an_incident(3, key="user-3")])
    until_ms = people.snooze("inc_1", 3_600_000, "known", "ann")
    assert until_ms == store_clock.now_ms + 3_600_000
    page = incidents.page(IncidentFilter(open_only=True), 10)
    assert [one["incident_id"] for one in page.incidents] == ["inc_3"]
    assert (page.total, page.snoozed) == (1, 2)
    everything = incidents.page(IncidentFilter(), 10)
    assert {one["snoozed_until_ms"] for one in everything.incidents} == {until_ms, None}
    assert everything.total == 3
    people.snooze("inc_2", 0, "", "bob")
    assert incidents.page(IncidentFilter(open_only=True), 10).total == 3
    people.snooze("inc_2", 1_000, "", "bob")
    assert incidents.page(IncidentFilter(open_only=True), 10).total == 1
    store_clock.now_ms += 1_000
    assert incidents.page(IncidentFilter(open_only=True), 10).total == 3
    assert count(store, SNOOZES) == 1
    assert count(store, AUDIT) == 3


def test_incidents_are_found_by_what_is_asked_for(store: Store, store_clock: Clock) -> None:
    incidents = Incidents(store.engine, store_clock)
    store.write(
        [
            an_incident(1, findings=10, severity="low"),
            an_incident(2, findings=20, severity="critical", key="user-2"),
            an_incident(3, "closed", findings=30, severity="medium"),
        ]
    )

    def found(limit: int = 10, **wanted: object) -> list[str]:
        page = incidents.page(IncidentFilter(**wanted), limit)  # type: ignore[arg-type]
        return [one["incident_id"].removeprefix("inc_") for one in page.incidents]

    assert found() == ["3", "2", "1"]
    assert found(limit=2) == ["3", "2"]
    assert incidents.page(IncidentFilter(), 2).total == 3
    assert found(open_only=True) == ["2", "1"]
    assert found(severity="medium") == ["3", "2"]
    assert found(key="user-2") == ["2"]
    assert found(rule_id="burst", since_ms=TIME_MS + 20_000) == ["3", "2"]
    assert found(rule_id="other") == []


def test_an_incident_is_named_by_its_id_its_beginning_or_as_the_latest(store: Store) -> None:
    incidents = Incidents(store.engine)
    with pytest.raises(UnknownIncidentError, match="there is none yet"):
        incidents.resolve("latest")
    store.write([an_incident(12), an_incident(123, findings=9), an_incident(7)])
    assert incidents.resolve("inc_12") == "inc_12"
    assert incidents.resolve("inc_123") == incidents.resolve("123") == "inc_123"
    assert incidents.resolve("7") == "inc_7"
    assert incidents.resolve("latest") == "inc_123"
    with pytest.raises(UnknownIncidentError, match="may be inc_12, inc_123; say more"):
        incidents.resolve("1")
    for name in ("9", "%", "_", "INC_12"):
        with pytest.raises(UnknownIncidentError, match="incidents list"):
            incidents.resolve(name)
    with pytest.raises(UnknownIncidentError, match="no incident 'inc_9'"):
        incidents.dossier("inc_9")
    with pytest.raises(UnknownIncidentError, match="no incident 'inc_9'"):
        People(store.engine).acknowledge("inc_9", "ann")
    assert count(store, AUDIT) == 0


def test_a_dossier_holds_all_that_is_known(store: Store, store_clock: Clock) -> None:
    people, incidents = People(store.engine, store_clock), Incidents(store.engine, store_clock)
    store.write([an_incident(1), an_incident(1, "updated", findings=4), an_incident(2)])
    store.write([a_full_alert(1), a_decision(1), a_decision(2)])
    people.acknowledge("inc_1", "ann")
    people.note("inc_1", "looks odd", "bob")
    people.snooze("inc_1", 60_000, "", "ann")
    dossier = incidents.dossier("inc_1")
    assert dossier.incident["findings"] == 4
    assert dossier.alerts == [plain(a_full_alert(1))]
    assert [one["state"] for one in dossier.history] == ["opened", "updated"]
    assert [one["decision_id"] for one in dossier.decisions] == ["dec_1"]
    assert dossier.acknowledged is not None
    assert dossier.acknowledged["author"] == "ann"
    assert [one["text"] for one in dossier.notes] == ["looks odd"]
    assert dossier.snooze is not None
    assert (dossier.alerts_stored, dossier.earlier) == (1, 1)


# -- the audit


def _act(store: Store, store_clock: Clock) -> None:
    people = People(store.engine, store_clock)
    store.write([an_incident(1)])
    people.acknowledge("inc_1", "ann")
    people.judge("inc_1", "abuse", "bought accounts", "ann")
    people.snooze("inc_1", 60_000, "at work", "bob")
    people.note("inc_1", "told the lead — “so”", "bob")


def test_everything_people_do_is_in_the_audit(store: Store, store_clock: Clock) -> None:
    _act(store, store_clock)
    written = rows(store, AUDIT)
    assert [row["action"] for row in written] == ["ack", "verdict", "snooze", "note"]
    assert [row["author"] for row in written] == ["ann", "ann", "bob", "bob"]
    assert msgspec.json.decode(written[1]["content"]) == {
        "reason": "bought accounts",
        "verdict": "abuse",
    }
    head = verify_audit(store.engine)
    assert (head.count, head.hash) == (4, written[-1]["hash"])
    assert verify_audit(store.engine, written[1]["hash"]) == head


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE audit SET content = '{}' WHERE number = 2", "row 2 is not what its hash says"),
        ("UPDATE audit SET author = 'eve' WHERE number = 4", "row 4 is not what its hash says"),
        ("DELETE FROM audit WHERE number = 3", "row 3 is missing"),
        ("DELETE FROM audit WHERE number = 1", "row 1 is missing"),
        (
            "UPDATE audit SET hash = (SELECT hash FROM audit WHERE number = 3) WHERE number = 2",
            "row 2 is not what its hash says",
        ),
    ],
)
def test_a_change_of_the_audit_is_found(
    store: Store, store_clock: Clock, change: str, said: str
) -> None:
    _act(store, store_clock)
    with writing(store.engine) as connection:
        connection.execute(text(change))
    with pytest.raises(AuditError, match=said):
        verify_audit(store.engine)


def test_an_audit_whose_end_was_cut_off_lacks_the_hash_that_was_noted(
    store: Store, store_clock: Clock
) -> None:
    _act(store, store_clock)
    noted = verify_audit(store.engine).hash
    with writing(store.engine) as connection:
        connection.execute(text("DELETE FROM audit WHERE number = 4"))
    assert verify_audit(store.engine).count == 3
    with pytest.raises(AuditError, match="its end was cut off"):
        verify_audit(store.engine, noted)


def test_people_who_act_at_once_make_one_chain(store: Store) -> None:
    store.write([an_incident(number) for number in range(4)])
    errors: list[BaseException] = []

    def act(number: int) -> None:
        try:
            for turn in range(10):
                People(store.engine).note(f"inc_{number}", f"note {turn}", "ann")
        except BaseException as error:  # noqa: BLE001 - it is raised in the main thread
            errors.append(error)

    threads = [threading.Thread(target=act, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert verify_audit(store.engine).count == 40
