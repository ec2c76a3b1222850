"""One server that tests can start, stop, kill and start again on its data."""

from __future__ import annotations

import atexit
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Final, Self

from tests.servers.ports import free_port
from tests.servers.process import die_with_parent

__all__ = ["Server", "ServerError"]

_DEADLINE_S: Final = 60.0
_POLL_S: Final = 0.02
_ERROR_LINES: Final = 30


class ServerError(Exception):
    """The server did not do what it was told; the message ends with its last log lines."""


class Server(ABC):
    """A process on a free port of the loopback, in a folder of its own.

    Use as a context manager or call ``close``. Folder and port stay the same over every ``stop``,
    ``kill`` and ``start``. A subclass says what it is called with and when it is ready.

    ``folder`` and ``port`` can be given; a folder that is not is temporary, and removed at the end.
    """

    name: ClassVar[str]
    stop_signal: ClassVar = signal.SIGTERM
    kill_signal: ClassVar = signal.SIGKILL

    def __init__(self, folder: Path | None = None, port: int | None = None) -> None:
        self._temporary = folder is None
        made = folder or Path(tempfile.mkdtemp(prefix=f"floodwatch-{self.name}-"))
        self.folder = made.absolute()  # It runs in there.
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self._log = self.folder / "server.log"
        self._started_at = 0
        self._options: dict[str, Any] = {}  # More for Popen.
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    @property
    def pid(self) -> int:
        """The process id of the running server. Raises ServerError if it does not run."""
        if self._process is None:
            raise ServerError(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @abstractmethod
    def command(self) -> list[str]:
        """What it is called with; makes what it needs for that. Raises ServerError."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether clients are served."""

    def start(self) -> None:
        """Start, on the data of before if there is any, and wait until clients are served."""
        if self.running:
            raise ServerError(f"{self.name} is already running")
        command = self.command()
        with self._log.open("ab") as log:
            self._started_at = log.tell()
            self._process = self._spawn(command, log)
        deadline = time.monotonic() + _DEADLINE_S
        while not self.ready():
            if not self.running:
                raise self._failure("it ended while starting")
            if time.monotonic() > deadline:
                failure = self._failure(f"it was not ready after {_DEADLINE_S:.0f} s")
                self.kill()
                raise failure
            time.sleep(_POLL_S)

    def wait(self) -> None:
        """Block for as long as it runs. Raises ServerError when it has ended by itself."""
        if self._process is not None:
            self._process.wait()
        raise self._failure("it ended")

    def stop(self) -> None:
        """Shut down in order and wait for the end."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """End at once, as a power cut would."""
        self._end(self.kill_signal)

    def close(self) -> None:
        """End the process if it runs and remove a temporary folder. May be called again."""
        atexit.unregister(self.close)
        if self.running:
            # Nobody will read the data of a temporary folder again: no need for order.
            self._end(self.kill_signal if self._temporary else self.stop_signal)
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

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

    def _spawn(self, command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # A Ctrl-C in the terminal is for us: we stop the server in order.
            start_new_session=True,
            preexec_fn=die_with_parent(),
            **self._options,
        )

    def _end(self, with_signal: signal.Signals) -> None:
        process = self._process
        if process is None:
            raise ServerError(f"{self.name} is not running")
        process.send_signal(with_signal)
        try:
            process.wait(_DEADLINE_S)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            what = f"no end {_DEADLINE_S:.0f} s after {with_signal.name}"
            raise self._failure(what) from error
        finally:
            self._process = None

    def _said(self) -> str:
        """What it said since its last start."""
        with self._log.open("rb") as log:
            log.seek(self._started_at)
            return log.read().decode(errors="replace")

    def _failure(self, what: str) -> ServerError:
        lines = self._said().splitlines()[-_ERROR_LINES:] if self._log.exists() else []
        return ServerError("\n".join([f"{self.name}: {what}; the end of {self._log}:", *lines]))
