"""Baselines of segments: what they take as usual, what they find, what they forget."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from detectors._tails import beta_tail, count_tails
from detectors.volume import (
    NO_ROOM,
    NO_SEGMENT,
    SegmentBaselines,
    SegmentCounts,
    VolumeScores,
    VolumeSettings,
    surprise,
)

_SETTINGS = VolumeSettings()
_MIDNIGHT = 20_000 * 1_440  # the number of a bucket
_MINUTE_MS = 60_000


def _run(counts: npt.NDArray[np.int64], settings: VolumeSettings = _SETTINGS) -> list[VolumeScores]:
    """Scores of one segment whose buckets hold ``counts`` (n,)."""
    return _go_on(SegmentBaselines(1, settings), counts, _MIDNIGHT)


def _go_on(
    baselines: SegmentBaselines, counts: npt.NDArray[np.int64], bucket: int
) -> list[VolumeScores]:
    row = np.zeros(1, dtype=np.int64)
    return [
        baselines.close(row, counts[at : at + 1].astype(np.int64), bucket + at)
        for at in range(len(counts))
    ]


def _poisson(mean: float, buckets: int, seed: int = 1) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).poisson(mean, buckets)


@pytest.mark.parametrize(("mean", "variance"), [(0.02, 0.05), (3.0, 3.1), (40.0, 200.0)])
def test_tails_of_counts_are_sums_of_probabilities(mean: float, variance: float) -> None:
    size, share = mean**2 / (variance - mean), mean / variance
    masses = [
        math.exp(
            math.lgamma(k + size)
            - math.lgamma(size)
            - math.lgamma(k + 1)
            + size * math.log(share)
            + k * math.log1p(-share)
        )
        for k in range(3_000)
    ]
    for count in (0, 1, 2, 5, 30, 100):
        upper, lower = count_tails(float(count), mean, variance)
        assert upper == pytest.approx(math.fsum(masses[count:]), rel=1e-9)
        assert lower == pytest.approx(math.fsum(masses[: count + 1]), rel=1e-9)


def test_tails_know_their_simple_cases() -> None:
    assert beta_tail(1.0, 3.0, 0.2) == pytest.approx(1 - 0.8**3, rel=1e-12)
    assert (beta_tail(2.0, 3.0, 0.0), beta_tail(2.0, 3.0, 1.0)) == (0.0, 1.0)


def test_a_score_is_what_chance_does_in_a_day() -> None:
    scores = surprise(np.array([1.0, 1 / 1_440, 1e-3 / 1_440, math.nan]), 1_440.0)
    assert scores == pytest.approx([1 / 1_441, 0.5, 0.999, 0.0], abs=1e-6)


def test_a_new_segment_is_not_judged_until_it_is_known() -> None:
    scores = _run(_poisson(20.0, 200))
    first = [next(at for at, s in enumerate(scores) if s.horizon_score[h, 0] > 0) for h in range(3)]
    assert first == [_SETTINGS.warmup_buckets, 39, 89]
    assert all(np.isfinite(s.score).all() for s in scores)


def test_two_events_of_a_tiny_segment_are_nothing_twenty_are() -> None:
    counts = np.zeros(3_000, dtype=np.int64)
    counts[::100] = 1
    counts[2_950] = 2
    assert max(s.score[0] for s in _run(counts)) < 0.9
    counts[2_950] = 20
    assert _run(counts)[2_950].score[0] > 0.999


def test_an_hour_shows_what_no_minute_does() -> None:
    counts = _poisson(1.0, 3_000)
    counts[2_900:2_960] = _poisson(3.0, 60, seed=2)
    hour = _run(counts)[2_900:2_960]
    assert max(s.horizon_score[0, 0] for s in hour) < 0.9
    assert hour[-1].horizon_score[2, 0] > 0.999
    assert hour[-1].ratio[2, 0] == pytest.approx(3.0, rel=0.3)


def test_a_drop_is_a_shift_and_no_excess() -> None:
    counts = _poisson(30.0, 3_000)
    counts[2_990:] = 0
    last = _run(counts)[-1]
    assert last.shift_score[0] > 0.999
    assert last.score[0] < 0.01


def test_a_burst_does_not_become_the_baseline() -> None:
    calm, burst = _poisson(50.0, 2_000), _poisson(50.0, 2_000)
    burst[1_800:1_820] *= 20
    usual, after = _run(calm)[-1].expected, _run(burst)[-1].expected
    assert after == pytest.approx(usual, rel=0.1)


def test_a_new_level_becomes_the_baseline() -> None:
    counts = np.concatenate((_poisson(20.0, 2_000), _poisson(60.0, 2_000, seed=2)))
    scores = _run(counts)
    assert scores[2_000].score[0] > 0.999
    assert max(s.score[0] for s in scores[-500:]) < 0.9
    assert scores[-1].expected[0, 0] == pytest.approx(60.0, rel=0.15)


def test_the_time_of_day_is_learned() -> None:
    """What is a surge on the first day is expected on the fourth, while it goes up."""
    minute = np.arange(4 * 1_440) % 1_440
    mean = np.interp(minute, [480, 600, 720, 840], [40.0, 200.0, 200.0, 40.0])
    scores = _run(np.random.default_rng(3).poisson(mean))
    first_day = [s.score[0] for s in scores[480:660]]
    fourth_day = [s.score[0] for s in scores[3 * 1_440 + 480 : 3 * 1_440 + 660]]
    assert max(first_day) > 0.999
    assert max(fourth_day) < 0.9
    assert scores[3 * 1_440 + 660].expected[0, 0] == pytest.approx(200.0, rel=0.2)


def test_what_was_not_observed_is_not_zero() -> None:
    baselines = SegmentBaselines(1, _SETTINGS)
    _go_on(baselines, _poisson(50.0, 500), _MIDNIGHT)
    after = _go_on(baselines, _poisson(50.0, 100, seed=2), _MIDNIGHT + 700)
    assert max(s.shift_score[0] for s in after) < 0.9
    assert after[0].horizon_score[1, 0] == 0.0  # Its ten minutes are not all there.


def test_segments_know_nothing_of_one_another() -> None:
    counts = np.random.default_rng(5).poisson(10.0, (400, 7))
    together = SegmentBaselines(7, _SETTINGS)
    rows = np.arange(7)
    for at in range(400):
        together.close(rows, counts[at], _MIDNIGHT + at)
    alone = _run(counts[:, 4])
    peek = together.peek(rows, counts[0], _MIDNIGHT + 400)
    assert together.arrays["evidence"][4].tolist() == pytest.approx(
        _alone(counts[:, 4]).arrays["evidence"][0].tolist(), abs=0
    )
    assert len(alone) == 400
    assert len(peek.score) == 7


def _alone(counts: npt.NDArray[np.int64]) -> SegmentBaselines:
    baselines = SegmentBaselines(1, _SETTINGS)
    _go_on(baselines, counts, _MIDNIGHT)
    return baselines


def test_an_open_bucket_is_scored_early_and_learns_nothing() -> None:
    baselines = _alone(_poisson(10.0, 500))
    before = {name: array.copy() for name, array in baselines.arrays.items()}
    row, bucket = np.zeros(1, dtype=np.int64), _MIDNIGHT + 500
    growing = [baselines.peek(row, np.array([n]), bucket).score[0] for n in range(0, 80, 5)]
    assert growing == sorted(growing)
    assert growing[-1] > 0.999
    assert all(
        np.array_equal(array, before[name], equal_nan=array.dtype.kind == "f")
        for name, array in baselines.arrays.items()
    )
    assert baselines.close(row, np.array([75]), bucket).score[0] == growing[-1]


def test_a_state_goes_on_as_if_nothing_had_happened() -> None:
    counts = _poisson(15.0, 3_000)
    whole, first, second = (SegmentBaselines(1, _SETTINGS) for _ in range(3))
    expected = _go_on(whole, counts, _MIDNIGHT)[2_000:]
    _go_on(first, counts[:2_000], _MIDNIGHT)
    for name, array in first.arrays.items():
        second.arrays[name][...] = array
    found = _go_on(second, counts[2_000:], _MIDNIGHT + 2_000)
    assert [s.score[0] for s in found] == [s.score[0] for s in expected]


def test_buckets_close_when_late_events_had_their_time() -> None:
    counted = SegmentCounts(2, _SETTINGS)
    rows = counted.rows(["platform"])
    start_ms = _MIDNIGHT * _MINUTE_MS

    def at(*seconds: int) -> list[VolumeScores]:
        times_ms = start_ms + 1_000 * np.array(seconds)
        return counted.add(times_ms, np.repeat(rows[:, None], len(times_ms), axis=0))

    assert at(5, 50, 70, 89) == []
    closed = at(55, 91, 59, 95)  # The third is too late.
    assert [(s.bucket - _MIDNIGHT, s.count[0, 0]) for s in closed] == [(0, 3.0)]
    assert counted.late == 1
    later = counted.advance(start_ms + 270_000)
    assert [s.count[0, 0] for s in later] == [4.0, 0.0, 0.0]


def test_the_table_of_segments_is_bounded_and_says_so() -> None:
    counted = SegmentCounts(2, _SETTINGS)
    rows = counted.rows(["platform", "model=a", "model=b", "model=a"])
    assert rows.tolist() == [0, 1, NO_ROOM, 1]
    counted.add(np.array([10**12, 10**12]), np.array([[0, 1], [NO_SEGMENT, NO_ROOM]]))
    assert counted.overflowed == 1
    assert counted.names == ["platform", "model=a"]


def test_a_long_silence_of_everything_is_no_drop() -> None:
    counted = SegmentCounts(1, _SETTINGS)
    row = counted.rows(["platform"])[:, None]
    for minute in range(300):
        counted.add(np.full(40, 10**12 + minute * _MINUTE_MS), np.repeat(row, 40, axis=0))
    short = counted.advance(counted.newest_ms + 3_600_000)
    assert max(s.shift_score[0] for s in short) > 0.999
    long = counted.advance(counted.newest_ms + 86_400_000)
    assert len(long) <= 1


def test_counts_and_names_come_back_with_a_state() -> None:
    first, second = SegmentCounts(4, _SETTINGS), SegmentCounts(4, _SETTINGS)
    times_ms = 10**12 + np.arange(4_000) * 700
    rows = first.rows(["platform", "model=a"])[np.arange(4_000) % 2][:, None]
    first.add(times_ms[:2_000], rows[:2_000])
    for name, array in first.arrays.items():
        second.arrays[name][...] = array
    second.restore(first.names, first.newest_ms, first.late, first.overflowed)
    expected, found = (c.add(times_ms[2_000:], rows[2_000:]) for c in (first, second))
    assert [s.score.tolist() for s in found] == [s.score.tolist() for s in expected]
    assert second.rows(["model=a"]).tolist() == [1]
    assert second.peek() is not None
