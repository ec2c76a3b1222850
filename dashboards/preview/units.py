"""Values as Grafana writes them in the units that the dashboards use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

__all__ = ["colour_of", "mapped", "written"]

_SUFFIXES: Final = {"cps": " c/s", "cpm": " c/m"}
_THOUSANDS: Final = ("", " K", " Mil", " Bil")
_BYTES: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def written(value: object, unit: str, decimals: int | None = None) -> str:
    """A value with its unit."""
    if isinstance(value, Decimal):
        value = float(value)
    if not isinstance(value, int | float):
        return "" if value is None else str(value)
    if not math.isfinite(value):
        return "No data" if math.isnan(value) else "∞"
    if unit == "dateTimeAsIso":
        return datetime.fromtimestamp(value / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    if unit == "percentunit":
        return f"{_digits(100 * value, decimals)}%"
    if unit == "s":
        return _seconds(float(value), decimals)
    if unit in {"bytes", "Bps"}:
        steps = min(4, int(math.log(max(abs(value), 1), 1_024)))
        return f"{_digits(value / 1_024**steps, decimals)} {_BYTES[steps]}" + (
            "/s" if unit == "Bps" else ""
        )
    if unit == "none":
        return _digits(float(value), decimals)
    steps = min(3, int(math.log(max(abs(value), 1), 1_000)))
    short = _digits(value / 1_000**steps, decimals) + _THOUSANDS[steps]
    return short + _SUFFIXES.get(unit, "")


def mapped(value: object, mappings: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """The text and colour that value mappings give a value, if they do."""
    key = f"{value:g}" if isinstance(value, int | float) else str(value)
    for mapping in mappings:
        found = mapping.get("options", {}).get(key)
        if found is not None:
            return str(found.get("text", key)), str(found["color"])
    return None


def colour_of(value: float, steps: Sequence[Mapping[str, Any]]) -> str:
    """The colour that thresholds give a value."""
    colour = str(steps[0]["color"]) if steps else "#CCCCDC"
    for step in steps:
        if step.get("value") is not None and value >= step["value"]:
            colour = str(step["color"])
    return colour


def _digits(value: float, decimals: int | None) -> str:
    if decimals is None:
        size = abs(value)
        decimals = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2
    return f"{value:.{decimals}f}"


def _seconds(value: float, decimals: int | None) -> str:
    size = abs(value)
    if size and size < 1e-3:
        return f"{_digits(value * 1e6, decimals)} µs"
    if size and size < 1:
        return f"{_digits(value * 1e3, decimals)} ms"
    if size < 120:
        return f"{_digits(value, decimals)} s"
    if size < 7_200:
        return f"{_digits(value / 60, decimals)} mins"
    return f"{_digits(value / 3_600, decimals)} hours"
