"""Volume anomalies: counts per segment against what is usual, learned in event time.

A *segment* is a part of the traffic that has a name: ``platform``, ``model=video-1``,
``guard_category=likeness``. Its events are counted in *buckets* of event time; a bucket is closed
when events are newer than its end by the time allowed for late ones. A closed bucket is scored at
several *horizons* (1 m, 10 m, 1 h: sums over the newest buckets), so that "tripled in an hour" is
found where every minute is unremarkable, and then learned from.

The score says how rarely chance does this: 1 / (1 + E), where E is how many such buckets a segment
would have in a day without any anomaly. 0.5 is what happens once a day, 0.999 once in 1,000 days;
a rule with ``volume_score >= 0.999`` on 100 segments has a false alarm in ten days, if the model
holds. ``volume_score`` looks for too many events only, ``volume_shift_score`` for too few as well.

How counts are forecast and what is learned: see ``detectors._volume``. There is no shape of the
week: a baseline of 7 days would need months to be learned, and is wrong at every holiday. The ratio
that compares today with usual days follows a weekend within hours.

Assumes that counts vary like a negative binomial around a level that drifts; events that come in
larger clusters widen the forecast as they are seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors import _volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "NOTHING_SEEN_MS",
    "NO_ROOM",
    "NO_SEGMENT",
    "SegmentBaselines",
    "SegmentCounts",
    "VolumeScores",
    "VolumeSettings",
    "surprise",
]

Floats: TypeAlias = npt.NDArray[np.float64]
Int64s: TypeAlias = npt.NDArray[np.int64]

NO_SEGMENT, NO_ROOM = -1, -2
"""In place of a row: there is no segment; it has no row, as the table is full."""
NOTHING_SEEN_MS: Final = np.iinfo(np.int64).min // 2

_HOUR_MS: Final = 3_600_000
_DAY_SLOPE_PER_HOUR: Final = 0.15
"""How fast a day's shape rises or falls, as long as it is not known: threefold in 7 hours."""
_LEAST: Final = 1e-300  # of a probability: what is smaller scores alike


@dataclass(frozen=True, slots=True)
class VolumeSettings:
    """How to count and what to forget. Horizons and half-lives are in milliseconds.

    ``horizons_ms`` are multiples of the bucket, ascending, beginning with it.
    ``late_ms`` is how long a bucket stays open after its end, for late events.
    ``warmup_buckets`` are not scored (and as many more per horizon are waited for).
    ``silence_ms``: a longer time without any event is not a drop, it is a time that was not seen.
    """

    bucket_ms: int = 60_000
    horizons_ms: tuple[int, ...] = (60_000, 600_000, 3_600_000)
    late_ms: int = 30_000
    slots_per_day: int = 48
    warmup_buckets: int = 30
    fast_half_life_ms: int = 1_800_000
    slow_half_life_ms: int = 86_400_000
    ratio_half_life_ms: int = 7_200_000
    memory_half_life_ms: int = 172_800_000
    day_half_life_days: float = 4.0
    silence_ms: int = 21_600_000

    def __post_init__(self) -> None:
        assert self.horizons_ms[0] == self.bucket_ms > 0, "the first horizon is a bucket"
        assert sorted(set(self.horizons_ms)) == list(self.horizons_ms), "horizons ascend"
        assert all(span_ms % self.bucket_ms == 0 for span_ms in self.horizons_ms)
        assert _volume.DAY_MS % self.slots_per_day == 0
        assert self.bucket_ms <= _volume.DAY_MS // self.slots_per_day, "a slot holds a bucket"
        assert self.warmup_buckets >= 1
        assert self.late_ms >= 0

    @property
    def buckets_per_day(self) -> float:
        """How many scores of a horizon a segment has in a day."""
        return _volume.DAY_MS / self.bucket_ms

    def plan(self) -> _volume.Plan:
        """The same as the kernel wants it."""

        def decay(half_life_ms: float) -> float:
            return float(0.5 ** (self.bucket_ms / half_life_ms))

        half_lives_ms = (self.fast_half_life_ms, self.slow_half_life_ms, self.ratio_half_life_ms)
        return _volume.Plan(
            bucket_ms=self.bucket_ms,
            horizons=np.array(self.horizons_ms, dtype=np.int64) // self.bucket_ms,
            decays=np.array([decay(half_life_ms) for half_life_ms in half_lives_ms]),
            memory_decay=decay(self.memory_half_life_ms),
            day_gain=1.0 - 0.5 ** (1.0 / self.day_half_life_days),
            unknown_spread=self._unknown_spread(),
            warmup_buckets=self.warmup_buckets,
        )

    def _unknown_spread(self) -> Floats:
        """How far off a level is because the day goes on: it lags by its evidence's mean age."""
        age_ms = self.fast_half_life_ms / math.log(2.0)
        lag_hours = (age_ms + np.array(self.horizons_ms) / 2) / _HOUR_MS
        return np.asarray((_DAY_SLOPE_PER_HOUR * lag_hours) ** 2)


@dataclass(frozen=True, slots=True)
class VolumeScores:
    """Scores of m segments in one bucket; of H horizons where there is a first dimension.

    A score is 0 while a segment is too new to be judged (at that horizon).
    """

    bucket: int
    rows: Int64s  # (m,)
    score: Floats  # (m,) too many: over all horizons, corrected for looking at several
    shift_score: Floats  # (m,) too many or too few
    horizon_score: Floats  # (H, m)
    horizon_shift_score: Floats  # (H, m)
    count: Floats  # (H, m)
    expected: Floats  # (H, m)

    @property
    def ratio(self) -> Floats:
        """Counts over expected ones, (H, m)."""
        return np.asarray(self.count / self.expected)


class SegmentBaselines:
    """What is usual for each of up to ``capacity`` segments; a segment is a row.

    Deterministic, and a function of the closed buckets alone. ``arrays`` is all there is.
    """

    def __init__(self, capacity: int, settings: VolumeSettings) -> None:
        self.settings = settings
        self._plan = settings.plan()
        self._state = _volume.new_state(self._plan, capacity, settings.slots_per_day)

    @property
    def arrays(self) -> Mapping[str, npt.NDArray[np.generic]]:
        """The state by name: arrays (capacity,) or (capacity, columns), to be read or written."""
        return self._state._asdict()

    def close(self, rows: Int64s, counts: Int64s, bucket: int) -> VolumeScores:
        """Score a bucket that is over, then learn from it; ``rows`` and ``counts`` are (m,).

        Rows are different ones. A bucket that is left out was not observed: that is not a count
        of zero. Buckets of a row ascend.
        """
        assert (self._state.newest_bucket[rows] < bucket).all(), "buckets of a row ascend"
        out = self._outputs(len(rows))
        _volume.close_rows(self._plan, self._state, rows, counts, bucket, out)
        return self._scores(rows, bucket, out)

    def peek(self, rows: Int64s, counts: Int64s, bucket: int) -> VolumeScores:
        """Score a bucket that is still open, as if nothing more came into it; learns nothing.

        So ``score`` can only grow with the bucket, and a burst shows while it happens. As long as
        the bucket before still waits for late events, only the first horizon is scored; the others
        have a score of 0 and NaN for their counts. ``shift_score`` means nothing before the end.
        """
        out = self._outputs(len(rows))
        _volume.peek_rows(self._plan, self._state, rows, counts, bucket, out)
        return self._scores(rows, bucket, out)

    def _outputs(self, rows: int) -> Floats:
        return np.empty((len(self._plan.horizons), _volume.OUTPUTS, rows))

    def _scores(self, rows: Int64s, bucket: int, out: Floats) -> VolumeScores:
        high, low = out[:, _volume.HIGH], out[:, _volume.LOW]
        shift = np.minimum(1.0, 2.0 * np.minimum(high, low))
        per_day = self.settings.buckets_per_day
        return VolumeScores(
            bucket=bucket,
            rows=rows,
            score=surprise(_least(high), per_day * len(out)),
            shift_score=surprise(_least(shift), per_day * len(out)),
            horizon_score=surprise(high, per_day),
            horizon_shift_score=surprise(shift, per_day),
            count=out[:, _volume.COUNT],
            expected=out[:, _volume.EXPECTED],
        )


def surprise(probabilities: Floats, looks: float) -> Floats:
    """Scores of tail probabilities when one looks so often: 1 / (1 + looks * p); 0 where NaN.

    Near one it is one minus the number of looks that chance would make as extreme.
    """
    scores: Floats = 1.0 / (1.0 + looks * np.maximum(probabilities, _LEAST))
    scores[np.isnan(probabilities)] = 0.0
    return scores


def _least(probabilities: Floats) -> Floats:
    """The smallest over the first dimension, leaving NaN out; NaN where there is nothing else."""
    least: Floats = np.fmin.reduce(probabilities, axis=0)
    return least


class SegmentCounts:
    """Counts events of segments into buckets, and closes buckets as event time goes on.

    Segments get rows as they come, up to ``capacity``. However events are cut into batches, the
    same buckets are closed with the same counts. What is counted beside: ``overflowed`` events of
    segments that found no room, ``late`` ones (per segment), of buckets that were closed.
    """

    def __init__(self, capacity: int, settings: VolumeSettings) -> None:
        self.settings = settings
        self.baselines = SegmentBaselines(capacity, settings)
        self.names: list[str] = []
        self.newest_ms = NOTHING_SEEN_MS
        self.late = 0
        self.overflowed = 0
        self._rows: dict[str, int] = {}
        open_buckets = settings.late_ms // settings.bucket_ms + 2
        self._open = np.zeros((capacity, open_buckets), dtype=np.int64)
        self._first = np.full(capacity, np.iinfo(np.int64).max, dtype=np.int64)

    @property
    def arrays(self) -> Mapping[str, npt.NDArray[np.generic]]:
        """The state of rows by name, that of the baselines too: (capacity,) or (capacity, ...).

        Beside it there are ``names`` (of the rows in use), ``newest_ms`` and the two counters.
        """
        return {
            "open_counts": self._open,
            "first_bucket": self._first,
            **self.baselines.arrays,
        }

    def restore(self, names: Sequence[str], newest_ms: int, late: int, overflowed: int) -> None:
        """Go on from a state, after ``arrays`` were written into."""
        self.names = list(names)
        self._rows = {name: row for row, name in enumerate(self.names)}
        self.newest_ms, self.late, self.overflowed = newest_ms, late, overflowed

    def rows(self, names: Sequence[str]) -> Int64s:
        """The rows of segments, new ones where they are not known yet; NO_ROOM if there is none."""
        found = np.empty(len(names), dtype=np.int64)
        for at, name in enumerate(names):
            row = self._rows.get(name, NO_ROOM)
            if row == NO_ROOM and len(self.names) < len(self._first):
                row = self._rows[name] = len(self.names)
                self.names.append(name)
            found[at] = row
        return found

    def add(self, times_ms: Int64s, rows: Int64s) -> list[VolumeScores]:
        """Count n events in the order of the log; returns the scores of the buckets they close.

        ``rows`` is (n, D): the segments that an event belongs to, NO_SEGMENT where it has fewer.
        """
        if not len(times_ms):
            return []
        newest_ms = np.maximum.accumulate(np.maximum(times_ms, self.newest_ms))
        buckets = times_ms // self.settings.bucket_ms
        in_time = buckets >= self._bound(newest_ms)
        self.late += int((rows[~in_time] >= 0).sum())
        self.overflowed += int((rows == NO_ROOM).sum())
        taken = in_time[:, None] & (rows >= 0)
        taken_rows = rows[taken]
        taken_buckets = np.broadcast_to(buckets[:, None], rows.shape)[taken]
        order = np.argsort(taken_buckets, kind="stable")
        taken_rows, taken_buckets = taken_rows[order], taken_buckets[order]
        np.minimum.at(self._first, taken_rows, taken_buckets)
        scores = []
        for bucket in self._over(newest_ms):
            start, end = np.searchsorted(taken_buckets, (bucket, bucket + 1))
            closed = self._close(bucket, taken_rows[start:end])
            if len(closed.rows):
                scores.append(closed)
        self.newest_ms = int(newest_ms[-1])
        still_open = taken_buckets >= self._bound(self.newest_ms)
        columns = taken_buckets[still_open] % self._open.shape[1]
        np.add.at(self._open, (taken_rows[still_open], columns), 1)
        return scores

    def advance(self, now_ms: int) -> list[VolumeScores]:
        """Let event time go on to ``now_ms`` where no event says so: silence becomes zeros."""
        return self.add(np.array([now_ms]), np.full((1, 1), NO_SEGMENT))

    def peek(self) -> VolumeScores | None:
        """Score the newest bucket so far (see ``SegmentBaselines.peek``); None before any event."""
        if self.newest_ms == NOTHING_SEEN_MS:
            return None
        bucket = self.newest_ms // self.settings.bucket_ms
        rows = np.flatnonzero(self._first[: len(self.names)] <= bucket)
        return self.baselines.peek(rows, self._open[rows, bucket % self._open.shape[1]], bucket)

    def _bound(self, newest_ms: Int64s | int) -> Int64s:
        """The first bucket that is open when the newest event has this time."""
        return np.asarray((newest_ms - self.settings.late_ms) // self.settings.bucket_ms)

    def _over(self, newest_ms: Int64s) -> Iterator[int]:
        """The buckets that end while the newest time goes on as in ``newest_ms`` (n,).

        Those in which nothing at all was seen for too long are left out.
        """
        first_ms = self.newest_ms if self.newest_ms != NOTHING_SEEN_MS else newest_ms[0]
        times_ms = np.concatenate(([first_ms], newest_ms))
        start = int(self._bound(first_ms))
        for at in np.flatnonzero(np.diff(times_ms) > self.settings.silence_ms):
            last = int(times_ms[at]) // self.settings.bucket_ms
            yield from range(start, last + 1)
            start = max(last + 1, int(self._bound(times_ms[at + 1])))
        yield from range(start, int(self._bound(times_ms[-1])))

    def _close(self, bucket: int, more_rows: Int64s) -> VolumeScores:
        column = self._open[: len(self.names), bucket % self._open.shape[1]]
        counts = column + np.bincount(more_rows, minlength=len(self.names))
        column[:] = 0
        rows = np.flatnonzero(self._first[: len(self.names)] <= bucket)
        return self.baselines.close(rows, counts[rows], bucket)
