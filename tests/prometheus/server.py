"""Prometheus with our own rules and jobs, scraping and evaluating every second."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tests.prometheus.http import HttpServer

__all__ = ["PROVISIONED", "SCRAPE_S", "PrometheusServer"]

PROVISIONED: Final = Path(__file__).parents[2] / "dashboards"
SCRAPE_S: Final = 1.0


class PrometheusServer(HttpServer):
    """Runs the provisioned configuration; only addresses and intervals are other ones.

    ``targets`` maps jobs of prometheus.yml to the ``host:port`` of this test; jobs without are
    left out. ``alertmanagers`` are ``host:port`` too.
    """

    name = "prometheus"

    def __init__(
        self, targets: Mapping[str, Sequence[str]], alertmanagers: Sequence[str] = ()
    ) -> None:
        super().__init__()
        path = PROVISIONED / "prometheus" / "prometheus.yml"
        document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        every = f"{SCRAPE_S * 1_000:.0f}ms"
        intervals = ("scrape_interval", "scrape_timeout", "evaluation_interval")
        document["global"] |= dict.fromkeys(intervals, every)
        document["rule_files"] = [str(path.with_name(name)) for name in document["rule_files"]]
        document["alerting"]["alertmanagers"] = [
            {"static_configs": [{"targets": list(alertmanagers)}]}
        ]
        jobs = {job["job_name"]: job for job in document["scrape_configs"]}
        assert targets.keys() <= jobs.keys(), f"prometheus.yml has the jobs {sorted(jobs)}"
        document["scrape_configs"] = [
            {"job_name": name, "static_configs": [{"targets": list(addresses)}]}
            for name, addresses in targets.items()
        ]
        self._configuration = self.folder / "prometheus.yml"
        self._configuration.write_text(yaml.safe_dump(document), encoding="utf-8")

    def command(self) -> list[str]:
        """What it is called with."""
        return [
            self.name,
            f"--config.file={self._configuration}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def query(self, expr: str, at_s: float | None = None) -> list[dict[str, Any]]:
        """The result of an instant query: series with ``metric`` and ``value``."""
        time_s = time.time() if at_s is None else at_s
        found: list[dict[str, Any]] = self.api("query", {"query": expr, "time": time_s})["result"]
        return found

    def total(self, expr: str) -> float:
        """The sum of what a query gives now; 0 for nothing."""
        return sum(float(one["value"][1]) for one in self.query(expr))

    def api(self, path: str, parameters: Mapping[str, str | float] | None = None) -> Any:  # noqa: ANN401 - JSON
        """The data of an answer of the HTTP API."""
        query = urllib.parse.urlencode(parameters or {})
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as response:
            return json.load(response)["data"]
