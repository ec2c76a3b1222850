"""The kinds of panels that the dashboards use, each with what every panel must have.

A panel is made of a title, of what to do when it looks bad, of queries and of a unit; the rest
has a default that suits most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from grafana_foundation_sdk.models import (
    bargauge,
    common,
    dashboard,
    heatmap,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models.prometheus import Dataquery as PrometheusQuery
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.look import BAD, CALM, GOOD, SEVERITIES, WORSE
from dashboards.query import METRICS, STORE, SqlQuery

__all__ = [
    "Column",
    "Query",
    "Steps",
    "bars",
    "coarse",
    "columns",
    "delays",
    "lines",
    "number",
    "rows",
    "states",
    "too_little",
    "too_much",
]

Query: TypeAlias = PrometheusQuery | SqlQuery
Steps: TypeAlias = Sequence[tuple[float | None, str]]
"""From which value on which colour; the first from None."""

_CALM: Final[Steps] = ((None, CALM),)


def too_much(worse: float | None = None, bad: float | None = None) -> Steps:
    """Good below ``worse``; the alert fires at ``bad``."""
    steps: list[tuple[float | None, str]] = [(None, GOOD)]
    steps += [(worse, WORSE)] if worse is not None else []
    return [*steps, (bad, BAD)] if bad is not None else steps


def too_little(bad: float, good: float) -> Steps:
    """Bad below ``bad``, good from ``good`` on."""
    return [(None, BAD), (bad, WORSE), (good, GOOD)]


@dataclass(frozen=True, slots=True)
class Column:
    """How a column of a table is shown: ``colours`` by its text, ``link`` to where it leads."""

    name: str
    title: str = ""
    unit: str = ""
    width: int | None = None
    hidden: bool = False
    colours: Mapping[str, str] = field(default_factory=dict)
    steps: Steps = ()
    link: str = ""
    decimals: int | None = None

    @property
    def properties(self) -> list[dashboard.DynamicConfigValue]:
        """The overrides of this column."""
        found: dict[str, object] = {}
        if self.title:
            found["displayName"] = self.title
        if self.unit:
            found["unit"] = self.unit
        if self.decimals is not None:
            found["decimals"] = self.decimals
        if self.width:
            found["custom.width"] = self.width
        if self.hidden:
            found["custom.hidden"] = True
        if self.colours:
            found["mappings"] = [_mapping({t: (t, c) for t, c in self.colours.items()})]
        if self.steps:
            found["thresholds"] = _thresholds(self.steps)
        if self.colours or self.steps:
            found["custom.cellOptions"] = {"type": "color-text"}
        if self.link:
            found["links"] = [{"title": f"Look at {self.title or self.name}", "url": self.link}]
        return [dashboard.DynamicConfigValue(name, value) for name, value in found.items()]


def number(
    title: str,
    says: str,
    query: Query,
    *,
    unit: str,
    steps: Steps = _CALM,
    size: tuple[int, int] = (4, 4),
    decimals: int | None = None,
    texts: Mapping[str, tuple[str, str]] | None = None,
) -> dashboard.Panel:
    """One figure, with how it went; ``texts`` maps values to (text, colour)."""
    trend = isinstance(query, PrometheusQuery) and not query.instant
    options = stat.Options(
        graph_mode=common.BigValueGraphMode.AREA if trend else common.BigValueGraphMode.NONE,
        color_mode=common.BigValueColorMode.VALUE,
        reduce_options=common.ReduceDataOptions(calcs=["lastNotNull"]),
    )
    config = dashboard.FieldConfig(
        unit=unit,
        decimals=decimals,
        thresholds=_thresholds(steps),
        color=dashboard.FieldColor(dashboard.FieldColorModeId.THRESHOLDS),
        mappings=[_mapping(texts)] if texts else None,
    )
    return _panel("stat", title, says, [query], options, config, size)


def lines(
    title: str,
    says: str,
    queries: Sequence[Query],
    *,
    unit: str,
    steps: Steps = (),
    size: tuple[int, int] = (8, 8),
    stacked: bool = False,
) -> dashboard.Panel:
    """Series over time; ``steps`` are drawn as lines at which the alert fires."""
    custom = _over_time(common.GraphDrawStyle.LINE, steps, stacked=stacked)
    return _panel("timeseries", title, says, queries, _listed(), _field(unit, custom, steps), size)


def columns(
    title: str,
    says: str,
    queries: Sequence[Query],
    *,
    unit: str,
    steps: Steps = (),
    size: tuple[int, int] = (8, 8),
    colours: Mapping[str, str] = MappingProxyType({}),
) -> dashboard.Panel:
    """A stacked bar for each minute or more: for what happens now and then."""
    custom = _over_time(common.GraphDrawStyle.BARS, steps, stacked=True)
    config, fixed = _field(unit, custom, steps), _fixed(colours)
    return coarse(_panel("timeseries", title, says, queries, _listed(), config, size, fixed), "1m")


def coarse(panel: dashboard.Panel, every: str) -> dashboard.Panel:
    """The panel, with at least so long between two points: else rare events have no rate."""
    panel.interval = every
    return panel


def bars(
    title: str,
    says: str,
    queries: Sequence[Query],
    *,
    unit: str,
    steps: Steps = _CALM,
    size: tuple[int, int] = (8, 8),
    decimals: int | None = None,
    nothing: str = "",
) -> dashboard.Panel:
    """A bar for each series, at the end of the time range; of SQL, a bar for each row.

    ``nothing`` is what it says when there is none. Severities have their colours.
    """
    options = bargauge.Options(
        display_mode=common.BarGaugeDisplayMode.BASIC,
        orientation=common.VizOrientation.HORIZONTAL,
        reduce_options=common.ReduceDataOptions(
            calcs=["lastNotNull"], values=isinstance(queries[0], SqlQuery)
        ),
        value_mode=common.BarGaugeValueMode.TEXT,
    )
    config = dashboard.FieldConfig(
        unit=unit,
        decimals=decimals,
        min_val=0,
        thresholds=_thresholds(steps),
        color=dashboard.FieldColor(dashboard.FieldColorModeId.THRESHOLDS),
        no_value=nothing or None,
    )
    return _panel("bargauge", title, says, queries, options, config, size, _fixed(SEVERITIES))


def rows(
    title: str,
    says: str,
    queries: Sequence[Query],
    columns: Sequence[Column],
    *,
    size: tuple[int, int] = (12, 8),
    sort: str = "",
    nothing: str = "",
) -> dashboard.Panel:
    """A table, or ``nothing``. Several queries of Prometheus are merged by their labels."""
    custom = table.Options(
        show_header=True,
        cell_height=common.TableCellHeight.SM,
        sort_by=[common.TableSortByFieldState(sort, desc=True)] if sort else None,
    )
    config = dashboard.FieldConfig(
        unit="none",
        custom={"align": "auto", "filterable": True, "inspect": False},
        thresholds=_thresholds(_CALM),
        no_value=nothing or None,
    )
    overrides = [_override("byName", column.name, column.properties) for column in columns]
    made = _panel("table", title, says, queries, custom, config, size, overrides)
    if any(isinstance(query, PrometheusQuery) for query in queries):
        order = {column.name: place for place, column in enumerate(columns)}
        steps = [dashboard.DataTransformerConfig("merge", options={})] if len(queries) > 1 else []
        options = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": {}}
        made.transformations = [
            *steps,
            dashboard.DataTransformerConfig("organize", options=options),
        ]
    return made


def states(
    title: str,
    says: str,
    queries: Sequence[Query],
    texts: Mapping[str, tuple[str, str]],
    *,
    size: tuple[int, int] = (12, 8),
) -> dashboard.Panel:
    """A row for each series, coloured by its value over time; ``texts``: value to text, colour."""
    options = statetimeline.Options(
        show_value=common.VisibilityMode.NEVER,
        row_height=0.8,
        merge_values=True,
        legend=common.VizLegendOptions(
            display_mode=common.LegendDisplayMode.LIST,
            placement=common.LegendPlacement.BOTTOM,
            show_legend=True,
            calcs=[],
        ),
    )
    config = dashboard.FieldConfig(
        unit="none",
        custom=statetimeline.FieldConfig(line_width=0, fill_opacity=80),
        mappings=[_mapping(texts)],
        thresholds=_thresholds(_CALM),
        color=dashboard.FieldColor(dashboard.FieldColorModeId.THRESHOLDS),
    )
    return _panel("state-timeline", title, says, queries, options, config, size)


def delays(
    title: str, says: str, query: PrometheusQuery, *, unit: str, size: tuple[int, int] = (8, 8)
) -> dashboard.Panel:
    """The buckets of a histogram over time, darker where more fell into them."""
    query.format_val = PromQueryFormat.HEATMAP
    query.legend_format = "{{le}}"
    options = heatmap.Options(
        calculate=False,
        color=heatmap.HeatmapColorOptions(
            mode=heatmap.HeatmapColorMode.SCHEME, scheme="Oranges", steps=64
        ),
        y_axis=heatmap.YAxisConfig(unit=unit),
        show_value=common.VisibilityMode.NEVER,
        cell_gap=1,
    )
    config = dashboard.FieldConfig(
        unit=unit, custom=heatmap.FieldConfig(), thresholds=_thresholds(_CALM)
    )
    return _panel("heatmap", title, says, [query], options, config, size)


def _over_time(
    style: common.GraphDrawStyle, steps: Steps, *, stacked: bool
) -> timeseries.FieldConfig:
    """How series are drawn."""
    line = style is common.GraphDrawStyle.LINE
    marks = common.GraphThresholdsStyleMode
    return timeseries.FieldConfig(
        draw_style=style,
        line_width=1,
        fill_opacity=8 if line and not stacked else 60 if line else 85,
        show_points=common.VisibilityMode.NEVER,
        span_nulls=False,
        stacking=common.StackingConfig(
            mode=common.StackingMode.NORMAL if stacked else common.StackingMode.NONE, group="A"
        ),
        thresholds_style=common.GraphThresholdsStyleConfig(marks.DASHED if steps else marks.OFF),
        axis_soft_min=0,
    )


def _listed() -> timeseries.Options:
    """A legend below, and all values where the mouse is."""
    return timeseries.Options(
        legend=common.VizLegendOptions(
            display_mode=common.LegendDisplayMode.LIST,
            placement=common.LegendPlacement.BOTTOM,
            show_legend=True,
            calcs=[],
        ),
        tooltip=common.VizTooltipOptions(
            mode=common.TooltipDisplayMode.MULTI, sort=common.SortOrder.DESCENDING
        ),
    )


def _field(unit: str, custom: timeseries.FieldConfig, steps: Steps) -> dashboard.FieldConfig:
    return dashboard.FieldConfig(
        unit=unit,
        custom=custom,
        thresholds=_thresholds(steps or _CALM),
        color=dashboard.FieldColor(dashboard.FieldColorModeId.PALETTE_CLASSIC),
    )


def _panel(
    kind: str,
    title: str,
    says: str,
    queries: Sequence[Query],
    options: object,
    config: dashboard.FieldConfig,
    size: tuple[int, int],
    overrides: Sequence[dashboard.DashboardFieldConfigSourceOverrides] = (),
) -> dashboard.Panel:
    for number_, query in enumerate(queries):
        query.ref_id = chr(ord("A") + number_)
    return dashboard.Panel(
        type_val=kind,
        title=title,
        description=says,
        targets=list(queries),
        datasource=STORE if isinstance(queries[0], SqlQuery) else METRICS,
        grid_pos=dashboard.GridPos(w=size[0], h=size[1]),
        options=options,
        field_config=dashboard.FieldConfigSource(defaults=config, overrides=list(overrides)),
    )


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    return dashboard.ThresholdsConfig(
        dashboard.ThresholdsMode.ABSOLUTE,
        [dashboard.Threshold(value, colour) for value, colour in steps],
    )


def _mapping(texts: Mapping[str, tuple[str, str]]) -> dashboard.ValueMap:
    return dashboard.ValueMap(
        {
            value: dashboard.ValueMappingResult(text=text, color=colour, index=place)
            for place, (value, (text, colour)) in enumerate(texts.items())
        }
    )


def _override(
    matcher: str, name: str, properties: list[dashboard.DynamicConfigValue]
) -> dashboard.DashboardFieldConfigSourceOverrides:
    return dashboard.DashboardFieldConfigSourceOverrides(
        matcher=dashboard.MatcherConfig(matcher, name), properties=properties
    )


def _fixed(colours: Mapping[str, str]) -> list[dashboard.DashboardFieldConfigSourceOverrides]:
    """Series of these names always have these colours."""
    return [
        _override("byName", name, [dashboard.DynamicConfigValue("color", _fixed_colour(colour))])
        for name, colour in colours.items()
    ]


def _fixed_colour(colour: str) -> dict[str, Any]:
    return {"mode": "fixed", "fixedColor": colour}
