"""The kernel of volume baselines: closes a bucket of many segments, one row of state each.

How many events of a segment a bucket will hold is forecast by three *experts*: a fast level, a slow
level, and the usual count at this time of day times a ratio (how today compares). Each is the mean
of a gamma posterior whose evidence fades: counts over exposure. They are blended by how well
each did lately. A *horizon* is a sum over the newest buckets; its forecast was made before the
first of them, so that nothing is in its own baseline.

A count is taken as negative binomial around the forecast m, of variance c·m + a·m²: c tells how
clustered events are, a how much the level itself varies. Both are learned per horizon from squared
errors of forecasts (weighted least squares, with a prior). Everything that is learned is clipped
a few deviations from the forecast, so that a burst does not become the baseline.

The usual count of a slot of the day is corrected only when that slot comes again: what a day was
like changes the forecasts of the next one, never its own.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

from detectors._tails import count_tails

__all__ = [
    "COUNT",
    "DAY_MS",
    "EXPECTED",
    "HIGH",
    "LOW",
    "OUTPUTS",
    "Plan",
    "State",
    "close_rows",
    "new_state",
    "peek_rows",
    "score_counts",
]

Floats: TypeAlias = npt.NDArray[np.float64]
Floats32: TypeAlias = npt.NDArray[np.float32]
Int64s: TypeAlias = npt.NDArray[np.int64]

DAY_MS: Final = 86_400_000
NEVER: Final = np.iinfo(np.int64).min

HIGH, LOW, COUNT, EXPECTED = 0, 1, 2, 3
"""What is written per horizon: the probability of so many or more, and of so few or less, both NaN
while a segment is new; count; expected count."""
OUTPUTS: Final = 4

_FAST, _SLOW, _SEASON = 0, 1, 2
_EXPERTS: Final = 3
_PRIOR_COUNTS: Final = 0.5  # of a level, in one bucket
_PRIOR_RATIO_COUNTS: Final = 5.0  # for a ratio of one
_CLUSTER, _SPREAD = 3.0, 0.04
"""The prior of c and a: events come in threes, and levels vary by 20 %."""
_PRIOR_BUCKETS: Final = 20.0
_CLIP_DEVIATIONS: Final = 3.0
_CLIP_COUNTS: Final = 5.0  # at least so many above the forecast pass unclipped
_EXPERT_CLIP: Final = 4.0  # Errors of experts count so many times further than the blend's.
_LEAST_ERROR: Final = 0.05
_LEAST_MEAN: Final = 1e-6


class Plan(NamedTuple):
    """What does not change: sizes and decays (per bucket)."""

    bucket_ms: int
    horizons: Int64s  # (H,) buckets, the first is 1
    decays: Floats  # (3,) of the experts' evidence
    memory_decay: float  # of errors and dispersion
    day_gain: float  # of a day's counts in what is usual, once there were many days
    unknown_spread: Floats  # (H,) added to a until the day's shape is known
    warmup_buckets: int


class State(NamedTuple):
    """Rows of n segments: H horizons, 3 experts, K slots a day, R remembered buckets."""

    newest_bucket: Int64s  # (n,) the last one closed
    run_buckets: Int64s  # (n,) closed without a gap up to that one
    seen_buckets: Int64s  # (n,)
    evidence: Floats  # (n, 3) faded counts
    exposure: Floats  # (n, 3) faded buckets; of the season: usual counts
    errors: Floats  # (n, H * 3) faded mean squared errors in variances
    moments: Floats  # (n, H * 5) faded sums of the regression of variances
    today_counts: Floats  # (n, K) since the slot began
    today_buckets: Floats32  # (n, K)
    usual: Floats  # (n, K) counts per bucket
    usual_days: Floats32  # (n, K) days that are in it
    past_counts: Floats32  # (n, R) ring by bucket number
    past_usual: Floats32  # (n, R) NaN: not known
    past_levels: Floats32  # (n, R * 3) means of the experts after the bucket


def new_state(plan: Plan, capacity: int, slots: int) -> State:
    """Rows without history."""
    horizons = len(plan.horizons)
    ring = max(int(plan.horizons[-1]), plan.warmup_buckets)
    return State(
        newest_bucket=np.full(capacity, NEVER, dtype=np.int64),
        run_buckets=np.zeros(capacity, dtype=np.int64),
        seen_buckets=np.zeros(capacity, dtype=np.int64),
        evidence=np.zeros((capacity, _EXPERTS)),
        exposure=np.zeros((capacity, _EXPERTS)),
        errors=np.ones((capacity, horizons * _EXPERTS)),
        moments=np.zeros((capacity, horizons * 5)),
        today_counts=np.zeros((capacity, slots)),
        today_buckets=np.zeros((capacity, slots), dtype=np.float32),
        usual=np.zeros((capacity, slots)),
        usual_days=np.zeros((capacity, slots), dtype=np.float32),
        past_counts=np.zeros((capacity, ring), dtype=np.float32),
        past_usual=np.zeros((capacity, ring), dtype=np.float32),
        past_levels=np.zeros((capacity, ring * _EXPERTS), dtype=np.float32),
    )


@numba.njit(cache=True)
def close_rows(
    plan: Plan, state: State, rows: Int64s, counts: Int64s, bucket: int, out: Floats
) -> None:
    """Score ``bucket`` with ``counts`` (m,) of ``rows`` (m,), then learn from it.

    ``out`` is (H, OUTPUTS, m).
    """
    slots = state.usual.shape[1]
    slot, next_slot = _slot(plan, bucket, slots), _slot(plan, bucket + 1, slots)
    experts = np.empty(_EXPERTS)
    for i in range(len(rows)):
        row, count = rows[i], float(counts[i])
        if bucket != state.newest_bucket[row] + 1:
            state.run_buckets[row] = 0
        usual = _usual(plan, state, row, bucket)
        learned = count
        for h in range(len(plan.horizons)):
            clipped = _judge(plan, state, row, bucket, usual, count, h, experts, out, i, True)
            learned = clipped if h == 0 else learned
        _learn_level(plan, state, row, bucket, usual, count, learned)
        state.today_counts[row, slot] += learned
        state.today_buckets[row, slot] += 1
        if next_slot != slot:
            _fold(plan, state, row, next_slot)
            _fold(plan, state, row, (next_slot + 1) % slots)


@numba.njit(cache=True)
def peek_rows(
    plan: Plan, state: State, rows: Int64s, counts: Int64s, bucket: int, out: Floats
) -> None:
    """Score ``bucket`` as if it ended with ``counts``; learns nothing. Only high sides mean much.

    ``out`` is (H, OUTPUTS, m). Horizons that hold a bucket before this one that is not closed are
    NaN.
    """
    experts = np.empty(_EXPERTS)
    out[:] = math.nan
    for i in range(len(rows)):
        row = rows[i]
        usual = _usual(plan, state, row, bucket)
        follows = bucket == state.newest_bucket[row] + 1
        for h in range(len(plan.horizons) if follows else 1):
            _judge(plan, state, row, bucket, usual, float(counts[i]), h, experts, out, i, False)


@numba.njit(cache=True)
def score_counts(plan: Plan, state: State, counts: Int64s, buckets: Int64s, scores: Floats) -> None:
    """Close n buckets of row 0, one after the other.

    ``buckets`` (n,) do not descend; one that comes again is taken as the next. ``scores`` is
    (n, 3): the probability of so many or more, and of so few or less, each at the most telling
    horizon times the number of these (NaN while new), and the expected count.
    """
    out = np.empty((len(plan.horizons), OUTPUTS, 1))
    row = np.zeros(1, dtype=np.int64)
    for i in range(len(counts)):
        bucket = max(buckets[i], state.newest_bucket[0] + 1)
        close_rows(plan, state, row, counts[i : i + 1], bucket, out)
        scores[i, 0] = scores[i, 1] = math.nan
        for h in range(len(plan.horizons)):
            for side in (HIGH, LOW):
                looked_for = min(1.0, len(plan.horizons) * out[h, side, 0])
                scores[i, side] = np.fmin(scores[i, side], looked_for)
        scores[i, 2] = out[0, EXPECTED, 0]


@numba.njit(cache=True)
def _slot(plan: Plan, bucket: int, slots: int) -> int:
    """The slot of the day that the middle of a bucket is in."""
    middle_ms = bucket * plan.bucket_ms + plan.bucket_ms // 2
    return int((middle_ms % DAY_MS) * slots // DAY_MS)


@numba.njit(cache=True)
def _usual(plan: Plan, state: State, row: int, bucket: int) -> float:
    """The usual count at this time of day, linear between slots; NaN where not known yet."""
    slots = state.usual.shape[1]
    middle_ms = bucket * plan.bucket_ms + plan.bucket_ms // 2
    place = (middle_ms % DAY_MS) * slots / DAY_MS - 0.5
    before = math.floor(place)
    share = place - before
    first, second = before % slots, (before + 1) % slots
    if state.usual_days[row, _slot(plan, bucket, slots)] == 0:
        return math.nan
    if state.usual_days[row, first] == 0:
        return max(_LEAST_MEAN, float(state.usual[row, second]))
    if state.usual_days[row, second] == 0:
        return max(_LEAST_MEAN, float(state.usual[row, first]))
    mean = (1.0 - share) * state.usual[row, first] + share * state.usual[row, second]
    return max(_LEAST_MEAN, float(mean))


@numba.njit(cache=True)
def _level(state: State, row: int, expert: int) -> float:
    """Mean of an expert per bucket (of the season: per usual count)."""
    prior = _PRIOR_RATIO_COUNTS if expert == _SEASON else _PRIOR_COUNTS
    base = _PRIOR_RATIO_COUNTS if expert == _SEASON else 1.0
    return float((prior + state.evidence[row, expert]) / (base + state.exposure[row, expert]))


@numba.njit(cache=True)
def _forecast(
    plan: Plan, state: State, row: int, bucket: int, usual: float, h: int, experts: Floats
) -> float:
    """What each expert (NaN: it cannot) forecasts for a horizon that ends with ``bucket``.

    They know what was known before the horizon began. Returns the counts before ``bucket`` in it.
    """
    length = plan.horizons[h]
    ring = state.past_counts.shape[1]
    before, usual_sum = 0.0, usual
    for back in range(1, length):
        at = (bucket - back) % ring
        before += state.past_counts[row, at]
        usual_sum += state.past_usual[row, at]
    at = (bucket - length) % ring
    for e in range(_EXPERTS):
        mean = state.past_levels[row, at * _EXPERTS + e] if length > 1 else _level(state, row, e)
        experts[e] = max(length * mean, _LEAST_MEAN) if e != _SEASON else usual_sum * mean
    return before


@numba.njit(cache=True)
def _judge(
    plan: Plan,
    state: State,
    row: int,
    bucket: int,
    usual: float,
    count: float,
    h: int,
    experts: Floats,
    out: Floats,
    i: int,
    learn: bool,
) -> float:
    """Score one horizon of a row, and learn how far off it was; returns the clipped count."""
    before = _forecast(plan, state, row, bucket, usual, h, experts)
    total = before + count
    mean, support = 0.0, 0.0
    weights = 0.0
    for e in range(_EXPERTS):
        if not math.isnan(experts[e]):
            weight = 1.0 / (_LEAST_ERROR + state.errors[row, h * _EXPERTS + e]) ** 3
            prior = _PRIOR_RATIO_COUNTS if e == _SEASON else _PRIOR_COUNTS
            weights += weight
            mean += weight * experts[e]
            support += weight * (prior + state.evidence[row, e])
    mean /= weights
    support /= weights
    cluster, spread = _dispersion(state, row, h)
    if math.isnan(experts[_SEASON]):
        spread += plan.unknown_spread[h]
    noise = cluster * mean + spread * mean * mean
    variance = noise * (1.0 + mean / support)
    run = state.run_buckets[row] + 1
    ready = run >= plan.horizons[h] and state.seen_buckets[row] >= plan.warmup_buckets
    out[h, HIGH, i] = out[h, LOW, i] = math.nan
    if ready and (h == 0 or run >= plan.horizons[h] + plan.warmup_buckets):
        upper, lower = count_tails(total, mean, variance)
        out[h, HIGH, i] = upper
        out[h, LOW, i] = lower
    out[h, COUNT, i] = total
    out[h, EXPECTED, i] = mean
    if not ready:
        return count
    reach = max(_CLIP_DEVIATIONS * math.sqrt(variance), _CLIP_COUNTS)
    if learn:
        _learn_errors(plan, state, row, h, experts, total, mean, reach, variance)
    return min(max(total, mean - reach), mean + reach)


@numba.njit(cache=True)
def _dispersion(state: State, row: int, h: int) -> tuple[float, float]:
    """The c and a of a horizon's variance c·m + a·m²: least squares with c >= 1, a >= 0."""
    at = h * 5
    prior_first = _PRIOR_BUCKETS / (2.0 * _CLUSTER * _CLUSTER)
    prior_second = _PRIOR_BUCKETS / (2.0 * _SPREAD * _SPREAD)
    first = state.moments[row, at] + prior_first
    mixed = state.moments[row, at + 1]
    second = state.moments[row, at + 2] + prior_second
    first_error = state.moments[row, at + 3] + prior_first * _CLUSTER
    second_error = state.moments[row, at + 4] + prior_second * _SPREAD
    determinant = first * second - mixed * mixed
    cluster = (first_error * second - second_error * mixed) / determinant
    spread = (second_error * first - first_error * mixed) / determinant
    if spread < 0.0:
        cluster, spread = first_error / first, 0.0
    if cluster < 1.0:
        cluster, spread = 1.0, max(0.0, (second_error - mixed) / second)
    return cluster, spread


@numba.njit(cache=True)
def _learn_errors(
    plan: Plan,
    state: State,
    row: int,
    h: int,
    experts: Floats,
    total: float,
    mean: float,
    reach: float,
    variance: float,
) -> None:
    """How well the experts and the blend forecast a horizon."""
    at = h * 5
    error = min(max(total - mean, -reach), reach)
    squared = error * error
    weight = 1.0 / (variance + 2.0 * variance * variance)  # of a squared error: 1 / its variance
    keep = plan.memory_decay
    state.moments[row, at] = keep * state.moments[row, at] + weight * mean**2
    state.moments[row, at + 1] = keep * state.moments[row, at + 1] + weight * mean**3
    state.moments[row, at + 2] = keep * state.moments[row, at + 2] + weight * mean**4
    state.moments[row, at + 3] = keep * state.moments[row, at + 3] + weight * mean * squared
    state.moments[row, at + 4] = keep * state.moments[row, at + 4] + weight * mean**2 * squared
    for e in range(_EXPERTS):
        if not math.isnan(experts[e]):
            far = _EXPERT_CLIP * reach
            off = min(max(total - experts[e], -far), far)
            place = h * _EXPERTS + e
            change = off * off / variance - state.errors[row, place]
            state.errors[row, place] += (1.0 - keep) * change


@numba.njit(cache=True)
def _learn_level(
    plan: Plan, state: State, row: int, bucket: int, usual: float, count: float, learned: float
) -> None:
    """Take a bucket into the experts' evidence and into the rings."""
    ring = state.past_counts.shape[1]
    at = bucket % ring
    state.past_counts[row, at] = count
    state.past_usual[row, at] = usual
    for e in range(_EXPERTS):
        if e != _SEASON or not math.isnan(usual):
            exposure = usual if e == _SEASON else 1.0
            state.evidence[row, e] = plan.decays[e] * state.evidence[row, e] + learned
            state.exposure[row, e] = plan.decays[e] * state.exposure[row, e] + exposure
    state.newest_bucket[row] = bucket
    state.run_buckets[row] += 1
    state.seen_buckets[row] += 1
    if state.seen_buckets[row] == plan.warmup_buckets:
        _calm(plan, state, row, bucket)
    for e in range(_EXPERTS):
        state.past_levels[row, at * _EXPERTS + e] = _level(state, row, e)


@numba.njit(cache=True)
def _calm(plan: Plan, state: State, row: int, bucket: int) -> None:
    """At the end of the warm-up: clip its counts near their median, so that no burst is learned."""
    known = min(plan.warmup_buckets, int(state.run_buckets[row]))
    ring = state.past_counts.shape[1]
    counts = np.empty(known)
    for back in range(known):
        counts[back] = state.past_counts[row, (bucket - back) % ring]
    most = 3.0 * np.median(counts) + _CLIP_COUNTS
    excess = 0.0
    for back in range(known):
        excess += max(0.0, counts[back] - most)
    for e in (_FAST, _SLOW):
        state.evidence[row, e] = max(0.0, state.evidence[row, e] - excess)


@numba.njit(cache=True)
def _fold(plan: Plan, state: State, row: int, slot: int) -> None:
    """Take the last day of a slot into what is usual then; the slot is about to come again."""
    buckets = state.today_buckets[row, slot]
    if buckets == 0:
        return
    state.usual_days[row, slot] += 1
    gain = max(plan.day_gain, 1.0 / state.usual_days[row, slot])
    today = state.today_counts[row, slot] / buckets
    state.usual[row, slot] += gain * (today - state.usual[row, slot])
    state.today_counts[row, slot] = 0.0
    state.today_buckets[row, slot] = 0
