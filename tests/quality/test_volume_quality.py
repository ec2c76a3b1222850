"""What the volume baselines find and how often they are wrong: real traces, and series with truth.

Tuned on other seeds. Figures with their tolerances; ``docs/analysis.md`` tells them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from detectors.volume import SegmentBaselines, VolumeSettings
from tests.support.azure import azure_events

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]

_DAY: Final = 1_440
_ALARM: Final = 0.999
_AZURE_BUCKET_MS: Final = 5_000
_AZURE: Final = VolumeSettings(
    bucket_ms=_AZURE_BUCKET_MS,
    horizons_ms=(_AZURE_BUCKET_MS, 10 * _AZURE_BUCKET_MS, 60 * _AZURE_BUCKET_MS),
)


class _Found(NamedTuple):
    """Of n segments and T buckets, each (n, T)."""

    score: Floats
    shift_score: Floats
    first_score: Floats  # of the first horizon alone


def _run(counts: Int64s, settings: VolumeSettings) -> _Found:
    baselines = SegmentBaselines(len(counts), settings)
    rows = np.arange(len(counts))
    scores = [
        baselines.close(rows, counts[:, at], 20_000 * _DAY + at) for at in range(counts.shape[1])
    ]
    return _Found(
        np.stack([s.score for s in scores], axis=1),
        np.stack([s.shift_score for s in scores], axis=1),
        np.stack([s.horizon_score[0] for s in scores], axis=1),
    )


def _azure_counts(folder: Path, trace: str) -> Int64s:
    times_ms = azure_events(folder, trace)["time_ms"].to_numpy()
    buckets = times_ms // _AZURE_BUCKET_MS
    # The trace ends within the last bucket, which is no drop.
    return np.bincount(buckets - buckets[0])[None, :-1]


def test_the_smooth_trace_is_silent_and_bursts_of_the_other_are_marked(data_dir: Path) -> None:
    """Both are an hour of real requests, in buckets of 5 s, without a day's history."""
    smooth = _run(_azure_counts(data_dir, "conv"), _AZURE)
    counts = _azure_counts(data_dir, "code")
    bursty = _run(counts, _AZURE)
    bursts = counts[0] >= 100  # Eight times the mean; the smooth trace reaches two times.
    assert smooth.score.max() < 0.02
    assert smooth.shift_score.max() < 0.5
    assert bursts.sum() == 12
    assert bursty.score[0, bursts].min() > 2 * smooth.score.max()
    assert (bursty.score[0, bursts] >= 0.9).mean() >= 0.5
    assert (bursty.score[0] >= _ALARM).sum() >= 20
    assert bursty.score[0, counts[0].argmax()] > 0.9999
    # What is marked is near a burst: within the five minutes of the longest horizon.
    near = np.convolve(bursts, np.ones(60))[: len(bursts)] > 0
    assert not ((bursty.score[0] >= _ALARM) & ~near).any()


def _series(rng: np.random.Generator, mean: float, days: int, segments: int) -> Floats:
    """Means (n, T) with a day shape of 3 : 1, growth of 3 % a day, levels that drift by 10 %."""
    at = np.arange(days * _DAY) / _DAY
    phase = rng.uniform(0, 1, (segments, 1))
    shape = 0.55 * np.sin(2 * np.pi * (at + phase)) + 0.15 * np.sin(4 * np.pi * (at + 3 * phase))
    drift = np.empty((segments, len(at)))
    drift[:, 0] = rng.normal(size=segments)
    keep = np.exp(-1 / 30)
    shocks = rng.normal(size=drift.shape) * np.sqrt(1 - keep**2)
    for minute in range(1, len(at)):
        drift[:, minute] = keep * drift[:, minute - 1] + shocks[:, minute]
    return np.asarray(mean * np.exp(shape + 0.1 * drift - 0.005 + 0.03 * at))


def _counts(rng: np.random.Generator, means: Floats, cluster: float) -> Int64s:
    """Negative binomial counts: ``cluster`` is their variance over their mean."""
    return np.asarray(rng.negative_binomial(np.maximum(means, 1e-12) / (cluster - 1), 1 / cluster))


def _episodes(flags: npt.NDArray[np.bool_]) -> int:
    """Runs of alarms, an hour apart or more."""
    found = 0
    for row in flags:
        at = np.flatnonzero(row)
        found += len(at) and 1 + int((np.diff(at) > 60).sum())
    return found


@pytest.mark.parametrize("mean", [0.1, 3.0, 30.0, 1_000.0])
def test_false_alarms_are_as_rare_as_the_score_says(mean: float) -> None:
    """0.999 once in 1,000 segment-days; 120 of them, where a fortieth a day is allowed for."""
    rng = np.random.default_rng(9_001)
    segments, days = 20, 6
    found = _run(_counts(rng, _series(rng, mean, days, segments), 2.0), VolumeSettings())
    for scores in (found.score, found.shift_score):
        assert _episodes(scores >= _ALARM) <= segments * days // 40
    assert _episodes(found.score >= 0.5) <= 1.2 * segments * days


@pytest.mark.parametrize(
    ("mean", "factor", "minutes", "within_minutes", "recall"),
    [
        (10.0, 3.0, 60, 60, 0.95),
        (100.0, 3.0, 60, 10, 0.95),
        (1_000.0, 2.0, 60, 15, 0.95),
        (1.0, 10.0, 10, 10, 0.9),
        (10.0, 0.0, 60, 20, 0.95),
        (100.0, 0.3, 60, 15, 0.95),
    ],
)
def test_anomalies_are_found_in_time(
    mean: float, factor: float, minutes: int, within_minutes: int, recall: float
) -> None:
    """One in each of 20 segments, on the fourth day: tripled, ten times as many, a third, gone."""
    rng = np.random.default_rng(9_002)
    means = _series(rng, mean, 4, 20)
    starts = rng.integers(3 * _DAY, 4 * _DAY - minutes, 20)
    for segment, start in enumerate(starts):
        means[segment, start : start + minutes] *= factor
    found = _run(_counts(rng, means, 2.0), VolumeSettings())
    scores = found.score if factor > 1 else found.shift_score
    hits = [
        bool((scores[segment, start : start + within_minutes] >= _ALARM).any())
        for segment, start in enumerate(starts)
    ]
    assert np.mean(hits) >= recall
