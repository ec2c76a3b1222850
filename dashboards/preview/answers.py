"""What Prometheus and the database answer to the queries of a dashboard."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, text

__all__ = ["Answers", "PreviewError", "Series", "Table", "TimeRange", "with_choices"]

_POINTS: Final = 240
_TIMEOUT_S: Final = 30.0
_QUOTED: Final = re.compile(r"\$\{(\w+):sqlstring\}")


class PreviewError(Exception):
    """A query could not be answered; the message says which and why."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """What is shown, in Unix seconds; ``scrape_s`` is how often Prometheus scrapes.

    A panel may want at least ``least_s`` between two points.
    """

    start_s: float
    end_s: float
    scrape_s: float
    least_s: float = 0.0

    @property
    def step_s(self) -> float:
        """Between two points of a line: as Grafana does, not below the scrape interval."""
        return max(self.least_s, self.scrape_s, round((self.end_s - self.start_s) / _POINTS))

    @property
    def rate_interval_s(self) -> float:
        """Grafana's ``$__rate_interval``: four scrapes at least, so that no point has no rate."""
        return max(self.step_s + self.scrape_s, 4 * self.scrape_s)


@dataclass(frozen=True, slots=True)
class Series:
    """Values (n,) at Unix times (n,) in seconds, with the name that a legend shows."""

    name: str
    labels: Mapping[str, str]
    times_s: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a query of the database, or of Prometheus asked for a table."""

    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Answers:
    """Asks a Prometheus at ``prometheus`` (its URL), and a database where there is one.

    ``chosen`` holds values of the dashboard's variables, beside those for all jobs and instances.
    """

    prometheus: str
    engine: Engine | None
    shown: TimeRange
    chosen: Mapping[str, str] = field(default_factory=dict)

    def every(self, interval: str) -> Answers:
        """The same, with at least so long between two points: a panel's ``interval`` (``1m``)."""
        if not interval:
            return self
        least_s = int(interval[:-1]) * {"s": 1, "m": 60, "h": 3_600}[interval[-1]]
        return replace(self, shown=replace(self.shown, least_s=least_s))

    def metrics(self, target: Mapping[str, Any]) -> list[Series]:
        """The series of a target. Raises PreviewError where Prometheus refuses it."""
        expr = self._filled(target["expr"])
        instant = bool(target.get("instant"))
        parameters: dict[str, str | float] = {"query": expr}
        if instant:
            parameters["time"] = self.shown.end_s
        else:
            step_s = self.shown.step_s
            start_s = self.shown.start_s // step_s * step_s
            parameters |= {"start": start_s, "end": self.shown.end_s, "step": step_s}
        found = self._get("query" if instant else "query_range", parameters)
        return [_series(one, target.get("legendFormat", "")) for one in found["result"]]

    def table(self, target: Mapping[str, Any]) -> Table:
        """The rows of a target of SQL. Raises PreviewError where there is no database."""
        if self.engine is None:
            raise PreviewError("this panel asks the database; name it with --store")
        with self.engine.connect() as connection:
            result = connection.execute(text(self.sql(target["rawSql"]).replace(":", r"\:")))
            return Table(tuple(result.keys()), [dict(row) for row in result.mappings()])

    def sql(self, query: str) -> str:
        """A query of the database with its variables filled in."""
        return self._filled(_QUOTED.sub(self._quoted, query))

    def _quoted(self, match: re.Match[str]) -> str:
        return "'" + self.chosen.get(match[1], "").replace("'", "''") + "'"

    def _filled(self, query: str) -> str:
        values = {
            "__rate_interval": f"{self.shown.rate_interval_s * 1_000:.0f}ms",
            "__range": f"{self.shown.end_s - self.shown.start_s:.0f}s",
            "__from": f"{self.shown.start_s * 1_000:.0f}",
            "__to": f"{self.shown.end_s * 1_000:.0f}",
            "job": "floodwatch-.+",
            "instance": ".+",
            **self.chosen,
        }
        return re.sub(r"\$(\w+)", lambda match: values.get(match[1], match[0]), query)

    def _get(self, path: str, parameters: Mapping[str, str | float]) -> Any:  # noqa: ANN401 - JSON
        url = f"{self.prometheus.rstrip('/')}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310 - given
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            raise PreviewError(f"Prometheus refuses {parameters['query']!r}: {said}") from error
        except OSError as error:
            raise PreviewError(
                f"Prometheus at {self.prometheus} does not answer: {error}"
            ) from error


def with_choices(answers: Answers, dashboard: Mapping[str, Any]) -> Answers:
    """The same, with the first choice of every variable that asks the database.

    As Grafana does when it opens a dashboard.
    """
    chosen = dict(answers.chosen)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query" and variable["datasource"]["uid"] == "${store}":
            listed = answers.table({"rawSql": variable["query"]})
            first = next((row[listed.columns[0]] for row in listed.rows), "")
            chosen.setdefault(variable["name"], str(first))
    return replace(answers, chosen=chosen)


def _series(one: Mapping[str, Any], legend: str) -> Series:
    labels = {name: str(value) for name, value in one["metric"].items()}
    points = one["values"] if "values" in one else [one["value"]]
    name = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), legend)
    return Series(
        name or ", ".join(f"{key}={value}" for key, value in labels.items()),
        labels,
        np.array([float(time_s) for time_s, _ in points]),
        np.array([float(value) for _, value in points]),
    )
