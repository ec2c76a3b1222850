"""Scores of a time series that somebody kept: counts per interval, or any measurement.

One row in, one score out, in order; the score of a row is a function of the rows up to it. Two
models share the idea (blended causal forecasts, robust spread, a tail probability) and the meaning
of the score with ``detectors.volume``: *counts* are what a segment's baseline is made for, small
whole numbers with zeros; *level* takes everything else, of any sign and scale.

A score is 1 / (1 + 1000 p): p is the chance of a value so far from the forecast, at the most
telling horizon. 0.5 is what happens once in 1,000 rows, 0.99 once in 100,000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from detectors import _series, _volume
from detectors.errors import DetectorError
from detectors.volume import VolumeSettings, surprise

if TYPE_CHECKING:
    from detectors._volume import Floats, Int64s

__all__ = ["SeriesError", "SeriesKind", "SeriesScores", "Side", "score_series"]

SeriesKind: TypeAlias = Literal["auto", "counts", "level"]
Side: TypeAlias = Literal["high", "low", "both"]

_LOOKS: Final = 1_000.0
_WARMUP_ROWS: Final = 30
_HORIZON_ROWS: Final = (1, 6, 24)
_SLOTS_PER_DAY: Final = 96
_HALF_LIFE_ROWS: Final = (2.0, 12.0, 288.0, 6.0, 144.0)
_SLOPE_HALF_LIFE_ROWS: Final = 24.0
_MEMORY_HALF_LIFE_ROWS: Final = 700.0
_DAY_HALF_LIFE_DAYS: Final = 4.0
_MOST_COUNTS_MEAN: Final = 50.0
_LEAST_COUNTS_VARIANCE: Final = 0.5
"""Of the mean. Whole numbers that vary much less than Poisson's do not count independent things."""


class SeriesError(DetectorError):
    """A series that cannot be scored: ``row`` (from 0) is where, -1 for all of it."""

    def __init__(self, message: str, *, row: int = -1) -> None:
        self.message = message
        self.row = row
        super().__init__(f"row {row}: {message}" if row >= 0 else message)


@dataclass(frozen=True, slots=True)
class SeriesScores:
    """For each of n rows, what was expected and the score, 0..1; NaN and 0 for the first rows.

    ``counted`` says which rows were scored as counts.
    """

    expected: Floats
    score: Floats
    counted: npt.NDArray[np.bool_]


def score_series(
    times_ms: Int64s, values: Floats, *, kind: SeriesKind = "auto", side: Side = "both"
) -> SeriesScores:
    """Score n values at times that do not go back.

    ``kind="auto"`` takes rows as counts for as long as all values so far look like counts:
    whole, not negative, mean of at most 50 and no less varied than counts are.

    Raises:
        SeriesError: times go back, a value is not finite, or is no count where counts are said.
    """
    assert kind in get_args(SeriesKind)
    assert side in get_args(Side)
    times_ms = np.ascontiguousarray(times_ms, dtype=np.int64)
    values = np.ascontiguousarray(values, dtype=np.float64)
    _check(times_ms, values, kind)
    counted = np.full(len(values), kind == "counts")
    if kind == "auto":
        counted = _look_like_counts(values)
    tails = np.full((len(values), 2), np.nan)
    expected = np.full(len(values), np.nan)
    if not counted.all():
        _series.score_levels(_level_plan(), times_ms, values, tails, expected)
    if counted.any():
        count_tails, count_expected = _score_counts(times_ms[counted], values[counted])
        tails[counted], expected[counted] = count_tails, count_expected
    expected[:_WARMUP_ROWS] = np.nan
    rare = tails[:, 0] if side == "high" else tails[:, 1]
    if side == "both":
        rare = np.minimum(1.0, 2.0 * tails.min(axis=1))
    return SeriesScores(expected, surprise(rare, _LOOKS), counted)


def _check(times_ms: Int64s, values: Floats, kind: SeriesKind) -> None:
    back = np.flatnonzero(np.diff(times_ms) < 0)
    if len(back):
        raise SeriesError("its time is before that of the row above", row=int(back[0]) + 1)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise SeriesError("its value is missing or not finite", row=int(wrong[0]))
    if kind == "counts":
        wrong = np.flatnonzero((values < 0) | (values != np.floor(values)))
        if len(wrong):
            row = int(wrong[0])
            raise SeriesError(f"{values[row]:g} is no count; take the kind level", row=row)


def _look_like_counts(values: Floats) -> npt.NDArray[np.bool_]:
    """For each row, whether all rows up to it look like counts; (n,), once False always False."""
    number = np.arange(1.0, len(values) + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.cumsum(values) / number
        variance = np.cumsum(values * values) / number - mean * mean
        unlike = (values < 0) | (values != np.floor(values)) | (mean > _MOST_COUNTS_MEAN)
        unlike |= (number >= _WARMUP_ROWS) & (variance < _LEAST_COUNTS_VARIANCE * mean)
    return ~np.logical_or.accumulate(unlike)


def _level_plan() -> _series.SeriesPlan:
    return _series.SeriesPlan(
        horizons=np.array(_HORIZON_ROWS, dtype=np.int64),
        decays=0.5 ** (1.0 / np.array(_HALF_LIFE_ROWS)),
        slope_decay=0.5 ** (1.0 / _SLOPE_HALF_LIFE_ROWS),
        memory_decay=0.5 ** (1.0 / _MEMORY_HALF_LIFE_ROWS),
        day_gain=1.0 - 0.5 ** (1.0 / _DAY_HALF_LIFE_DAYS),
        slots=_SLOTS_PER_DAY,
        warmup_rows=_WARMUP_ROWS,
    )


def _score_counts(times_ms: Int64s, values: Floats) -> tuple[Floats, Floats]:
    """Tail probabilities (n, 2) and expected counts (n,) of a segment whose buckets are rows.

    How long a bucket is, the first rows tell, which have no score yet. A row is a bucket however
    far from the one above; where buckets are missing, horizons begin anew.
    """
    gaps_ms = np.diff(times_ms[:_WARMUP_ROWS])
    gaps_ms = gaps_ms[gaps_ms > 0]
    bucket_ms = int(np.median(gaps_ms)) if len(gaps_ms) else 1
    bucket_ms = max(1, bucket_ms)
    slots = _SLOTS_PER_DAY
    while slots > 1 and bucket_ms > _volume.DAY_MS // slots:
        slots //= 2
    settings = VolumeSettings(
        bucket_ms=min(bucket_ms, _volume.DAY_MS),
        horizons_ms=tuple(rows * min(bucket_ms, _volume.DAY_MS) for rows in _HORIZON_ROWS),
        slots_per_day=slots,
        warmup_buckets=_WARMUP_ROWS,
        fast_half_life_ms=12 * bucket_ms,
        slow_half_life_ms=max(288 * bucket_ms, _volume.DAY_MS),
        ratio_half_life_ms=24 * bucket_ms,
        memory_half_life_ms=1_000 * bucket_ms,
    )
    buckets = np.rint((times_ms - times_ms[0]) / bucket_ms).astype(np.int64)
    buckets += times_ms[0] // bucket_ms
    plan = settings.plan()
    state = _volume.new_state(plan, 1, slots)
    out = np.empty((len(values), 3))
    _volume.score_counts(plan, state, values.astype(np.int64), buckets, out)
    return out[:, :2], out[:, 2]
