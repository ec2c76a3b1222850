"""One Apache Kafka node that tests can start, stop, kill and start again on its data."""

from __future__ import annotations

import shutil
import socket
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Final

from tests.kafka.jars import kafka_jars
from tests.kafka.properties import server_properties
from tests.servers import Server, ServerError, free_port

__all__ = ["ExistingBroker", "KafkaBroker"]

_FORMAT_DEADLINE_S: Final = 60.0
_READY_LINE: Final = "Kafka Server started"


class ExistingBroker:
    """A broker that somebody else runs: usable, but not ours to stop."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap


class KafkaBroker(Server):
    """A broker of our own, on the loopback. Use as a context manager or call ``close``.

    ``folder`` keeps data, configuration and log; without it a temporary folder is used and
    removed at the end. ``port`` is the clients' port; without it a free one is taken.
    ``heap_mb`` bounds Java's heap.
    """

    name = "kafka"

    def __init__(
        self, *, folder: Path | None = None, port: int | None = None, heap_mb: int = 512
    ) -> None:
        super().__init__(folder, port)
        self._heap_mb = heap_mb
        self._controller_port = free_port()

    @property
    def bootstrap(self) -> str:
        """The address for clients, ``127.0.0.1:port``."""
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """Its command line; writes the configuration and formats a new folder of data."""
        if _in_use(self.port):
            raise ServerError(f"port {self.port} is taken by another process; choose another")
        properties = self.folder / "server.properties"
        data = self.folder / "data"
        properties.write_text(server_properties(data, self.port, self._controller_port))
        if not (data / "meta.properties").exists():
            self._format(properties)
        return self._java("kafka.Kafka", str(properties))

    def ready(self) -> bool:
        """Whether clients are served."""
        return _READY_LINE in self._said()

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
            timeout=_FORMAT_DEADLINE_S,
            check=False,
        )
        if result.returncode != 0:
            raise ServerError(f"formatting the data folder failed:\n{result.stdout[-4000:]}")

    def _java(self, main_class: str, *arguments: str) -> list[str]:
        java = shutil.which("java")
        if java is None:
            raise ServerError(
                "Java (java) is not installed; Apache Kafka needs version 17 or newer"
            )
        options = [
            f"-Xmx{self._heap_mb}m",
            "-XX:+ExitOnOutOfMemoryError",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
        ]
        return [java, *options, "-cp", f"{kafka_jars()}/*", main_class, *arguments]


def _in_use(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
