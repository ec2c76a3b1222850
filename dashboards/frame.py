"""What all dashboards share: variables, links to each other, time range, no editing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard

from dashboards.query import METRICS, STORE

__all__ = ["TAG", "View"]

TAG: Final = "floodwatch"
_COLUMNS: Final = 24
_UP: Final = 'up{job=~"floodwatch-.+"}'


@dataclass(frozen=True, slots=True)
class View:
    """A dashboard: sections of panels, each under a title.

    ``store``: it asks the database too. ``choices`` are variables whose values a query of the
    database lists (name, label, SQL), ``texts`` those to type into (name, label).
    """

    uid: str
    title: str
    says: str
    sections: Sequence[tuple[str, Sequence[dashboard.Panel]]]
    store: bool = False
    choices: Sequence[tuple[str, str, str]] = ()
    texts: Sequence[tuple[str, str]] = ()
    since: str = "now-3h"

    def build(self) -> dashboard.Dashboard:
        """The dashboard as the SDK knows it."""
        made = (
            build.Dashboard(self.title)
            .uid(self.uid)
            .description(self.says)
            .tags([TAG])
            .readonly()
            .timezone("utc")
            .time(self.since, "now")
            .refresh("30s")
            .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
            .link(
                build.DashboardLink("Floodwatch")
                .type(dashboard.DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .keep_time(True)
                .include_vars(True)
            )
            .with_variable(
                build.DatasourceVariable("datasource").label("Data source").type("prometheus")
            )
        )
        if self.store:
            made.with_variable(
                build.DatasourceVariable("store")
                .label("Store")
                .type("grafana-postgresql-datasource")
            )
        made.with_variable(_choice("job", "Job", f"label_values({_UP}, job)", "floodwatch-.+"))
        of_job = 'up{job=~"$job"}'
        made.with_variable(
            _choice("instance", "Instance", f"label_values({of_job}, instance)", ".+")
        )
        for name, label, sql in self.choices:
            made.with_variable(
                build.QueryVariable(name)
                .label(label)
                .datasource(STORE)
                .query(sql)
                .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
            )
        for name, label in self.texts:
            made.with_variable(build.TextBoxVariable(name).label(label).default_value(""))
        built = made.build()
        built.panels = list(_placed(self.sections))
        return built


def _placed(
    sections: Sequence[tuple[str, Sequence[dashboard.Panel]]],
) -> Iterator[dashboard.Panel | dashboard.RowPanel]:
    """Rows and panels on the grid of 24 columns: each as high up, then as far left, as it fits."""
    top, number = 0, 1
    for title, panels in sections:
        yield dashboard.RowPanel(
            title=title, grid_pos=dashboard.GridPos(x=0, y=top, w=_COLUMNS, h=1), id_val=number
        )
        heights = [top + 1] * _COLUMNS
        for panel in panels:
            place = panel.grid_pos
            assert place is not None, panel.title
            place.y, place.x = min(
                (max(heights[x : x + place.w]), x) for x in range(_COLUMNS - place.w + 1)
            )
            heights[place.x : place.x + place.w] = [place.y + place.h] * place.w
            number += 1
            panel.id_val = number
            yield panel
        top, number = max(heights), number + 1


def _choice(name: str, label: str, query: str, everything: str) -> build.QueryVariable:
    """Labels of Prometheus to choose from: several, or all."""
    return (
        build.QueryVariable(name)
        .label(label)
        .datasource(METRICS)
        .query(query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(everything)
        .current(dashboard.VariableOption(text=["All"], value=["$__all"], selected=True))
    )
