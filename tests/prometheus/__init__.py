"""A real Prometheus and a real Alertmanager for tests, on the loopback."""

from __future__ import annotations

from tests.prometheus.alertmanager import AlertmanagerServer
from tests.prometheus.server import PrometheusServer

__all__ = ["AlertmanagerServer", "PrometheusServer"]
