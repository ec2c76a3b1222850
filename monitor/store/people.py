"""What people do to an incident: acknowledge, judge, snooze, note. Each with a row of the audit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from sqlalchemy import Connection, Row, Table, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from detectors.incidents import stable_id
from monitor.store.audit import append_audit, lock_audit
from monitor.store.engine import writing
from monitor.store.errors import UnknownIncidentError
from monitor.store.store import wall_clock_ms
from monitor.store.tables import ACKNOWLEDGEMENTS, INCIDENTS, NOTES, SNOOZES, VERDICTS

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["Acknowledged", "People", "StoredVerdict", "Verdict"]

Verdict: TypeAlias = Literal["abuse", "benign", "unclear"]
"""What the wire's ``feedback.verdict`` says."""

_INCIDENT: Final = select(
    INCIDENTS.c.incident_id, INCIDENTS.c.rule_id, INCIDENTS.c.key_space, INCIDENTS.c.key
)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Who is on it, since when; ``new`` unless somebody was before."""

    author: str
    time_ms: int
    new: bool


@dataclass(frozen=True, slots=True)
class StoredVerdict:
    """The verdict that counts. ``new`` unless it was given before, by the same author."""

    verdict_id: str
    incident_id: str
    verdict: str
    reason: str
    author: str
    time_ms: int
    published_ms: int | None
    new: bool


class People:
    """What the store keeps of people. Incidents are named by their whole id.

    Methods raise UnknownIncidentError where there is no such incident, StoreUnavailableError where
    the database does not answer.
    """

    def __init__(self, engine: Engine, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self._engine = engine
        self._now_ms = now_ms

    def acknowledge(self, incident_id: str, author: str) -> Acknowledged:
        """Say that ``author`` is on it. Whoever was first stays."""
        with self._acting() as connection:
            _incident(connection, incident_id)
            known = connection.execute(
                select(ACKNOWLEDGEMENTS).where(ACKNOWLEDGEMENTS.c.incident_id == incident_id)
            ).one_or_none()
            if known is not None:
                return Acknowledged(known.author, known.time_ms, new=False)
            now_ms = self._now_ms()
            row = {"incident_id": incident_id, "author": author, "time_ms": now_ms}
            connection.execute(insert(ACKNOWLEDGEMENTS), row)
            self._audit(connection, "ack", row, {})
        return Acknowledged(author, now_ms, new=True)

    def judge(self, incident_id: str, verdict: Verdict, reason: str, author: str) -> StoredVerdict:
        """Give a verdict; the newest counts. The same one again, by the same author, is one.

        Its id follows from what it says and from the verdict before it.
        """
        of_incident = select(VERDICTS).where(VERDICTS.c.incident_id == incident_id)
        newest = of_incident.order_by(VERDICTS.c.time_ms.desc(), VERDICTS.c.verdict_id).limit(1)
        with self._acting() as connection:
            incident = _incident(connection, incident_id)
            known = connection.execute(newest).one_or_none()
            if known is not None and (known.verdict, known.author) == (verdict, author):
                return _stored(known, new=False)
            before_id, before_ms = ("", -1) if known is None else (known.verdict_id, known.time_ms)
            row = {
                "verdict_id": stable_id("vrd", incident_id, before_id, verdict, author),
                "incident_id": incident_id,
                "rule_id": incident.rule_id,
                "verdict": verdict,
                "reason": reason,
                "author": author,
                # The newest counts, on whichever machine's clock.
                "time_ms": max(self._now_ms(), before_ms + 1),
                "published_ms": None,
            }
            connection.execute(insert(VERDICTS), row)
            self._audit(connection, "verdict", row, {"verdict": verdict, "reason": reason})
        return StoredVerdict(
            **{name: value for name, value in row.items() if name != "rule_id"}, new=True
        )

    def published(self, verdict_id: str) -> None:
        """Note that the detection was told of a verdict."""
        told = update(VERDICTS).where(VERDICTS.c.verdict_id == verdict_id)
        with writing(self._engine) as connection:
            connection.execute(told.values(published_ms=self._now_ms()))

    def snooze(self, incident_id: str, for_ms: int, reason: str, author: str) -> int:
        """Let incidents of this rule and key wake nobody; until when (ms). 0 ms ends it."""
        with self._acting() as connection:
            incident = _incident(connection, incident_id)
            now_ms = self._now_ms()
            row = {
                "rule_id": incident.rule_id,
                "key_space": incident.key_space,
                "key": incident.key,
                "until_ms": now_ms + for_ms,
                "incident_id": incident_id,
                "reason": reason,
                "author": author,
                "time_ms": now_ms,
            }
            _put(connection, SNOOZES, row)
            self._audit(connection, "snooze", row, {"until_ms": row["until_ms"], "reason": reason})
        return now_ms + for_ms

    def note(self, incident_id: str, text: str, author: str) -> str:
        """Write something at an incident; returns the note's id."""
        with self._acting() as connection:
            _incident(connection, incident_id)
            now_ms = self._now_ms()
            note_id = stable_id("note", incident_id, author, now_ms, text)
            row = {
                "note_id": note_id,
                "incident_id": incident_id,
                "text": text,
                "author": author,
                "time_ms": now_ms,
            }
            connection.execute(insert(NOTES), row)
            self._audit(connection, "note", row, {"text": text})
        return note_id

    @contextmanager
    def _acting(self) -> Iterator[Connection]:
        """A transaction of one who acts: one at a time, so that nobody acts on what has passed."""
        with writing(self._engine) as connection:
            lock_audit(connection)
            yield connection

    def _audit(
        self, connection: Connection, action: str, row: dict[str, Any], content: dict[str, Any]
    ) -> None:
        append_audit(
            connection,
            time_ms=row["time_ms"],
            author=row["author"],
            action=action,
            incident_id=row["incident_id"],
            content=content,
        )


def _incident(connection: Connection, incident_id: str) -> Row[str, str, str, str]:
    found = connection.execute(
        _INCIDENT.where(INCIDENTS.c.incident_id == incident_id)
    ).one_or_none()
    if found is None:
        raise UnknownIncidentError(f"there is no incident {incident_id!r}")
    return found


def _stored(row: Row[Any], *, new: bool) -> StoredVerdict:
    return StoredVerdict(
        row.verdict_id,
        row.incident_id,
        row.verdict,
        row.reason,
        row.author,
        row.time_ms,
        row.published_ms,
        new=new,
    )


def _put(connection: Connection, table: Table, row: dict[str, Any]) -> None:
    """Insert, or replace the row of the same key."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(table).values(row)
    keys = list(table.primary_key.columns)
    changes = {c.name: statement.excluded[c.name] for c in table.columns if not c.primary_key}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changes))
