"""Durations as people write them: ``30s``, ``10m``, ``24h``, ``7d``."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["parse_duration_ms"]

_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)")


def parse_duration_ms(text: object) -> int:
    """``"10m"`` as 600,000 ms.

    Raises:
        ValueError: not a whole number followed by ms, s, m, h or d.
    """
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 30s, 10m, 24h or 7d")
    return int(match[1]) * _UNITS_MS[match[2]]
