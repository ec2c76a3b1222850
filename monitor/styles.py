"""Colours that mean the same wherever they are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from detectors.pack import Severity

__all__ = ["SEVERITY_STYLES"]

SEVERITY_STYLES: Final[dict[Severity, str]] = {
    "critical": "bold white on red",
    "high": "bold red",
    "medium": "bold yellow",
    "low": "cyan",
    "info": "bright_black",
}
