"""The kernel of swarms: how surprising a crowd is on its key, and in its group of keys.

Time is counted in *panes*, as long as the window of a crowd. State per row (one row per key):
``pane``, the newest with an action; ``peak`` and ``last_peak``, the largest crowd (the one who acts
not counted) of that pane and of the one before; ``fast`` and ``slow``, the decayed sums of the
peaks of all panes before these two. So what a crowd is compared with never holds the crowd.
``floor`` is the crowd down to which a swarm goes on, 0 where there is none: half of what it had
above the expected.

State per group: ``first_pane`` and ``newest_pane``, ``largest``, the largest surprise of that, and
``surprises``, how often the largest of a pane was in each bin, decayed.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

from detectors._tails import beta_tail

__all__ = [
    "BINS",
    "GroupState",
    "SwarmColumns",
    "SwarmPlan",
    "SwarmState",
    "new_groups",
    "new_rows",
    "score_crowds",
]

Floats: TypeAlias = npt.NDArray[np.float64]
Floats32: TypeAlias = npt.NDArray[np.float32]
Int32s: TypeAlias = npt.NDArray[np.int32]
Int64s: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

BINS: Final = 96
_BINS_PER_DECADE: Final = 4
_PRIOR_SHAPE: Final = 0.5
_LEAST: Final = 1e-300
_NO_PANE: Final = -1
# Quantiles of a Gumbel distribution lie at location - scale * log(-log(quantile)).
_MEDIAN_AT: Final = -math.log(math.log(2.0))
_QUARTILE_AT: Final = -math.log(-math.log(0.75))


class SwarmPlan(NamedTuple):
    """Settings as the kernel wants them; see ``detectors.swarms.SwarmSettings``."""

    pane_ms: int
    fast_decay: float
    slow_decay: float
    most_evidence: float
    memory_decay: float
    prior_panes: float
    prior_location: float
    prior_scale: float
    least_scale: float
    panes_per_day: float
    swarms_per_day: float  # as rare as this begins a swarm


class SwarmState(NamedTuple):
    """State of all rows."""

    pane: Int64s
    peak: Floats32
    last_peak: Floats32
    fast: Floats32
    slow: Floats32
    floor: Floats32


class GroupState(NamedTuple):
    """State of G groups."""

    first_pane: Int64s  # (G,) -1 before the first trace
    newest_pane: Int64s  # (G,)
    largest: Floats  # (G,)
    surprises: Floats  # (G, BINS)


class SwarmColumns(NamedTuple):
    """Room for the results of n traces."""

    expected: Floats
    per_day: Floats  # panes with a surprise as large, without any anomaly
    swarming: Flags


def new_rows(capacity: int) -> SwarmState:
    """Rows of keys without a past."""
    return SwarmState(
        pane=np.zeros(capacity, dtype=np.int64),
        peak=np.zeros(capacity, dtype=np.float32),
        last_peak=np.zeros(capacity, dtype=np.float32),
        fast=np.zeros(capacity, dtype=np.float32),
        slow=np.zeros(capacity, dtype=np.float32),
        floor=np.zeros(capacity, dtype=np.float32),
    )


def new_groups(groups: int) -> GroupState:
    """Groups that nothing was seen of."""
    return GroupState(
        first_pane=np.full(groups, _NO_PANE, dtype=np.int64),
        newest_pane=np.zeros(groups, dtype=np.int64),
        largest=np.zeros(groups),
        surprises=np.zeros((groups, BINS)),
    )


@numba.njit(cache=True)
def score_crowds(
    plan: SwarmPlan,
    state: SwarmState,
    groups: GroupState,
    times_ms: Int64s,
    rows: Int32s,
    fresh: Flags,
    group_of: Int32s,
    crowd: Floats,
    columns: SwarmColumns,
) -> None:
    """Score n crowds in order, and learn from them."""
    location = np.empty(len(groups.newest_pane))
    scale = np.empty(len(groups.newest_pane))
    for group in range(len(groups.newest_pane)):
        location[group], scale[group] = _fit(plan, groups.surprises[group])
    for i in range(len(rows)):
        row, group = rows[i], group_of[i]
        pane = times_ms[i] // plan.pane_ms
        if fresh[i]:
            _clear(state, row, pane)
        if _turn(plan, groups, group, pane):
            location[group], scale[group] = _fit(plan, groups.surprises[group])
        _pass(plan, state, row, pane)
        others = crowd[i] - 1.0
        panes = max(0, state.pane[row] - 1 - groups.first_pane[group])
        mean, shape = _expected(plan, state, row, panes)
        columns.expected[i] = 1.0 + mean
        surprise = 0.0
        if others > mean:
            tail = beta_tail(others, shape, mean / (mean + shape))
            surprise = -math.log10(max(_LEAST, tail))
        deviation = math.exp(-(surprise - location[group]) / scale[group])
        columns.per_day[i] = -plan.panes_per_day * math.expm1(-deviation)
        if others < state.floor[row]:
            state.floor[row] = 0.0
        if columns.per_day[i] <= plan.swarms_per_day:
            state.floor[row] = max(state.floor[row], (mean + others) / 2.0)
        columns.swarming[i] = state.floor[row] > 0.0
        groups.largest[group] = max(groups.largest[group], surprise)
        state.peak[row] = max(state.peak[row], others)


@numba.njit(cache=True)
def _expected(plan: SwarmPlan, state: SwarmState, row: int, panes: int) -> tuple[float, float]:
    """Mean and shape of the negative binomial that the key's past foretells for a crowd.

    ``panes`` were there for the key to act in.
    """
    fast_panes = _decayed_panes(plan.fast_decay, panes)
    slow_panes = _decayed_panes(plan.slow_decay, panes)
    fast = state.fast[row] / max(1.0, fast_panes)
    slow = state.slow[row] / max(1.0, slow_panes)
    # A key of a group that is new could have any rate.
    unknown = _PRIOR_SHAPE / slow_panes if slow_panes > 0.0 else 1e6
    evidence = state.fast[row] if fast > slow else state.slow[row]
    return unknown + max(fast, slow), _PRIOR_SHAPE + min(plan.most_evidence, evidence)


@numba.njit(cache=True)
def _decayed_panes(decay: float, panes: int) -> float:
    """What the sum of as many panes is, if each holds 1."""
    return (1.0 - decay**panes) / (1.0 - decay)


@numba.njit(cache=True)
def _pass(plan: SwarmPlan, state: SwarmState, row: int, pane: int) -> None:
    """Let a key's time go on to ``pane``; a late action belongs to the newest pane."""
    passed = pane - state.pane[row]
    if passed <= 0:
        return
    peak, last = state.peak[row], state.last_peak[row]
    if passed == 1:
        state.fast[row] = state.fast[row] * plan.fast_decay + last
        state.slow[row] = state.slow[row] * plan.slow_decay + last
        state.last_peak[row] = peak
    else:
        fast = (state.fast[row] * plan.fast_decay + last) * plan.fast_decay + peak
        slow = (state.slow[row] * plan.slow_decay + last) * plan.slow_decay + peak
        state.fast[row] = fast * plan.fast_decay ** (passed - 2)
        state.slow[row] = slow * plan.slow_decay ** (passed - 2)
        state.last_peak[row] = 0.0
    state.peak[row] = 0.0
    state.pane[row] = pane


@numba.njit(cache=True)
def _turn(plan: SwarmPlan, groups: GroupState, group: int, pane: int) -> bool:
    """Let a group's time go on to ``pane``; whether a pane ended, and was learned from."""
    if groups.first_pane[group] == _NO_PANE:
        groups.first_pane[group] = groups.newest_pane[group] = pane
        return False
    if pane <= groups.newest_pane[group]:
        return False
    surprises = groups.surprises[group]
    surprises *= plan.memory_decay
    surprises[min(BINS - 1, int(_BINS_PER_DECADE * groups.largest[group]))] += 1.0
    groups.largest[group] = 0.0
    groups.newest_pane[group] = pane
    return True


@numba.njit(cache=True)
def _fit(plan: SwarmPlan, surprises: Floats) -> tuple[float, float]:
    """Location and scale of the Gumbel distribution of a pane's largest surprise.

    From two quantiles, so that a few panes with anomalies change nothing.
    """
    total = surprises.sum()
    if total == 0.0:
        return plan.prior_location, plan.prior_scale
    median = _quantile(surprises, 0.5 * total)
    scale = (_quantile(surprises, 0.75 * total) - median) / (_QUARTILE_AT - _MEDIAN_AT)
    location = median - scale * _MEDIAN_AT
    weight = plan.prior_panes / (plan.prior_panes + total)
    scale = weight * plan.prior_scale + (1.0 - weight) * scale
    return (
        weight * plan.prior_location + (1.0 - weight) * location,
        max(plan.least_scale, scale),
    )


@numba.njit(cache=True)
def _quantile(surprises: Floats, below: float) -> float:
    """The upper edge of the bin up to which there are ``below``."""
    passed = 0.0
    for at in range(BINS):
        passed += surprises[at]
        if passed >= below:
            return (at + 1) / _BINS_PER_DECADE if at else 0.0
    return BINS / _BINS_PER_DECADE


@numba.njit(cache=True)
def _clear(state: SwarmState, row: int, pane: int) -> None:
    state.pane[row] = pane
    state.peak[row] = state.last_peak[row] = 0.0
    state.fast[row] = state.slow[row] = state.floor[row] = 0.0
