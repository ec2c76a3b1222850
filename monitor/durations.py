"""Times as people write them: durations (``30s``, ``10m``, ``24h``, ``7d``) and moments."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

__all__ = ["parse_duration_ms", "parse_moment_ms"]

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


def parse_moment_ms(text: str, now_ms: int) -> int:
    """A moment given as such (UTC unless it says otherwise) or as how long ago it was.

    Raises:
        ValueError: neither; the message says what is.
    """
    with suppress(ValueError):
        return max(0, now_ms - parse_duration_ms(text.removesuffix(" ago")))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is neither a time such as 2026-03-02T09:00 (UTC) nor how long ago it was, "
            "such as 30m, 2h or 7d"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, int(moment.timestamp() * 1_000))
