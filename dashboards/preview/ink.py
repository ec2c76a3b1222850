"""Colours of a dark page, and places on it to draw in, in pixels from the top left."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from PIL.ImageFont import FreeTypeFont, truetype

__all__ = [
    "BACKGROUND",
    "DIM",
    "EDGE",
    "PALETTE",
    "PANEL",
    "TEXT",
    "Place",
    "shortened",
    "text_width_px",
]

BACKGROUND: Final = "#111217"
PANEL: Final = "#181B1F"
EDGE: Final = "#2A2D33"
TEXT: Final = "#D8D9DA"
DIM: Final = "#8E9199"
PALETTE: Final = (
    *("#73BF69", "#F2CC0C", "#8AB8FF", "#FF780A", "#F2495C", "#5794F2", "#B877D9"),
    *("#96D98D", "#FADE2A", "#C0D8FF", "#FFB357", "#FF7383", "#CA95E5", "#37872D"),
)
"""Grafana's classic palette, in its order."""


_MEASURE: Final = 16


@dataclass(frozen=True, slots=True)
class Place:
    """A rectangle of a figure: left, top, width and height, of a ``page`` so large."""

    figure: Figure
    left: float
    top: float
    width: float
    height: float
    page: tuple[float, float]

    def inside(self, left: float, top: float, width: float, height: float) -> Place:
        """A rectangle of this one."""
        return Place(
            self.figure, self.left + left, self.top + top, width, max(1.0, height), self.page
        )

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes on a rectangle of this one, without a background."""
        page_width, page_height = self.page
        bottom = page_height - self.top - top - height
        made = self.figure.add_axes(
            (
                (self.left + left) / page_width,
                bottom / page_height,
                width / page_width,
                height / page_height,
            )
        )
        made.patch.set_alpha(0)
        return made

    def write(
        self,
        left: float,
        middle: float,
        text: str,
        *,
        size: float = 9,
        colour: str = TEXT,
        align: str = "left",
        weight: str = "normal",
        room: float | None = None,
    ) -> None:
        """Write a line at a point; shortened to ``room`` pixels where that is given."""
        page_width, page_height = self.page
        shown = text if room is None else shortened(text, room, size)
        self.figure.text(
            (self.left + left) / page_width,
            1 - (self.top + middle) / page_height,
            shown.replace("$", r"\$"),
            fontsize=size,
            color=colour,
            ha=align,
            va="center",
            fontweight=weight,
        )


def text_width_px(text: str, size: float) -> float:
    """How wide a text is, at 100 dots an inch."""
    return _font(size).getlength(text) / _MEASURE * 100 / 72


@cache
def _font(size: float) -> FreeTypeFont:
    """The font of the figures, ``_MEASURE`` times as large: lengths are whole pixels."""
    return truetype(findfont(FontProperties()), round(size * _MEASURE))


def shortened(text: str, room_px: float, size: float) -> str:
    """The text, or as much of it as fits."""
    if text_width_px(text, size) <= room_px:
        return text
    while text and text_width_px(text + "…", size) > room_px:
        text = text[:-1]
    return text + "…"
