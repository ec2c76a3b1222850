"""Writing outputs into a database, each exactly once however often it is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import Engine, Table, and_, create_engine, event, func, select
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from detectors.incidents import Alert, Decision, IncidentUpdate, Output
from monitor.store.tables import ALERTS, DECISIONS, INCIDENTS, METADATA

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

    from monitor.wire import DeadLetter

__all__ = ["Store", "StoreError"]

_TABLES: Final[dict[type, Table]] = {
    Alert: ALERTS,
    IncidentUpdate: INCIDENTS,
    Decision: DECISIONS,
}
_BUSY_TIMEOUT_MS: Final = 10_000


class StoreError(Exception):
    """The database cannot be opened, read or written."""


class Store:
    """Alerts, incidents and decisions in SQLite (write-ahead log). A ``Sink``.

    ``write`` is one transaction. Alerts and decisions are kept by id; an incident is kept as its
    newest update says, whatever order updates come in, since ``findings`` only grows and
    ``closed`` is final.

    Raises:
        StoreError: the database cannot be opened.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.url = parsed.render_as_string(hide_password=True)
        try:
            if parsed.database and parsed.database != ":memory:":
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self._engine: Engine = create_engine(parsed)
            event.listen(self._engine, "connect", _configure)
            METADATA.create_all(self._engine)
        except (SQLAlchemyError, OSError) as error:
            raise StoreError(f"store {self.url}: cannot be opened: {_cause(error)}") from error

    def write(self, outputs: Sequence[Output], dead_letters: Sequence[DeadLetter] = ()) -> None:
        """Insert or update in one transaction. Dead letters are not kept here.

        Raises:
            StoreError: nothing was written.
        """
        del dead_letters
        rows: dict[type, list[dict[str, Any]]] = {}
        for output in outputs:
            rows.setdefault(type(output), []).append(_row(output))
        if not rows:
            return
        try:
            with self._engine.begin() as connection:
                for kind, batch in rows.items():
                    connection.execute(_upsert(_TABLES[kind]), batch)
        except SQLAlchemyError as error:
            raise StoreError(f"store {self.url}: cannot write: {_cause(error)}") from error

    def counts(self) -> dict[str, int]:
        """How many rows each table holds."""
        with self._engine.connect() as connection:
            return {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in _TABLES.values()
            }

    def close(self) -> None:
        """Close the connections; SQLite then folds its log into the file."""
        self._engine.dispose()


def _row(output: Output) -> dict[str, Any]:
    record: dict[str, Any] = msgspec.to_builtins(output)
    columns = [column.name for column in _TABLES[type(output)].columns]
    return {name: record if name == "record" else record[name] for name in columns}


def _upsert(table: Table) -> Insert:
    statement = insert(table)
    (key,) = table.primary_key.columns
    given = statement.excluded
    changes = {column.name: given[column.name] for column in table.columns if column is not key}
    newer = None
    if table is INCIDENTS:
        newer = and_(
            INCIDENTS.c.state != "closed",
            given.findings >= INCIDENTS.c.findings,
        )
    return statement.on_conflict_do_update(index_elements=[key], set_=changes, where=newer)


def _configure(connection: DBAPIConnection, _record: object) -> None:
    """Readers do not wait for the writer, and a commit survives a crash of the process."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
    cursor.close()


def _cause(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error)
