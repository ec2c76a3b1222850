"""The kernel that scores a series of measurements, each row by what came before it.

Five *experts* forecast the next values: levels that forget fast, less fast and slowly; a level with
a trend; and what is usual at this time of day plus an offset. They are blended by how well each
did lately. A *horizon* is the mean of the newest rows, forecast from before the first of them, so
that a long deviation shows where no single row does.

An error is measured in what errors usually are at that horizon. How rare such a multiple is, is
learned too: beyond the value that a tenth of the errors exceed, the tail is a power law whose
exponent is estimated (Hill). So a series that has spikes every hour does not alarm at each.
What is learned is clipped near the forecast, so that an anomaly does not become the baseline at
once; the slots of the day are corrected only when they come again.

Source of the tail: Hill, A Simple General Approach to Inference About the Tail of a Distribution,
Annals of Statistics 3 (1975).
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["SeriesPlan", "score_levels"]

Floats: TypeAlias = npt.NDArray[np.float64]
Int64s: TypeAlias = npt.NDArray[np.int64]

_DAY_MS: Final = 86_400_000
_FAST, _MEDIUM, _SLOW, _TREND, _SEASON = 0, 1, 2, 3, 4
_EXPERTS: Final = 5
_SLOPE: Final = 5  # in the ring of levels, after those of the experts
_LEVELS: Final = 6

_CLIP_DEVIATIONS: Final = 4.0
_LEAST_ERROR: Final = 0.02
_TAIL_SHARE: Final = 0.1
_LEAST_TAIL_START: Final = 1.5
_TAIL_PRIOR: Final = 0.2  # Hill's index: at first, 10 times the error is 100,000 times as rare
_LEAST_TAIL, _MOST_TAIL = 0.12, 0.6
_MOST_LOG_EXCESS: Final = 2.0
_STREAK: Final = 6
"""After so many rows far from the forecast there is a new normal: it is learned as it is."""
_STREAK_GAIN: Final = 0.1
_SCALE_FLOOR: Final = 1e-9  # of the largest value so far
_GAP: Final = 5.0  # times the usual spacing


class SeriesPlan(NamedTuple):
    """What does not change; decays are per row."""

    horizons: Int64s  # (H,) rows, the first is 1
    decays: Floats  # (5,) of fast, medium, slow, trend (level) and season (offset)
    slope_decay: float
    memory_decay: float  # of errors, scales and tails
    day_gain: float
    slots: int
    warmup_rows: int


class _Memory(NamedTuple):
    """What is known before a row."""

    levels: Floats  # (6,) of the experts, and the slope
    forecasts: Floats  # (5,) room for those of one horizon; NaN: none
    past_levels: Floats  # (R, 6)
    past_values: Floats  # (R,)
    past_usual: Floats  # (R,)
    errors: Floats  # (H, 5) mean squares, in scales
    scale: Floats  # (H,) root mean square error of the blend
    tail_start: Floats  # (H,) exceeded by a tenth of the errors, in scales
    tail_index: Floats  # (H,)
    today: Floats  # (K, 2) sum and rows
    usual: Floats  # (K, 2) mean and days


@numba.njit(cache=True)
def score_levels(
    plan: SeriesPlan, times_ms: Int64s, values: Floats, tails: Floats, expected: Floats
) -> None:
    """Score n values at ascending times.

    ``tails`` is (n, 2): the probability of a value so high or higher, and so low or lower, each
    the smallest over the horizons; NaN before there is enough to compare with. ``expected`` (n,).
    """
    memory = _new_memory(plan)
    ring = len(memory.past_values)
    largest, spacing_ms, run, slot, streak = 0.0, 0.0, 0, -1, 0
    for i in range(len(values)):
        value = values[i]
        stretch = 1.0
        if i:
            gap_ms = float(times_ms[i] - times_ms[i - 1])
            if i > plan.warmup_rows and gap_ms > _GAP * spacing_ms:
                stretch, run = 2.0, 0
            step_ms = gap_ms if i <= plan.warmup_rows else min(gap_ms, 2.0 * spacing_ms)
            spacing_ms += (step_ms - spacing_ms) * max(0.02, 1.0 / i)
        slot = _enter_slot(plan, memory, times_ms[i], slot)
        usual = _usual(plan, memory, times_ms[i])
        run += 1
        floor = max(_SCALE_FLOOR * largest, 1e-300)
        learned, free = value, True
        tails[i] = math.nan
        for h in range(len(plan.horizons)):
            rows = plan.horizons[h]
            if i == 0 or run < rows or i < rows:
                continue
            mean, error, scale, size = _compare(plan, memory, h, i, value, usual, floor)
            if h == 0:
                expected[i] = mean
                streak = streak + 1 if size > _CLIP_DEVIATIONS else 0
                free = i < plan.warmup_rows or streak > _STREAK
                if not free:
                    reach = _CLIP_DEVIATIONS * scale
                    learned = mean + min(max(error, -reach), reach)
            if i >= plan.warmup_rows + rows:
                rare = _rarity(memory, h, size / stretch)
                high, low = (0.5 * rare, 1.0 - 0.5 * rare)
                if error < 0.0:
                    high, low = low, high
                tails[i, 0] = high if math.isnan(tails[i, 0]) else min(tails[i, 0], high)
                tails[i, 1] = low if math.isnan(tails[i, 1]) else min(tails[i, 1], low)
            _learn_spread(plan, memory, h, i, error, scale, free)
        if i == 0:
            expected[i] = value
        _learn_levels(plan, memory, i, learned, usual)
        memory.past_values[i % ring] = value
        memory.past_usual[i % ring] = usual
        memory.past_levels[i % ring] = memory.levels
        memory.today[slot, 0] += learned
        memory.today[slot, 1] += 1.0
        largest = max(largest, abs(value))


@numba.njit(cache=True)
def _new_memory(plan: SeriesPlan) -> _Memory:
    horizons, ring = len(plan.horizons), plan.horizons[-1] + 1
    return _Memory(
        levels=np.zeros(_LEVELS),
        forecasts=np.zeros(_EXPERTS),
        past_levels=np.zeros((ring, _LEVELS)),
        past_values=np.zeros(ring),
        past_usual=np.zeros(ring),
        errors=np.ones((horizons, _EXPERTS)),
        scale=np.zeros(horizons),
        tail_start=np.full(horizons, 1.7),
        tail_index=np.full(horizons, _TAIL_PRIOR),
        today=np.zeros((plan.slots, 2)),
        usual=np.zeros((plan.slots, 2)),
    )


@numba.njit(cache=True)
def _enter_slot(plan: SeriesPlan, memory: _Memory, time_ms: int, before: int) -> int:
    """The slot of a time; takes the last day of those that come next into what is usual."""
    slot = int((time_ms % _DAY_MS) * plan.slots // _DAY_MS)
    if slot != before and before >= 0:
        ahead = (slot - before) % plan.slots + 1
        for step in range(1, min(ahead, plan.slots) + 1):
            at = (before + step) % plan.slots
            if memory.today[at, 1] > 0:
                memory.usual[at, 1] += 1.0
                gain = max(plan.day_gain, 1.0 / memory.usual[at, 1])
                today = memory.today[at, 0] / memory.today[at, 1]
                memory.usual[at, 0] += gain * (today - memory.usual[at, 0])
                memory.today[at] = 0.0
    return slot


@numba.njit(cache=True)
def _usual(plan: SeriesPlan, memory: _Memory, time_ms: int) -> float:
    """What is usual in this slot of the day; NaN where not known yet.

    Not smoothed between slots: what machines do begins at the full hour.
    """
    slot = int((time_ms % _DAY_MS) * plan.slots // _DAY_MS)
    return math.nan if memory.usual[slot, 1] == 0 else float(memory.usual[slot, 0])


@numba.njit(cache=True)
def _compare(
    plan: SeriesPlan,
    memory: _Memory,
    h: int,
    i: int,
    value: float,
    usual: float,
    floor: float,
) -> tuple[float, float, float, float]:
    """Forecast, error, scale and error in scales, of a horizon that ends with row ``i``.

    Learns which expert was how far off.
    """
    ring = len(memory.past_values)
    rows = plan.horizons[h]
    total, usual_total = value, usual
    for back in range(1, rows):
        total += memory.past_values[(i - back) % ring]
        usual_total += memory.past_usual[(i - back) % ring]
    total, usual_total = total / rows, usual_total / rows
    levels = memory.past_levels[(i - rows) % ring]
    scale = max(memory.scale[h], floor)
    forecasts = memory.forecasts
    forecasts[:] = levels[:_EXPERTS]
    forecasts[_TREND] += levels[_SLOPE] * 0.5 * (rows + 1)
    forecasts[_SEASON] += usual_total
    mean, weights = 0.0, 0.0
    for e in range(_EXPERTS):
        if not math.isnan(forecasts[e]):
            weight = 1.0 / (_LEAST_ERROR + memory.errors[h, e]) ** 2
            mean += weight * forecasts[e]
            weights += weight
    mean /= weights
    # As long as nothing has ever differed from its forecast, there is no unit to measure in.
    if memory.scale[h] > 0.0 or total != mean:
        for e in range(_EXPERTS):
            if not math.isnan(forecasts[e]):
                off = min(abs(total - forecasts[e]) / scale, _CLIP_DEVIATIONS)
                change = off * off - memory.errors[h, e]
                memory.errors[h, e] += (1.0 - plan.memory_decay) * change
    error = total - mean
    return mean, error, scale, abs(error) / scale


@numba.njit(cache=True)
def _rarity(memory: _Memory, h: int, size: float) -> float:
    """How often an error is so large, either way."""
    start = max(memory.tail_start[h], _LEAST_TAIL_START)
    if size <= start:
        return float(1.0 - (1.0 - _TAIL_SHARE) * size / start)
    return float(_TAIL_SHARE * (size / start) ** (-1.0 / memory.tail_index[h]))


@numba.njit(cache=True)
def _learn_levels(plan: SeriesPlan, memory: _Memory, i: int, learned: float, usual: float) -> None:
    """Move the experts towards a value; the first rows count alike."""
    if i == 0:
        memory.levels[:] = learned
        memory.levels[_SLOPE] = 0.0
        memory.levels[_SEASON] = 0.0
        return
    first = 1.0 / (i + 1)
    for e in (_FAST, _MEDIUM, _SLOW):
        memory.levels[e] += max(1.0 - plan.decays[e], first) * (learned - memory.levels[e])
    before = memory.levels[_TREND]
    ahead = before + memory.levels[_SLOPE]
    memory.levels[_TREND] = ahead + max(1.0 - plan.decays[_TREND], first) * (learned - ahead)
    change = memory.levels[_TREND] - before - memory.levels[_SLOPE]
    memory.levels[_SLOPE] += (1.0 - plan.slope_decay) * change
    if not math.isnan(usual):
        offset = learned - usual - memory.levels[_SEASON]
        memory.levels[_SEASON] += (1.0 - plan.decays[_SEASON]) * offset


@numba.njit(cache=True)
def _learn_spread(
    plan: SeriesPlan, memory: _Memory, h: int, i: int, error: float, scale: float, free: bool
) -> None:
    """How large errors are, and how heavy their tail is; unclipped where ``free``."""
    size = abs(error) / scale
    gain = max(1.0 - plan.memory_decay, 1.0 / i)
    off = abs(error) if free else min(size, _CLIP_DEVIATIONS) * scale
    if free and i >= plan.warmup_rows:
        gain = max(gain, _STREAK_GAIN)
    square = memory.scale[h] ** 2
    memory.scale[h] = math.sqrt(square + gain * (off * off - square))
    if i < plan.warmup_rows:
        return
    gain = max(1.0 - plan.memory_decay, 1.0 / i)
    memory.tail_start[h] += gain * 3.0 * ((size > memory.tail_start[h]) - _TAIL_SHARE)
    start = max(memory.tail_start[h], _LEAST_TAIL_START)
    if size > start and not free:
        excess = min(math.log(size / start), _MOST_LOG_EXCESS)
        index = memory.tail_index[h]
        index += min(0.1, gain / _TAIL_SHARE) * (excess - index)
        memory.tail_index[h] = min(max(index, _LEAST_TAIL), _MOST_TAIL)
