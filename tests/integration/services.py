"""``floodwatch worker`` and ``floodwatch store`` as processes, the way one runs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import yaml

from monitor.config import Settings
from tests.integration.kafka_harness import Installation
from tests.servers import free_port
from tests.support.topics import topic_settings
from tests.support.waiting import wait_until

__all__ = ["Service", "write_settings"]

_STOP_DEADLINE_S: Final = 30.0


def write_settings(place: Installation, folder: Path, **sections: dict[str, Any]) -> Path:
    """A configuration file of services at ``place``, with more ``sections``."""
    document = {
        "kafka": {
            "brokers": place.bootstrap,
            "group": place.group,
            "topics": topic_settings(place.names),
            "checkpoint_interval_s": 1.0,
        },
        **sections,
    }
    assert document.keys() <= Settings.model_fields.keys()
    path = folder / "floodwatch.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


class Service:
    """A command that serves ``/readyz``; ended with the block, and can be killed and started again.

    Its port stays the same.
    """

    def __init__(self, command: str, settings: Path) -> None:
        self.command = command
        self.port = free_port()
        self._call = [sys.executable, "-m", "monitor", command, "--config", str(settings)]
        self._log = settings.with_name(f"{command}.log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """``host:port``, as Prometheus has it."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the process; ``wait_until_ready`` waits for it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._call, "--metrics-port", str(self.port)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
            )

    def wait_until_ready(self) -> None:
        """Return when it says that it is; fail with its log if it is not in time."""
        try:
            wait_until(self._ready, f"{self.command} is ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._log.read_text('utf-8')[-3_000:]}") from error

    def kill(self) -> None:
        """End it at once, as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it as an operator would; does nothing where it has ended."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/readyz", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False
