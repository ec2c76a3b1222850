"""Connections to SQLite and PostgreSQL, and what their errors mean to us."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError

from monitor.store.errors import StoreError, StoreRejectedError, StoreUnavailableError

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor

__all__ = ["open_engine", "reading", "shown_url", "writing"]

_BUSY_TIMEOUT_MS: Final = 10_000
_RETRY_S: Final = 0.01
_CONNECTIONS_MAX: Final = 4
_WRITES: Final = "floodwatch_writes"
_POSTGRESQL: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    # A server that vanished is noticed in seconds, not when TCP gives up.
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "floodwatch",
    # What is prepared on one connection is unknown behind a pooler; our batches gain nothing.
    "prepare_threshold": None,
}


def open_engine(url: str, *, password_file: Path | None = None, create: bool = True) -> Engine:
    """An engine for ``sqlite:///...`` or ``postgresql+psycopg://...``; does not connect yet.

    The password of PostgreSQL is what the file holds (without spaces around), else the one in the
    URL, else what libpq finds (``PGPASSWORD``, ``PGPASSFILE``). Without ``create`` a SQLite file
    must be there.

    Raises:
        StoreError: the URL or the file cannot be used.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError(f"store: not a database URL: {url.partition(':')[0]}:...") from None
    try:
        if parsed.get_backend_name() == "sqlite":
            return _sqlite(parsed, create=create)
        if password_file is not None:
            password = password_file.read_text(encoding="utf-8").strip()
            parsed = parsed.set(password=password)
        return create_engine(
            parsed,
            connect_args={k: v for k, v in _POSTGRESQL.items() if k not in parsed.query},
            pool_size=_CONNECTIONS_MAX,
            max_overflow=0,
            pool_pre_ping=True,
        )
    except (SQLAlchemyError, OSError) as error:
        raise StoreError(f"store {shown_url(parsed)}: cannot be opened: {error}") from error


def shown_url(url: URL) -> str:
    """The URL without its password."""
    return url.render_as_string(hide_password=True)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that reads. Raises as ``writing`` does."""
    with _told(engine, "cannot be read"), engine.begin() as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: all of it or nothing.

    On SQLite it waits for other writers at its beginning, where waiting cannot fail half-way.

    Raises:
        StoreUnavailableError: the database does not answer, or lacks tables, space or rights.
        StoreRejectedError: it refuses a value.
    """
    with (
        _told(engine, "cannot write"),
        engine.execution_options(**{_WRITES: True}).begin() as connection,
    ):
        yield connection


@contextmanager
def _told(engine: Engine, what: str) -> Iterator[None]:
    try:
        yield
    except (DataError, IntegrityError) as error:
        raise StoreRejectedError(f"store {shown_url(engine.url)}: {_cause(error)}") from error
    except SQLAlchemyError as error:
        raise StoreUnavailableError(
            f"store {shown_url(engine.url)}: {what}: {_cause(error)}"
        ) from error


def _sqlite(url: URL, *, create: bool) -> Engine:
    if url.database and url.database != ":memory:":
        path = Path(url.database)
        if not create and not path.exists():
            raise StoreError(f"store {shown_url(url)}: there is no such file")
        path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: DBAPIConnection, _record: object) -> None:
    """Readers do not wait for the writer, and a commit survives a crash of the process."""
    # The driver would begin transactions by itself, but not before it changes the schema.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
    _use_write_ahead_log(cursor)
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _use_write_ahead_log(cursor: DBAPICursor) -> None:
    """Switch a new file over, and try again while somebody else does.

    Whatever the timeout, SQLite refuses one of two at once: each holds what the other needs.
    """
    until = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > until:
                raise
            time.sleep(_RETRY_S)
        else:
            return


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _cause(error: SQLAlchemyError) -> str:
    """What the driver said, in one line."""
    said = str(error.orig if isinstance(error, DBAPIError) else error)
    return " ".join(said.split()) or type(error).__name__
