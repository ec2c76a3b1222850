"""A picture of a graph of accounts, as SVG: no program is needed but a browser.

A dot is an account, larger the more it is tied, in its group's colour (filled if of the core) or
grey; a line is a tie, wider the heavier. Hovering over a dot tells its name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

import numpy as np

from monitor.analysis.graph_layout import lay_out, pack

if TYPE_CHECKING:
    import numpy.typing as npt

    from detectors._windows import Floats, Int64s

__all__ = ["NO_GROUP", "DrawnComponent", "draw_components"]

_WIDTH: Final = 1_200.0
_MARGIN: Final = 40.0
_SHAPE: Final = 1.5
_MOST_SCALE: Final = 90.0
_COLOURS: Final = (
    "#3b6fb6",
    "#d1702a",
    "#3f8f5b",
    "#b5403f",
    "#7d5ba6",
    "#8a6a4f",
    "#c0549a",
    "#5f6b78",
    "#9a9425",
    "#2f97a8",
)


NO_GROUP: Final = -1
_GREY: Final = "#9aa5b1"


@dataclass(frozen=True, slots=True, eq=False)
class DrawnComponent:
    """n accounts that E ties between positions ``first`` and ``second`` connect."""

    names: Sequence[str]  # (n,)
    degree: Floats  # (n,)
    group: Int64s  # (n,) which group of all, or NO_GROUP
    core: npt.NDArray[np.bool_]  # (n,) whether of its core
    first: Int64s  # (E,)
    second: Int64s  # (E,)
    weight: Floats  # (E,)


def draw_components(components: Sequence[DrawnComponent], title: str, notes: Sequence[str]) -> str:
    """The picture, with ``title`` and lines of ``notes`` above it."""
    places = [lay_out(len(part.names), part.first, part.second) for part in components]
    boxes = [tuple(place.max(axis=0).tolist()) for place in places]
    corners = pack(boxes, _SHAPE)
    right = max((x + w for (x, _), (w, _) in zip(corners, boxes, strict=True)), default=1.0)
    bottom = max((y + h for (_, y), (_, h) in zip(corners, boxes, strict=True)), default=1.0)
    scale = min(_MOST_SCALE, (_WIDTH - 2 * _MARGIN) / max(right, 1e-9))
    head = 62.0 + 20.0 * len(notes) + _MARGIN
    height = head + bottom * scale + _MARGIN
    left = (_WIDTH - right * scale) / 2
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {height:.0f}">',
        "<style>text { font-family: system-ui, sans-serif; fill: #1f2933 }</style>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{_MARGIN:g}" y="44" font-size="22" font-weight="600">{escape(title)}</text>',
    ]
    lines += [
        f'<text x="{_MARGIN:g}" y="{70 + 20 * line}" font-size="14" fill="#52606d">'
        f"{escape(note)}</text>"
        for line, note in enumerate(notes)
    ]
    for part, place, corner in zip(components, places, corners, strict=True):
        at = (place + np.array(corner)) * scale + np.array([left, head])
        lines += [*_ties(part, at, scale), *_dots(part, at, scale)]
    return "\n".join([*lines, "</svg>", ""])


def _ties(part: DrawnComponent, at: Floats, scale: float) -> list[str]:
    share = np.sqrt(part.weight / part.weight.max(initial=1.0))
    within = part.group[part.first] == part.group[part.second]
    # The more lines there are, the thinner: or nothing could be seen in between.
    widest = min(5.0, max(0.5, scale / 10)) / max(1.0, math.sqrt(len(share) / 200))
    return [
        f'<line x1="{at[first, 0]:.1f}" y1="{at[first, 1]:.1f}" x2="{at[second, 0]:.1f}"'
        f' y2="{at[second, 1]:.1f}" stroke="{_colour(part.group[first] if inside else NO_GROUP)}"'
        f' stroke-width="{widest * (0.25 + 0.75 * thick):.2f}"'
        f' stroke-opacity="{0.2 + 0.4 * thick:.2f}"/>'
        for first, second, inside, thick in zip(part.first, part.second, within, share, strict=True)
    ]


def _dots(part: DrawnComponent, at: Floats, scale: float) -> list[str]:
    lines = []
    radii = min(9.0, max(1.6, scale / 4)) * (
        0.45 + 0.55 * np.sqrt(part.degree / part.degree.max(initial=1.0))
    )
    for node in np.argsort(part.degree, kind="stable"):
        colour = _colour(part.group[node])
        fill, edge = (colour, "#ffffff") if part.core[node] else ("#ffffff", colour)
        lines.append(
            f'<circle cx="{at[node, 0]:.1f}" cy="{at[node, 1]:.1f}" r="{radii[node]:.2f}"'
            f' fill="{fill}" stroke="{edge}" stroke-width="{radii[node] / 5:.2f}">'
            f"<title>{escape(part.names[node])}: {part.degree[node]:g}</title></circle>"
        )
    return lines


def _colour(group: int) -> str:
    return _GREY if group == NO_GROUP else _COLOURS[group % len(_COLOURS)]
