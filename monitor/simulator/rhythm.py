"""Day and night: how active people are at each hour of their own clock."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from monitor.simulator.choices import Floats
from monitor.simulator.rows import Integers

__all__ = ["HOUR_MS", "activity_at", "mean_activity"]

HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * HOUR_MS
_EPOCH_WEEKDAY: Final = 3
"""1 January 1970 was a Thursday; Monday is 0."""

_AT_HOME: Final = (
    0.62, 0.40, 0.26, 0.18, 0.15, 0.18, 0.30, 0.52, 0.74, 0.88, 0.98, 1.06,
    1.16, 1.16, 1.12, 1.14, 1.22, 1.34, 1.48, 1.64, 1.76, 1.74, 1.44, 1.00,
)  # fmt: skip
_AT_OFFICE: Final = (
    0.03, 0.02, 0.02, 0.02, 0.02, 0.04, 0.15, 0.60, 1.80, 2.60, 2.80, 2.60,
    1.80, 2.30, 2.60, 2.50, 2.20, 1.50, 0.70, 0.35, 0.20, 0.12, 0.08, 0.05,
)  # fmt: skip
_AT_OFFICE_ON_WEEKENDS: Final = 0.12


def activity_at(
    time_ms: int, utc_offsets_h: Floats, at_office: NDArray[np.bool_], strength: float
) -> Floats:
    """Activity at a moment, for each clock and kind of day; 1 is the mean of a working day.

    ``strength`` 0 flattens day and night to 1. Offices are nearly empty at weekends.
    """
    local_ms: Integers = time_ms + (utc_offsets_h * HOUR_MS).astype(np.int64)
    hours = (local_ms % _DAY_MS) / HOUR_MS
    level = np.where(at_office, _level(_AT_OFFICE, hours), _level(_AT_HOME, hours))
    is_weekend = (local_ms // _DAY_MS + _EPOCH_WEEKDAY) % 7 >= 5
    level = np.where(at_office & is_weekend, level * _AT_OFFICE_ON_WEEKENDS, level)
    return 1.0 - strength + strength * level


def mean_activity(
    start_ms: int,
    end_ms: int,
    utc_offsets_h: Floats,
    at_office: NDArray[np.bool_],
    strength: float,
) -> Floats:
    """Mean of ``activity_at`` over a stretch of time, sampled every ten minutes or finer."""
    steps = max(8, min(1008, (end_ms - start_ms) // (HOUR_MS // 6)))
    moments = np.linspace(start_ms, end_ms, int(steps)).astype(np.int64).tolist()
    levels = [activity_at(moment, utc_offsets_h, at_office, strength) for moment in moments]
    mean: Floats = np.mean(levels, axis=0)
    return mean


def _level(curve: tuple[float, ...], hours: Floats) -> Floats:
    # Values stand for the middle of their hour; the day is a circle.
    values = np.array(curve)
    level: Floats = np.interp(hours, np.arange(24) + 0.5, values / values.mean(), period=24)
    return level
