"""One Apache Kafka node that tests can start, stop, kill and start again on its data."""

from __future__ import annotations

import atexit
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.kafka.jars import kafka_jars
from tests.kafka.ports import free_port
from tests.kafka.process import die_with_parent
from tests.kafka.properties import server_properties

__all__ = ["BrokerError", "ExistingBroker", "KafkaBroker"]

_START_DEADLINE_S: Final = 60.0
_STOP_DEADLINE_S: Final = 30.0
_POLL_S: Final = 0.05
_READY_LINE: Final = "Kafka Server started"
_ERROR_LINES: Final = 30


class BrokerError(Exception):
    """The broker did not do what it was told; the message ends with its last log lines."""


class ExistingBroker:
    """A broker that somebody else runs: usable, but not ours to stop."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap


class KafkaBroker:
    """A broker of our own, on the loopback. Use as a context manager or call ``close``.

    ``folder`` keeps data, configuration and log; without it a temporary folder is used and
    removed at the end. ``port`` is the clients' port; without it a free one is taken. Both stay
    the same over every ``stop``, ``kill`` and ``start``. ``heap_mb`` bounds Java's heap.
    """

    def __init__(
        self, *, folder: Path | None = None, port: int | None = None, heap_mb: int = 512
    ) -> None:
        self._temporary = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="floodwatch-kafka-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        self._log = self._folder / "broker.log"
        self._heap_mb = heap_mb
        self._process: subprocess.Popen[bytes] | None = None
        self._port = port or free_port()
        self._controller_port = free_port()
        atexit.register(self.close)

    @property
    def bootstrap(self) -> str:
        """The address for clients, ``127.0.0.1:port``."""
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The process id of the running broker. Raises BrokerError if it does not run."""
        if self._process is None:
            raise BrokerError("the broker is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, on the data of before if there is any, and wait until clients are served."""
        if self.running:
            raise BrokerError("the broker is already running")
        if _in_use(self._port):
            raise BrokerError(f"port {self._port} is taken by another process; choose another")
        properties = self._folder / "server.properties"
        data = self._folder / "data"
        properties.write_text(server_properties(data, self._port, self._controller_port))
        if not (data / "meta.properties").exists():
            self._format(properties)
        log_start = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(properties)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A Ctrl-C in the terminal is for us: we stop the broker in order.
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        self._wait_until_ready(log_start)

    def wait(self) -> None:
        """Block for as long as the broker runs. Raises BrokerError when it has ended by itself."""
        if self._process is not None:
            self._process.wait()
        raise self._failure("the broker ended")

    def stop(self) -> None:
        """Shut down in order (SIGTERM) and wait for the end. Data and port are kept."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill at once (SIGKILL), as a power cut would. Data and port are kept."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """End the process if it runs and remove the temporary folder. May be called again."""
        atexit.unregister(self.close)
        if self.running:
            # Nobody will read the data of a temporary folder again: no need for order.
            self._end(signal.SIGKILL if self._temporary else signal.SIGTERM)
        if self._temporary:
            shutil.rmtree(self._folder, ignore_errors=True)

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

    def _format(self, properties: Path) -> None:
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        result = subprocess.run(
            self._java(
                "kafka.tools.StorageTool",
                "format",
                f"--cluster-id={cluster_id}",  # one that starts with "-" is not an option
                "-c",
                str(properties),
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_START_DEADLINE_S,
            check=False,
        )
        if result.returncode != 0:
            raise BrokerError(f"formatting the data folder failed:\n{result.stdout[-4000:]}")

    def _java(self, main_class: str, *arguments: str) -> list[str]:
        java = shutil.which("java")
        if java is None:
            raise BrokerError(
                "Java (java) is not installed; Apache Kafka needs version 17 or newer"
            )
        options = [
            f"-Xmx{self._heap_mb}m",
            "-XX:+ExitOnOutOfMemoryError",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
        ]
        return [java, *options, "-cp", f"{kafka_jars()}/*", main_class, *arguments]

    def _wait_until_ready(self, log_start: int) -> None:
        deadline = time.monotonic() + _START_DEADLINE_S
        while _READY_LINE not in self._log_since(log_start):
            if not self.running:
                raise self._failure("the broker ended while starting")
            if time.monotonic() > deadline:
                failure = self._failure(f"the broker was not ready after {_START_DEADLINE_S:.0f} s")
                self.kill()
                raise failure
            time.sleep(_POLL_S)

    def _end(self, with_signal: signal.Signals) -> None:
        process = self._process
        if process is None:
            raise BrokerError("the broker is not running")
        process.send_signal(with_signal)
        try:
            process.wait(_STOP_DEADLINE_S)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise self._failure(
                f"no end {_STOP_DEADLINE_S:.0f} s after {with_signal.name}"
            ) from error
        finally:
            self._process = None

    def _log_since(self, start: int) -> str:
        with self._log.open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")

    def _failure(self, what: str) -> BrokerError:
        lines = self._log_since(0).splitlines()[-_ERROR_LINES:]
        return BrokerError("\n".join([f"{what}; the end of {self._log}:", *lines]))


def _in_use(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
