"""Alertmanager with a configuration of the test."""

from __future__ import annotations

from typing import Any

import yaml

from tests.prometheus.http import HttpServer

__all__ = ["AlertmanagerServer"]


class AlertmanagerServer(HttpServer):
    """Runs ``configuration`` (a document of alertmanager.yml), alone: no cluster."""

    name = "prometheus-alertmanager"

    def __init__(self, configuration: dict[str, Any]) -> None:
        super().__init__()
        self._configuration = self.folder / "alertmanager.yml"
        self._configuration.write_text(yaml.safe_dump(configuration), encoding="utf-8")

    def command(self) -> list[str]:
        """What it is called with."""
        return [
            self.name,
            f"--config.file={self._configuration}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
        ]
