"""What has no time axis: a figure, bars, a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from dashboards.preview.answers import Answers, Series, Table
from dashboards.preview.charts import fixed_colours, no_data
from dashboards.preview.ink import DIM, EDGE, TEXT, Place, text_width_px
from dashboards.preview.units import colour_of, mapped, written

__all__ = ["draw_bars", "draw_number", "draw_table"]

_ROW_PX: Final = 25
_LINK: Final = "#6E9FFF"


def draw_number(place: Place, panel: Mapping[str, Any], answers: Answers) -> None:
    """One figure in its colour, with a sparkline where the query has a history."""
    target = panel["targets"][0]
    defaults = panel["fieldConfig"]["defaults"]
    trend: Series | None = None
    if "rawSql" in target:
        rows = answers.table(target).rows
        value = float(next(iter(rows[0].values())) or 0) if rows else np.nan
    else:
        found = answers.metrics(target)
        trend = found[0] if found else None
        value = float(trend.values[-1]) if trend else np.nan
    text, colour = mapped(value, defaults.get("mappings", [])) or (
        written(value, defaults["unit"], defaults.get("decimals")),
        DIM if np.isnan(value) else colour_of(value, defaults["thresholds"]["steps"]),
    )
    if trend is not None and len(trend.times_s) > 1 and panel["options"]["graphMode"] == "area":
        axes = place.axes(-4, place.height * 0.62, place.width + 8, place.height * 0.38 + 4)
        axes.set_axis_off()
        axes.plot(trend.times_s, trend.values, color=colour, linewidth=1)
        drawn = trend.values[np.isfinite(trend.values)]
        low, high = min(0.0, float(drawn.min(initial=0))), float(drawn.max(initial=0))
        axes.fill_between(trend.times_s, trend.values, low, color=colour, alpha=0.15, linewidth=0)
        axes.set_xlim(trend.times_s[0], trend.times_s[-1])
        axes.set_ylim(low, high * 1.05 if high > low else low + 1)
    size = min(26.0, 0.62 * place.width / max(3, len(text)) * 1.4)
    place.write(
        place.width / 2,
        place.height * 0.38,
        text,
        size=size,
        colour=colour,
        align="center",
        weight="bold",
    )


def draw_bars(place: Place, panel: Mapping[str, Any], answers: Answers) -> None:
    """A bar for each series, or for each row of the database, the longest first."""
    defaults = panel["fieldConfig"]["defaults"]
    shown = _bars(panel["targets"], answers)
    if not shown:
        no_data(place, panel)
        return
    fixed = fixed_colours(panel)
    row_px = min(28.0, place.height / len(shown))
    size = min(8.5, row_px * 0.42)
    names_px = min(place.width * 0.45, 12 + max(text_width_px(name, size) for name, _ in shown))
    texts = [written(v, defaults["unit"], defaults.get("decimals")) for _, v in shown]
    values_px = 14 + max(text_width_px(text, size) for text in texts)
    room = place.width - names_px - values_px
    most = max(*(value for _, value in shown), 1e-12)
    steps = defaults["thresholds"]["steps"]
    if defaults["unit"] == "percentunit":
        most = max(most, 1.0)
    axes = place.axes(names_px, 0, room, place.height)
    axes.set_axis_off()
    axes.set_xlim(0, most)
    axes.set_ylim(place.height, 0)
    for row, ((name, value), text) in enumerate(zip(shown, texts, strict=True)):
        middle = (row + 0.5) * row_px
        colour = fixed.get(name, colour_of(value, steps))
        axes.barh(middle, most, height=row_px * 0.62, color=EDGE, alpha=0.6)
        axes.barh(middle, value, height=row_px * 0.62, color=colour, alpha=0.85)
        place.write(names_px - 8, middle, name, size=size, align="right", room=names_px - 10)
        place.write(place.width - 2, middle, text, size=size, colour=colour, align="right")


def draw_table(place: Place, panel: Mapping[str, Any], answers: Answers) -> None:
    """Rows under a header, as many as fit."""
    table = _table(panel["targets"], answers)
    overrides = _overrides(panel)
    columns = [name for name in _order(panel, table.columns) if not overrides[name].get("hidden")]
    widths = _widths(columns, overrides, place.width)
    left = 0.0
    rows = _sorted(panel, table.rows, overrides)
    fit = int((place.height - 22) // _ROW_PX)
    rule = place.axes(0, 0, place.width, place.height)
    rule.set_axis_off()
    rule.set_xlim(0, place.width)
    rule.set_ylim(place.height, 0)
    for line in range(min(fit, len(rows)) + 1):
        rule.plot([0, place.width], [20 + line * _ROW_PX] * 2, color=EDGE, linewidth=0.7)
    if not rows:
        no_data(place, panel)
    for name in columns:
        settings = overrides[name]
        title = settings.get("displayName", name)
        place.write(left + 6, 9, title, size=8.5, weight="bold", colour=DIM, room=widths[name] - 8)
        for line, row in enumerate(rows[:fit]):
            text, colour = _cell(row.get(name), settings)
            middle = 20 + (line + 0.5) * _ROW_PX
            place.write(left + 6, middle, text, size=8.5, colour=colour, room=widths[name] - 14)
        left += widths[name]


def _bars(targets: Sequence[Mapping[str, Any]], answers: Answers) -> list[tuple[str, float]]:
    if "rawSql" in targets[0]:
        table = answers.table(targets[0])
        name, value = table.columns[:2]
        return [(str(row[name]), float(row[value])) for row in table.rows]
    found = [series for target in targets for series in answers.metrics(target)]
    found = [series for series in found if not np.isnan(series.values[-1])]
    found.sort(key=lambda series: -series.values[-1])
    return [(series.name, float(series.values[-1])) for series in found]


def _table(targets: Sequence[Mapping[str, Any]], answers: Answers) -> Table:
    """Of SQL as it is; of Prometheus, the answers merged by their common labels."""
    if "rawSql" in targets[0]:
        return answers.table(targets[0])
    rows: list[dict[str, Any]] = []
    for place, target in enumerate(targets):
        value = f"Value #{target['refId']}" if len(targets) > 1 else "Value"
        for series in answers.metrics(target):
            labels = series.labels
            match = [row for row in rows if all(row.get(k, v) == v for k, v in labels.items())]
            if place and match:
                match[0][value] = float(series.values[-1])
            elif not place:
                rows.append({**labels, value: float(series.values[-1])})
    return Table(tuple(dict.fromkeys(name for row in rows for name in row)), rows)


def _overrides(panel: Mapping[str, Any]) -> _Settings:
    found = _Settings()
    for override in panel["fieldConfig"]["overrides"]:
        found[override["matcher"]["options"]] = {
            entry["id"].removeprefix("custom."): entry["value"] for entry in override["properties"]
        }
    return found


class _Settings(dict[str, dict[str, Any]]):
    """What is said of each column; of others nothing."""

    def __missing__(self, name: str) -> dict[str, Any]:
        return {}


def _order(panel: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    for step in panel.get("transformations", []):
        if step["id"] == "organize":
            index = step["options"]["indexByName"]
            return sorted(columns, key=lambda name: index.get(name, len(index)))
    return list(columns)


def _widths(columns: Sequence[str], overrides: _Settings, width: float) -> dict[str, float]:
    given = {
        name: float(overrides[name]["width"]) for name in columns if "width" in overrides[name]
    }
    free = [name for name in columns if name not in given]
    rest = (width - sum(given.values())) / max(1, len(free))
    widths = {name: given.get(name, max(rest, 40.0)) for name in columns}
    scale = width / max(1.0, sum(widths.values()))
    return {name: value * min(1.0, scale) for name, value in widths.items()}


def _sorted(
    panel: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], overrides: _Settings
) -> list[Mapping[str, Any]]:
    for order in panel["options"].get("sortBy") or []:
        titles = {settings.get("displayName", name): name for name, settings in overrides.items()}
        name = titles.get(order["displayName"], order["displayName"])
        return sorted(rows, key=lambda row: row.get(name) or 0, reverse=bool(order["desc"]))
    return list(rows)


def _cell(value: object, settings: Mapping[str, Any]) -> tuple[str, str]:
    state = mapped(value, settings.get("mappings", []))
    if state:
        return state
    text = written(value, settings.get("unit", "none"), settings.get("decimals"))
    steps = settings.get("thresholds", {}).get("steps")
    if steps and isinstance(value, int | float):
        return text, colour_of(value, steps)
    return text, _LINK if "links" in settings else TEXT
