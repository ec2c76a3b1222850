"""Colours that mean the same on every dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["BAD", "CALM", "GOOD", "KINDS", "SEVERITIES", "WORSE"]

GOOD: Final = "#73BF69"
WORSE: Final = "#F2CC0C"
BAD: Final = "#F2495C"
CALM: Final = "#8AB8FF"
"""A figure that is neither good nor bad."""

SEVERITIES: Final[Mapping[str, str]] = MappingProxyType(
    {"critical": "#E02F44", "high": "#FF780A", "medium": "#F2CC0C", "low": "#5794F2"}
)
"""From what cannot wait to what can."""

KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {"block": "#E02F44", "throttle": "#FF9830", "warn": "#5794F2"}
)
"""Of decisions."""
