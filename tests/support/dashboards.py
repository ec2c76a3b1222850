"""The dashboards as they are provisioned, and what their queries name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry

from detectors.compiled import compile_pack
from monitor.metrics import Metrics
from monitor.paging import PagerMetrics
from monitor.store_metrics import StoreMetrics
from tests.support.events import small_pack

__all__ = ["FOLDER", "Target", "dashboards", "exported_names", "metric_names", "targets"]

FOLDER: Final = Path(__file__).parents[2] / "dashboards"

_STRING: Final = re.compile(r'"[^"]*"')
_METRIC: Final = re.compile(r"\bfloodwatch[_:][\w:]+")
_SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
    "info": ("_info",),
}


@dataclass(frozen=True, slots=True)
class Target:
    """A query of a panel of a dashboard."""

    dashboard: str
    panel: Mapping[str, Any]
    query: Mapping[str, Any]

    @property
    def identity(self) -> tuple[str, str, str]:
        """Dashboard, panel and query, by their names."""
        return self.dashboard, self.panel["title"], self.query["refId"]


@cache
def dashboards() -> Mapping[str, Mapping[str, Any]]:
    """The committed JSON of each dashboard, by its file's name."""
    files = sorted((FOLDER / "grafana").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def targets() -> Iterator[Target]:
    """Every query of every panel."""
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for query in panel.get("targets", ()):
                yield Target(name, panel, query)


def metric_names(expr: str) -> set[str]:
    """The metrics of Floodwatch that a query of Prometheus names, and recorded series."""
    return set(_METRIC.findall(_STRING.sub("", expr)))


@cache
def exported_names() -> frozenset[str]:
    """The names of all series that a worker or a store service exports."""
    metrics = Metrics(version="1", pack=compile_pack(small_pack()).pack, clock=float, delay_s=float)
    registry = CollectorRegistry()
    StoreMetrics(registry)
    PagerMetrics(registry)
    return frozenset(
        family.name + suffix
        for source in (metrics.registry, registry)
        for family in source.collect()
        for suffix in _SUFFIXES[family.type]
    )
