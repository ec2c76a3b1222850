"""Alertmanager with a configuration of the test."""

from __future__ import annotations

from typing import Any

import yaml

from tests.prometheus.spawned import SpawnedServer

__all__ = ["AlertmanagerServer"]


class AlertmanagerServer(SpawnedServer):
    """Runs ``configuration`` (a document of alertmanager.yml), alone: no cluster."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        super().__init__("prometheus-alertmanager")
        self._configuration = self.folder / "alertmanager.yml"
        self._configuration.write_text(yaml.safe_dump(configuration), encoding="utf-8")

    @property
    def arguments(self) -> list[str]:
        """What it is called with."""
        return [
            f"--config.file={self._configuration}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
        ]
