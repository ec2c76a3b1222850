"""A server process that is ready when its ``/-/ready`` says so."""

from __future__ import annotations

import atexit
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.kafka.ports import free_port
from tests.kafka.process import die_with_parent

__all__ = ["ServerError", "SpawnedServer"]

_DEADLINE_S: Final = 30.0
_POLL_S: Final = 0.02
_ERROR_LINES: Final = 20


class ServerError(Exception):
    """The server did not do what it was told; the message ends with its last log lines."""


class SpawnedServer(ABC):
    """One of Prometheus' servers on a free port of the loopback, in a folder of its own.

    Use as a context manager or call ``close``. A subclass says how it is called.
    """

    def __init__(self, program: str) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"floodwatch-{program}-"))
        self._program = program
        self._log = self.folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    @abstractmethod
    def arguments(self) -> list[str]:
        """What it is called with."""

    def start(self) -> None:
        """Start, and wait until it is ready. Raises ServerError where it is not in time."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        deadline = time.monotonic() + _DEADLINE_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise self._failure("it did not become ready")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Shut down in order and wait for the end; data, port and folder are kept."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """Stop if it runs, and remove the folder. May be called again."""
        atexit.unregister(self.close)
        self.stop()
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

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False

    def _failure(self, what: str) -> ServerError:
        lines = self._log.read_text(errors="replace").splitlines()[-_ERROR_LINES:]
        return ServerError("\n".join([f"{self._program}: {what}; the end of its log:", *lines]))
