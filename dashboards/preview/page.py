"""A dashboard as a picture: its panels on its own grid, each drawn by its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image
from sqlalchemy.exc import SQLAlchemyError

from dashboards.preview.answers import Answers, PreviewError
from dashboards.preview.charts import draw_heatmap, draw_lines, draw_states
from dashboards.preview.figures import draw_bars, draw_number, draw_table
from dashboards.preview.ink import BACKGROUND, DIM, EDGE, PANEL, TEXT, Place

__all__ = ["draw_page"]

_WIDTH_PX: Final = 1_600
_GAP_PX: Final = 8
_UNIT_PX: Final = 30
_HEAD_PX: Final = 44
_DPI: Final = 100

_Draw = Callable[[Place, Mapping[str, Any], Answers], None]
_KINDS: Final[Mapping[str, _Draw]] = {
    "bargauge": draw_bars,
    "heatmap": draw_heatmap,
    "stat": draw_number,
    "state-timeline": draw_states,
    "table": draw_table,
    "timeseries": draw_lines,
}


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where the cells of the grid are, in pixels from the top left."""

    height_px: float

    @staticmethod
    def of(panels: list[Mapping[str, Any]]) -> _Grid:
        """The grid that holds these panels."""
        lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
        return _Grid(_HEAD_PX + lines * (_UNIT_PX + _GAP_PX) + _GAP_PX)

    def place(self, figure: Figure, position: Mapping[str, int]) -> Place:
        """The place of a panel."""
        column_px = (_WIDTH_PX - _GAP_PX) / 24
        left = _GAP_PX + position["x"] * column_px
        top = _HEAD_PX + position["y"] * (_UNIT_PX + _GAP_PX)
        width = position["w"] * column_px - _GAP_PX
        height = position["h"] * (_UNIT_PX + _GAP_PX) - _GAP_PX
        return Place(figure, left, top, width, height, (_WIDTH_PX, self.height_px))


def draw_page(dashboard: Mapping[str, Any], answers: Answers, path: Path) -> None:
    """Draw a dashboard (Grafana's JSON) to a PNG.

    Raises PreviewError where a query is refused.
    """
    panels = dashboard["panels"]
    grid = _Grid.of(panels)
    figure = Figure(figsize=(_WIDTH_PX / _DPI, grid.height_px / _DPI), dpi=_DPI)
    figure.set_facecolor(BACKGROUND)
    canvas = FigureCanvasAgg(figure)
    head = Place(figure, 0, 0, _WIDTH_PX, _HEAD_PX, (_WIDTH_PX, grid.height_px))
    head.write(_GAP_PX + 6, 22, dashboard["title"], size=15, weight="bold")
    head.write(_WIDTH_PX - 14, 22, _span(answers), size=10, colour=DIM, align="right")
    for panel in panels:
        place = grid.place(figure, panel["gridPos"])
        if panel["type"] == "row":
            place.write(4, place.height / 2, f"⌄  {panel['title']}", size=11, weight="bold")
            continue
        _draw_panel(place, panel, answers)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    picture = Image.fromarray(pixels).convert("RGB")
    # Flat colours: a palette loses nothing that one sees, and a third of the bytes.
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def _draw_panel(place: Place, panel: Mapping[str, Any], answers: Answers) -> None:
    frame: Axes = place.axes(0, 0, place.width, place.height)
    frame.set_axis_off()
    frame.set_xlim(0, place.width)
    frame.set_ylim(0, place.height)
    frame.add_patch(
        FancyBboxPatch(
            (1, 1),
            place.width - 2,
            place.height - 2,
            boxstyle="round,pad=0,rounding_size=3",
            facecolor=PANEL,
            edgecolor=EDGE,
            linewidth=0.8,
        )
    )
    place.write(10, 17, panel["title"], size=9.5, weight="bold", colour=TEXT, room=place.width - 20)
    inner = place.inside(8, 30, place.width - 16, place.height - 38)
    try:
        _KINDS[panel["type"]](inner, panel, answers.every(panel.get("interval") or ""))
    except SQLAlchemyError as error:
        raise PreviewError(f"panel {panel['title']!r}: {error}") from error


def _span(answers: Answers) -> str:
    from_, to = (_clock(moment_s) for moment_s in (answers.shown.start_s, answers.shown.end_s))
    return f"{from_} to {to} UTC"


def _clock(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
