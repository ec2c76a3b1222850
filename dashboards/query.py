"""Queries of panels: PromQL on ``$datasource``, SQL on ``$store``."""

from __future__ import annotations

from typing import Any, Final

from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.prometheus import Dataquery as PrometheusQuery
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

__all__ = ["METRICS", "STORE", "SqlQuery", "by_range", "of", "prom", "recorded", "share"]

METRICS: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
STORE: Final = DataSourceRef(type_val="grafana-postgresql-datasource", uid="${store}")

_JOB: Final = 'job=~"$job"'
_INSTANCE: Final = 'instance=~"$instance"'


def of(metric: str, *matchers: str) -> str:
    """The series of a metric that the variables of the dashboard choose."""
    return f"{metric}{{{', '.join([_JOB, _INSTANCE, *matchers])}}}"


def recorded(name: str) -> str:
    """The series of a recording rule; they are of a job, not of one instance."""
    return f"{name}{{{_JOB}}}"


def by_range(labels: str, metric: str, *matchers: str) -> str:
    """How much a counter grew over the time range shown, by ``labels``."""
    return f"sum by ({labels}) (increase({of(metric, *matchers)}[$__range]))"


def share(quantile: float, histogram: str, *matchers: str) -> str:
    """A quantile of a histogram."""
    series = of(f"{histogram}_bucket", *matchers)
    return f"histogram_quantile({quantile:g}, sum by (le) (rate({series}[$__rate_interval])))"


def prom(
    expr: str, legend: str = "", *, instant: bool = False, rows: bool = False
) -> PrometheusQuery:
    """A query over the time range; ``instant``: at its end only; ``rows``: for a table."""
    return PrometheusQuery(
        datasource=METRICS,
        expr=expr,
        legend_format=legend or None,
        editor_mode=QueryEditorMode.CODE,
        instant=instant,
        range_val=not instant,
        format_val=PromQueryFormat.TABLE if rows else None,
    )


class SqlQuery(Dataquery):
    """SQL that gives a table; the SDK has no type for it.

    It is plain enough for PostgreSQL and SQLite; ``$__from`` and ``$__to`` are the time range in
    milliseconds, as all times of the store are.
    """

    def __init__(self, sql: str) -> None:
        self.ref_id: str | None = None
        self.sql = sql

    def to_json(self) -> dict[str, Any]:
        """As Grafana's SQL data sources write it."""
        return {
            "datasource": STORE,
            "editorMode": "code",
            "format": "table",
            "rawQuery": True,
            "rawSql": self.sql,
            "refId": self.ref_id,
        }
