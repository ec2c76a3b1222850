"""How well scores of a series tell labelled anomalies from the rest: synthetic, seeds not tuned on.

Beside it a rolling z-score over a day: what one would write in five minutes.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from detectors.series import score_series

Floats = npt.NDArray[np.float64]

_ROWS: Final = 4_032  # Two weeks of five minutes.
_DAY_ROWS: Final = 288
_TIMES_MS: Final = 1_400_000_000_000 + np.arange(_ROWS) * 300_000
_SEEDS: Final = range(500, 506)
_START: Final = 600
_LEAST_AREA: Final = MappingProxyType(
    {
        "spike": 0.99,
        "shift": 0.93,
        "jump": 0.90,
        "missing peak": 0.88,
        "burst in heavy tail": 0.92,
        "slow failure": 0.85,
        "latency": 0.97,
        "tiny and negative": 0.98,
        "drop of counts": 0.98,
        "variance": 0.90,
    }
)


class _Series(NamedTuple):
    values: Floats
    start: int  # of the anomaly
    rows: int


def _drifting(rng: np.random.Generator, keep: float) -> Floats:
    shocks = rng.normal(size=_ROWS) * np.sqrt(1 - keep**2)
    values = np.empty(_ROWS)
    values[0] = rng.normal()
    for row in range(1, _ROWS):
        values[row] = keep * values[row - 1] + shocks[row]
    return values


def _make(kind: str, seed: int) -> _Series:
    rng = np.random.default_rng(seed)
    start = int(rng.integers(1_500, 3_700))
    noise = rng.normal(size=_ROWS)
    day = 2 * np.pi * np.arange(_ROWS) / _DAY_ROWS
    daily = 20 + 60 * np.clip(3 * np.sin(day), 0, 1) + 2 * noise
    sign = float(rng.choice([-1, 1]))
    rows = {"spike": 3, "tiny and negative": 12, "drop of counts": 12, "latency": 20}.get(kind, 60)
    if kind == "missing peak":
        start, rows = _DAY_ROWS * int(rng.integers(6, 13)), _DAY_ROWS // 2
    at = slice(start, start + rows)
    if kind == "spike":
        values = 40 + 2 * _drifting(rng, 0.5)
        values[at] += sign * rng.uniform(15, 30)
    elif kind == "shift":
        values = 0.1 + 0.01 * np.abs(noise) + 0.05 * (rng.random(_ROWS) < 0.01)
        values[at] += 0.06
    elif kind == "jump":
        values = daily
        values[at] += 15 * sign
    elif kind == "missing peak":
        values = daily
        values[at] = 20 + 2 * noise[at]
    elif kind == "burst in heavy tail":
        mean = 20 * np.exp(0.6 * np.sin(day) + 0.4 * _drifting(rng, 0.9))
        values = rng.poisson(mean).astype(np.float64)
        values[rng.integers(0, _ROWS, 25)] += np.floor(15 * rng.pareto(2, 25))
        values[at] += np.floor(rng.uniform(4, 8) * mean[at])
    elif kind == "slow failure":
        values = 80 + 4 * _drifting(rng, 0.995) + 0.5 * noise
        values[at] -= np.linspace(0, 20, rows)
    elif kind == "latency":
        values = 45 + 3 * noise + (rng.random(_ROWS) < 0.02) * rng.exponential(20, _ROWS)
        values[at] += 10 + rng.exponential(15, rows)
    elif kind == "tiny and negative":
        values = -5 + 0.001 * _drifting(rng, 0.8)
        values[at] += 0.006
    elif kind == "drop of counts":
        values = rng.poisson(8 * np.exp(0.5 * np.sin(day))).astype(np.float64)
        values[at] = 0
    else:
        values = 50 + 2 * noise
        values[at] = 50 + 8 * noise[at]
    return _Series(values, start, rows)


def _area(scores: Floats, series: _Series) -> float:
    """Under the ROC curve: the chance that a row of the anomaly scores above another (ties: half).

    Rows before there is a history are left out.
    """
    inside = scores[series.start : series.start + series.rows]
    outside = np.sort(np.delete(scores, slice(series.start, series.start + series.rows))[_START:])
    below = np.searchsorted(outside, inside, "left") + np.searchsorted(outside, inside, "right")
    return float(below.mean()) / (2 * len(outside))


def _rolling_deviation(values: Floats) -> Floats:
    """The naive peer: deviations from the mean of the day before, in its standard deviations."""
    windows = np.lib.stride_tricks.sliding_window_view(values, _DAY_ROWS)[:-1]
    spread = np.maximum(windows.std(axis=1), 1e-12)
    deviation = np.abs(values[_DAY_ROWS:] - windows.mean(axis=1)) / spread
    return np.concatenate((np.zeros(_DAY_ROWS), deviation))


def _areas(kind: str) -> tuple[float, float]:
    found = [
        (
            _area(score_series(_TIMES_MS, series.values).score, series),
            _area(_rolling_deviation(series.values), series),
        )
        for series in (_make(kind, seed) for seed in _SEEDS)
    ]
    ours, naive = np.mean(found, axis=0)
    return float(ours), float(naive)


@pytest.mark.parametrize("kind", _LEAST_AREA)
def test_anomalies_score_above_the_rest(kind: str) -> None:
    ours, naive = _areas(kind)
    print(f"{kind}: area {ours:.3f}, rolling deviation {naive:.3f}")  # noqa: T201 - shown by -s
    assert ours >= _LEAST_AREA[kind]
    assert ours >= naive - 0.02


def test_a_series_without_anomaly_is_quiet() -> None:
    for seed in _SEEDS:
        values, start, rows = _make("jump", seed)
        values[start : start + rows] = values[start - _DAY_ROWS : start - _DAY_ROWS + rows]
        assert (score_series(_TIMES_MS, values).score[_START:] >= 0.5).sum() <= 4
