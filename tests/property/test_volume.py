"""Volume: however events are cut, whatever comes later, a score is the same."""

from __future__ import annotations

from typing import get_args

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from detectors.series import SeriesKind, Side, score_series
from detectors.volume import NO_SEGMENT, SegmentBaselines, SegmentCounts, VolumeSettings

_SECOND_MS = 1_000
_SETTINGS = VolumeSettings(
    bucket_ms=60 * _SECOND_MS,
    horizons_ms=(60 * _SECOND_MS, 300 * _SECOND_MS, 1_200 * _SECOND_MS),
    warmup_buckets=5,
    silence_ms=3_600 * _SECOND_MS,
)
_NAMES = ("platform", "model=a", "model=b", "country=FR", "country=NL")


@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 600), max_size=20),
    disorder_ms=st.sampled_from([0, 20_000, 300_000]),
    pause_ms=st.sampled_from([0, 3_000_000, 9_000_000]),
)
def test_batches_do_not_matter(seed: int, cuts: list[int], disorder_ms: int, pause_ms: int) -> None:
    """Neither for the scores nor for a byte of the state; no event is lost or counted twice."""
    rng = np.random.default_rng(seed)
    times_ms = 10**12 + np.sort(rng.integers(0, 7_200_000, 600))
    times_ms[300:] += pause_ms
    times_ms += rng.integers(-disorder_ms, disorder_ms + 1, 600)
    rows = rng.integers(NO_SEGMENT, len(_NAMES), (600, 2))

    def scored(edges: list[int]) -> tuple[SegmentCounts, list[tuple[int, list[float]]]]:
        counted = SegmentCounts(8, _SETTINGS)
        counted.rows(_NAMES)
        closed = [
            scores
            for start, end in zip([0, *edges], [*edges, 600], strict=True)
            for scores in counted.add(times_ms[start:end], rows[start:end])
        ]
        total = sum(float(scores.count[0].sum()) for scores in closed)
        waiting = int(counted.arrays["open_counts"].sum())
        assert total + waiting + counted.late == (rows >= 0).sum()
        return counted, [(s.bucket, [*s.rows, *s.score, *s.count.ravel()]) for s in closed]

    whole, whole_scores = scored([])
    parts, parts_scores = scored(sorted(cuts))
    assert parts_scores == whole_scores
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(parts.arrays[name], array, err_msg=name)


@given(
    seed=st.integers(0, 2**32 - 1),
    mean=st.sampled_from([0.02, 1.0, 30.0, 2_000.0]),
    last=st.lists(st.integers(0, 5_000), min_size=2, max_size=6, unique=True),
)
def test_a_bucket_is_not_in_its_own_baseline(seed: int, mean: float, last: list[int]) -> None:
    """What is expected does not depend on the count; more of it never scores less."""
    counts = np.random.default_rng(seed).poisson(mean, 150)
    row = np.zeros(1, dtype=np.int64)
    found = []
    for count in sorted(last):
        baselines = SegmentBaselines(1, _SETTINGS)
        for bucket, before in enumerate(counts):
            baselines.close(row, np.array([before]), bucket)
        found.append(baselines.close(row, np.array([count]), len(counts)))
    assert len({scores.expected.tobytes() for scores in found}) == 1
    assert [s.score[0] for s in found] == sorted(s.score[0] for s in found)
    assert all(0 <= score <= 1 for s in found for score in (*s.score, *s.shift_score))


_VALUES = st.one_of(
    st.lists(st.integers(0, 40), min_size=1, max_size=250),
    st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=250),
    st.lists(st.sampled_from([0.0, -5.0, 1e-9, 3.0]), min_size=1, max_size=250),
)


@given(
    values=_VALUES,
    seed=st.integers(0, 2**32 - 1),
    cut=st.floats(0, 1),
    kind=st.sampled_from(["auto", "level"]),
    side=st.sampled_from(get_args(Side)),
)
def test_the_score_of_a_row_uses_no_later_row(
    values: list[float], seed: int, cut: float, kind: SeriesKind, side: Side
) -> None:
    """Scores of a prefix are the prefix of the scores, to the bit."""
    rng = np.random.default_rng(seed)
    series = np.array(values, dtype=np.float64)
    if len(series) > 60:  # Long enough that there is something to score.
        series[-30:] += rng.integers(0, 2) * 7
    gaps_ms = rng.choice([0, 300_000, 300_000, 300_000, 86_400_000], len(series))
    times_ms: npt.NDArray[np.int64] = 10**12 + np.cumsum(gaps_ms)
    whole = score_series(times_ms, series, kind=kind, side=side)
    length = max(1, int(cut * len(series)))
    prefix = score_series(times_ms[:length], series[:length], kind=kind, side=side)
    np.testing.assert_array_equal(prefix.score, whole.score[:length])
    np.testing.assert_array_equal(prefix.expected, whole.expected[:length])
    assert np.isfinite(whole.score).all()
    assert ((whole.score >= 0) & (whole.score <= 1)).all()


@given(
    seed=st.integers(0, 2**32 - 1),
    factor=st.sampled_from([0.001, 64.0, 1e6]),
    shift=st.sampled_from([-1e4, 0.0, 512.0]),
)
def test_levels_of_any_scale_are_judged_alike(seed: int, factor: float, shift: float) -> None:
    """Seconds or milliseconds, degrees Celsius or Kelvin: the same scores, but for rounding."""
    values = np.random.default_rng(seed).normal(size=200)
    values[150] += 12
    times_ms = np.arange(200) * 300_000
    plain = score_series(times_ms, values, kind="level").score
    moved = score_series(times_ms, factor * (values + shift), kind="level").score
    np.testing.assert_allclose(moved, plain, rtol=1e-4, atol=1e-6)
