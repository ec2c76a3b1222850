"""One PostgreSQL server that tests can start, stop, kill and start again on its data."""

from __future__ import annotations

import atexit
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psycopg
from psycopg import sql

from tests.kafka.ports import free_port
from tests.kafka.process import die_with_parent

__all__ = ["PASSWORD", "USER", "PostgresError", "PostgresServer", "binaries"]

USER: Final = "floodwatch"
PASSWORD: Final = "only for tests"

_DEBIAN: Final = Path("/usr/lib/postgresql")
_DEADLINE_S: Final = 60.0
_POLL_S: Final = 0.02
_ERROR_LINES: Final = 30
# What is committed is the system's, so that it outlives the server, if not the machine.
_FAST: Final = ("fsync=off", "full_page_writes=off")


class PostgresError(Exception):
    """The server did not do what it was told; the message ends with its last log lines."""


def binaries() -> Path | None:
    """The folder of ``initdb`` and ``postgres``: on the PATH, else Debian's newest."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


class PostgresServer:
    """A server of our own, on the loopback. Use as a context manager or call ``close``.

    Data and port stay the same over every ``stop``, ``kill`` and ``start``. Unless it is
    ``durable``, it does not wait for the disk. It refuses to run as root: then it runs as
    ``postgres`` or ``nobody``.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self.port = free_port()
        self._settings = () if durable else _FAST
        self._owner = _owner()
        self._folder = Path(tempfile.mkdtemp(prefix="floodwatch-postgres-"))
        self._data = self._folder / "data"
        self._log = self._folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        atexit.register(self.close)

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, on the data of before if there is any, and wait until clients are served."""
        if self.running:
            raise PostgresError("the server is already running")
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
        with self._log.open("ab") as log:
            self._process = self._spawn("postgres", "-D", str(self._data), *settings, log=log)
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError as error:
                if not self.running or time.monotonic() > deadline:
                    raise self._failure("the server did not start") from error
                time.sleep(_POLL_S)
            else:
                return

    def stop(self) -> None:
        """Shut down in order, sending clients away, and wait for the end."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Stop at once, without a checkpoint, as a power cut would."""
        self._end(signal.SIGQUIT)

    def close(self) -> None:
        """End the process if it runs and remove the data. May be called again."""
        atexit.unregister(self.close)
        if self.running:
            self._end(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

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

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _initialise(self) -> None:
        secret = self._folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        if self._owner is not None:
            for path in (self._folder, secret):
                os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
        with self._log.open("wb") as log:
            process = self._spawn(
                *("initdb", "-D", str(self._data), "-U", USER, f"--pwfile={secret}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"),
                log=log,
            )
            if process.wait(_DEADLINE_S) != 0:
                raise self._failure("initdb failed")

    def _spawn(self, program: str, *arguments: str, log: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401 - a file
        folder = binaries()
        if folder is None:
            raise PostgresError("PostgreSQL (initdb, postgres) is not installed")
        owner = self._owner
        return subprocess.Popen(
            [str(folder / program), *arguments],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            user=None if owner is None else owner.pw_uid,
            group=None if owner is None else owner.pw_gid,
            extra_groups=None if owner is None else [],
            # A Ctrl-C in the terminal is for us: we stop the server in order.
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )

    def _end(self, with_signal: signal.Signals) -> None:
        process = self._process
        if process is None:
            raise PostgresError("the server is not running")
        process.send_signal(with_signal)
        try:
            process.wait(_DEADLINE_S)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise self._failure(f"no end after {with_signal.name}") from error
        finally:
            self._process = None

    def _failure(self, what: str) -> PostgresError:
        lines = self._log.read_text("utf-8", "replace").splitlines()[-_ERROR_LINES:]
        return PostgresError("\n".join([f"{what}; the end of its log:", *lines]))


def _owner() -> pwd.struct_passwd | None:
    """Who runs the server; None for ourselves."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]
