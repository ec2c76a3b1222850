"""What has a time axis: lines, states, heat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from dashboards.preview.answers import Answers, Series, TimeRange
from dashboards.preview.ink import DIM, EDGE, PALETTE, PANEL, Place, shortened, text_width_px
from dashboards.preview.units import mapped, written

__all__ = ["draw_heatmap", "draw_lines", "draw_states", "fixed_colours", "no_data"]

_LEGEND_PX: Final = 18
_AXIS_PX: Final = 18
_TICK_SIZE: Final = 7.5
_HEAT: Final = LinearSegmentedColormap.from_list("heat", [PANEL, "#7F3B0A", "#FF780A", "#FFDFB0"])


def draw_lines(place: Place, panel: Mapping[str, Any], answers: Answers) -> None:
    """Lines, stacked where the panel says so, with its thresholds dashed."""
    found = [series for target in panel["targets"] for series in answers.metrics(target)]
    if not found:
        no_data(place, panel)
        return
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    fixed = fixed_colours(panel)
    colours = [fixed.get(s.name, PALETTE[i % len(PALETTE)]) for i, s in enumerate(found)]
    axes = _time_axes(place, answers.shown, defaults["unit"], legend=True)
    grid_s = _grid_s(answers.shown)
    stacked = custom["stacking"]["mode"] == "normal"
    layers = np.nan_to_num(np.vstack([_on_grid(s, grid_s) for s in found]))
    if custom["drawStyle"] == "bars":
        highest = _draw_columns(axes, grid_s, layers, colours, stacked=stacked)
    elif stacked:
        axes.stackplot(grid_s, layers, colors=colours, alpha=0.6, linewidth=0)
        tops = np.cumsum(layers, axis=0)
        for top, colour in zip(tops, colours, strict=True):
            axes.plot(grid_s, top, color=colour, linewidth=0.8)
        highest = float(tops[-1].max(initial=0))
    else:
        for series, colour in zip(found, colours, strict=True):
            values = _on_grid(series, grid_s)
            axes.plot(grid_s, values, color=colour, linewidth=1.1)
            axes.fill_between(grid_s, values, color=colour, alpha=0.08, linewidth=0)
        highest = max(float(np.nanmax(_on_grid(s, grid_s), initial=0)) for s in found)
    highest = _draw_thresholds(axes, panel, highest)
    axes.set_ylim(0, highest * 1.1 if highest > 0 else 1)
    _legend(place, [s.name for s in found], colours)


def _draw_columns(
    axes: Axes,
    grid_s: NDArray[np.float64],
    layers: NDArray[np.float64],
    colours: Sequence[str],
    *,
    stacked: bool,
) -> float:
    """Bars, on each other or before each other; how high the highest is."""
    base = np.zeros(len(grid_s))
    width_s = 0.8 * (grid_s[1] - grid_s[0]) if len(grid_s) > 1 else 1.0
    for layer, colour in zip(layers, colours, strict=True):
        axes.bar(grid_s, layer, width=width_s, bottom=base, color=colour, alpha=0.85)
        if stacked:
            base = base + layer
    return float(base.max() if stacked else layers.max(initial=0))


def draw_states(place: Place, panel: Mapping[str, Any], answers: Answers) -> None:
    """A row for each series, coloured by its value."""
    found = [series for target in panel["targets"] for series in answers.metrics(target)]
    if not found:
        no_data(place, panel)
        return
    mappings = panel["fieldConfig"]["defaults"]["mappings"]
    names_px = 10 + max(text_width_px(series.name, 8.5) for series in found)
    inner = place.inside(names_px, 0, place.width - names_px, place.height)
    axes = _time_axes(inner, answers.shown, "none", legend=True, values=False)
    axes.grid(visible=False)
    height = inner.height - _LEGEND_PX - _AXIS_PX
    step_s = answers.shown.step_s
    for row, series in enumerate(found):
        place.write(4, (row + 0.5) * height / len(found), series.name, size=8.5)
        for time_s, value in zip(series.times_s, series.values, strict=True):
            state = mapped(float(value), mappings)
            colour = state[1] if state else DIM
            axes.broken_barh([(time_s, step_s)], (len(found) - row - 0.9, 0.8), facecolor=colour)
    axes.set_ylim(0, len(found))
    states = [option for mapping in mappings for option in mapping["options"].values()]
    _legend(place, [s["text"] for s in states], [s["color"] for s in states])


def draw_heatmap(place: Place, panel: Mapping[str, Any], answers: Answers) -> None:
    """Buckets of a histogram over time."""
    found = answers.metrics(panel["targets"][0])
    found.sort(key=lambda series: float(series.labels["le"].replace("+Inf", "inf")))
    if not found:
        no_data(place, panel)
        return
    unit = panel["options"]["yAxis"]["unit"]
    grid_s = _grid_s(answers.shown)
    totals = np.nan_to_num(np.vstack([_on_grid(series, grid_s) for series in found]))
    cells = np.maximum(np.diff(totals, axis=0, prepend=0), 0)
    used = np.flatnonzero(cells.sum(axis=1))
    last = int(used[-1]) + 2 if len(used) else len(found)
    cells, found = cells[:last], found[:last]
    names = [_edge(series.labels["le"], unit) for series in found]
    names_px = 12 + max(text_width_px(name, _TICK_SIZE) for name in names)
    inner = place.inside(names_px, 0, place.width - names_px, place.height)
    axes = _time_axes(inner, answers.shown, unit, legend=False, values=False)
    axes.grid(visible=False)
    edges_s = np.append(grid_s, grid_s[-1] + answers.shown.step_s)
    axes.pcolormesh(edges_s, np.arange(len(found) + 1), np.sqrt(cells), cmap=_HEAT, rasterized=True)
    height = inner.height - _AXIS_PX
    for row, name in enumerate(names):
        middle = height - (row + 0.5) * height / len(found)
        place.write(names_px - 6, middle, name, size=_TICK_SIZE, colour=DIM, align="right")


def no_data(place: Place, panel: Mapping[str, Any]) -> None:
    """What Grafana writes where a query has no answer."""
    text = panel["fieldConfig"]["defaults"].get("noValue", "No data")
    place.write(place.width / 2, place.height / 2, text, size=10, colour=DIM, align="center")


def fixed_colours(panel: Mapping[str, Any]) -> dict[str, str]:
    """The colours that overrides give to series by their names."""
    return {
        override["matcher"]["options"]: entry["value"]["fixedColor"]
        for override in panel["fieldConfig"]["overrides"]
        for entry in override["properties"]
        if entry["id"] == "color"
    }


def _edge(limit: str, unit: str) -> str:
    return "more" if limit == "+Inf" else f"≤ {written(float(limit), unit)}"


def _grid_s(shown: TimeRange) -> NDArray[np.float64]:
    start_s = shown.start_s // shown.step_s * shown.step_s
    return np.arange(start_s, shown.end_s + shown.step_s / 2, shown.step_s)


def _on_grid(series: Series, grid_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values at the times of the grid, NaN where there is none that can be drawn."""
    values = np.full(len(grid_s), np.nan)
    places = np.searchsorted(grid_s, series.times_s - 1e-3)
    inside = places < len(grid_s)
    values[places[inside]] = series.values[inside]
    return np.where(np.isfinite(values), values, np.nan)


def _draw_thresholds(axes: Axes, panel: Mapping[str, Any], highest: float) -> float:
    """Dash the thresholds that are not far off; how high the axis must reach for them."""
    defaults = panel["fieldConfig"]["defaults"]
    if defaults["custom"]["thresholdsStyle"]["mode"] == "off":
        return highest
    for step in defaults["thresholds"]["steps"]:
        value = step.get("value")
        if value is not None:
            axes.axhline(value, color=step["color"], linestyle=(0, (5, 4)), linewidth=0.9)
            if value <= 20 * highest or highest == 0:
                highest = max(highest, value)
    return highest


def _time_axes(
    place: Place, shown: TimeRange, unit: str, *, legend: bool, values: bool = True
) -> Axes:
    """Axes over the time range, with room for values at the left and a legend below."""
    left = 48.0 if values else 0.0
    below = _AXIS_PX + (_LEGEND_PX if legend else 0)
    axes = place.axes(left, 2, place.width - left - 6, place.height - below - 2)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.grid(visible=True, color=EDGE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=DIM, labelsize=_TICK_SIZE, length=0, pad=4)
    axes.set_xlim(shown.start_s, shown.end_s)
    ticks = _time_ticks(shown, max(2, int(place.width // 90)))
    seconds = any(tick % 60 for tick in ticks)
    clock = "%H:%M:%S" if seconds else "%H:%M"
    names = [datetime.fromtimestamp(tick, UTC).strftime(clock) for tick in ticks]
    axes.set_xticks(ticks, names)
    if values:
        axes.yaxis.set_major_locator(MaxNLocator(4, min_n_ticks=3))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: written(float(value), unit)))
    else:
        axes.set_yticks([])
    return axes


def _time_ticks(shown: TimeRange, most: int) -> list[float]:
    """Round moments of the time range, at most so many."""
    length_s = shown.end_s - shown.start_s
    steps_s = (5, 10, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 86_400)
    step_s = next((step for step in steps_s if length_s / step <= most), steps_s[-1])
    first_s = -(-shown.start_s // step_s) * step_s
    return [float(tick) for tick in np.arange(first_s, shown.end_s, step_s)]


def _legend(place: Place, names: Sequence[str], colours: Sequence[str]) -> None:
    """Names with dashes of their colours along the lower edge, as many as fit."""
    left, middle, size = 6.0, place.height - 6, 8.0
    for name, colour in zip(names, colours, strict=True):
        room = place.width - left - 20
        if room < 30:
            break
        shown = shortened(name, room, size)
        place.write(left, middle, "━", size=size, colour=colour)
        place.write(left + 15, middle, shown, size=size, colour=DIM)
        left += 15 + text_width_px(shown, size) + 14
