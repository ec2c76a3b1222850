"""One PostgreSQL server that tests can start, stop, kill and start again on its data."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from tests.servers import Server, ServerError

__all__ = ["PASSWORD", "USER", "PostgresServer", "binaries"]

USER: Final = "floodwatch"
PASSWORD: Final = "only for tests"

_DEBIAN: Final = Path("/usr/lib/postgresql")
_INITDB_DEADLINE_S: Final = 60.0
# What is committed is the system's, so that it outlives the server, if not the machine.
_FAST: Final = ("fsync=off", "full_page_writes=off")


def binaries() -> Path | None:
    """The folder of ``initdb`` and ``postgres``: on the PATH, else Debian's newest."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


class PostgresServer(Server):
    """A server of our own, on the loopback. Use as a context manager or call ``close``.

    Unless it is ``durable``, it does not wait for the disk. It refuses to run as root: then it runs
    as ``postgres`` or ``nobody``.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # Sends clients away.
    kill_signal = signal.SIGQUIT  # Without a checkpoint.

    def __init__(self, *, durable: bool = False) -> None:
        super().__init__()
        self._settings = () if durable else _FAST
        self._owner = owner = _owner()
        if owner is not None:
            self._options = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        self._data = self.folder / "data"
        self._numbers = itertools.count(1)

    def command(self) -> list[str]:
        """Its command line; makes the data where there are none."""
        if not self._data.exists():
            self._initialise()
        options = (
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            "unix_socket_directories=",
            "max_connections=40",
            "shared_buffers=64MB",
            *self._settings,
        )
        settings = [part for option in options for part in ("-c", option)]
        return [_program("postgres"), "-D", str(self._data), *settings]

    def ready(self) -> bool:
        """Whether clients are served."""
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """A connection that commits each statement."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )

    def new_database(self) -> str:
        """An empty database; returns its name."""
        name = f"test_{next(self._numbers)}"
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name

    def url(self, database: str, *, password: bool = True) -> str:
        """The SQLAlchemy URL of a database."""
        secret = f":{PASSWORD.replace(' ', '%20')}" if password else ""
        return f"postgresql+psycopg://{USER}{secret}@127.0.0.1:{self.port}/{database}"

    def _initialise(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        if self._owner is not None:
            for path in (self.folder, secret):
                os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
        command = [
            *(_program("initdb"), "-D", str(self._data), "-U", USER, f"--pwfile={secret}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"),
        ]
        with self._log.open("wb") as log:
            if self._spawn(command, log).wait(_INITDB_DEADLINE_S) != 0:
                raise self._failure("initdb failed")


def _program(name: str) -> str:
    folder = binaries()
    if folder is None:
        raise ServerError("PostgreSQL (initdb, postgres) is not installed")
    return str(folder / name)


def _owner() -> pwd.struct_passwd | None:
    """Who runs the server; None for ourselves."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]
