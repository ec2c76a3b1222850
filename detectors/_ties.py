"""The kernel of ties: on which different keys two actors met, and how likely that was by chance.

State per row (one row per pair of actors), M the number of meetings that are remembered:

- ``first`` and ``second``: the two actors, the lower hash first;
- ``keys`` (M * 3): the keys of each meeting: of one event several keys can be shared (a video, its
  copies, its link), and all of them are one meeting;
- ``times_ms`` (M): when the later of the two acted, ``NEVER_MS`` where there is no meeting;
  ``gaps_ms`` (M): how long after the first the second acted (negative: before);
- ``spaces`` (M): the spaces in which they met, as bits; ``swarms`` (M): the highest swarm score;
- ``meetings``: how many there were so far, repeated ones on the same keys not counted;
- ``probability``: what ``judge`` found last, 1 before; ``weight``, the number of meetings on
  different keys that this is the probability of, and ``expected``, how many chance makes of them;
  ``changed``: whether there was a meeting since.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

from detectors._actors import (
    NEVER_MS,
    ActorState,
    decay,
    expected_by_activity,
    find_key,
    shared_chance,
)
from detectors.chance import poisson_tail

__all__ = ["KEYS_OF_A_MEETING", "Meetings", "TieState", "apply_meetings", "judge", "new_ties"]

Floats: TypeAlias = npt.NDArray[np.float64]
Floats32: TypeAlias = npt.NDArray[np.float32]
Int32s: TypeAlias = npt.NDArray[np.int32]
Int64s: TypeAlias = npt.NDArray[np.int64]
Hashes: TypeAlias = npt.NDArray[np.uint64]
Bits: TypeAlias = npt.NDArray[np.uint32]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Flags: TypeAlias = npt.NDArray[np.bool_]

KEYS_OF_A_MEETING: Final = 3
_SPACES: Final = 32


class TieState(NamedTuple):
    """State of all rows; see the module's docstring."""

    first: Hashes
    second: Hashes
    keys: Hashes
    times_ms: Int64s
    gaps_ms: Int32s
    spaces: Bits
    swarms: Floats32
    meetings: Int64s
    probability: Floats
    expected: Floats32
    weight: Int32s
    changed: Flags


class Meetings(NamedTuple):
    """Who met whom; see ``detectors.ties.Meetings``."""

    times_ms: Int64s
    actors: Hashes
    partners: Hashes
    partner_ms: Int64s
    keys: Hashes
    spaces: Bytes
    swarm_scores: Floats


def new_ties(capacity: int, meetings: int) -> TieState:
    """Pairs who never met; memory is reserved now but only used as rows fill."""
    return TieState(
        first=np.zeros(capacity, dtype=np.uint64),
        second=np.zeros(capacity, dtype=np.uint64),
        keys=np.zeros((capacity, meetings * KEYS_OF_A_MEETING), dtype=np.uint64),
        times_ms=np.full((capacity, meetings), NEVER_MS, dtype=np.int64),
        gaps_ms=np.zeros((capacity, meetings), dtype=np.int32),
        spaces=np.zeros((capacity, meetings), dtype=np.uint32),
        swarms=np.zeros((capacity, meetings), dtype=np.float32),
        meetings=np.zeros(capacity, dtype=np.int64),
        probability=np.ones(capacity),
        expected=np.zeros(capacity, dtype=np.float32),
        weight=np.zeros(capacity, dtype=np.int32),
        changed=np.zeros(capacity, dtype=np.bool_),
    )


@numba.njit(cache=True)
def apply_meetings(
    state: TieState,
    found: Meetings,
    rows: Int32s,
    fresh: Flags,
    lasting: int,
    pairs: Floats,
    pairs_ms: Int64s,
    half_life_ms: float,
) -> None:
    """Note n meetings in order.

    Bits of ``lasting`` are the spaces whose keys are one for this purpose. ``pairs`` (1,) counts
    the pairs who met, decayed to ``pairs_ms`` (1,).
    """
    for i in range(len(rows)):
        row = rows[i]
        if fresh[i]:
            _clear(state, row)
            state.first[row] = min(found.actors[i], found.partners[i])
            state.second[row] = max(found.actors[i], found.partners[i])
            pairs[0] = pairs[0] * decay(pairs_ms[0], found.times_ms[i], half_life_ms) + 1.0
            pairs_ms[0] = max(pairs_ms[0], found.times_ms[i])
        gap_ms = found.times_ms[i] - found.partner_ms[i]
        later_ms = max(found.times_ms[i], found.partner_ms[i])
        if found.actors[i] == state.first[row]:
            gap_ms = -gap_ms
        bit = np.uint32(1) << found.spaces[i]
        place = _place(state, row, found.keys[i], bit, later_ms, gap_ms, lasting)
        state.times_ms[row, place] = max(state.times_ms[row, place], later_ms)
        if later_ms == state.times_ms[row, place]:
            state.gaps_ms[row, place] = gap_ms
        state.spaces[row, place] |= bit
        state.swarms[row, place] = max(state.swarms[row, place], found.swarm_scores[i])
        state.changed[row] = state.meetings[row] > 1


@numba.njit(cache=True)
def _place(
    state: TieState,
    row: int,
    key: np.uint64,
    bit: np.uint32,
    later_ms: int,
    gap_ms: int,
    lasting: int,
) -> int:
    """Which meeting of a tie this one is: one it had, or a new one in place of the oldest."""
    times_ms = state.times_ms[row]
    oldest = 0
    same_event = -1
    for at in range(len(times_ms)):
        if times_ms[at] == NEVER_MS:
            oldest = at
            break
        for alias in range(KEYS_OF_A_MEETING):
            if state.keys[row, at * KEYS_OF_A_MEETING + alias] == key:
                return at
        if bit & lasting and state.spaces[row, at] & lasting:
            return at
        if times_ms[at] == later_ms and state.gaps_ms[row, at] == gap_ms:
            same_event = at
        if times_ms[at] < times_ms[oldest]:
            oldest = at
    if same_event >= 0:
        for alias in range(KEYS_OF_A_MEETING):
            if state.keys[row, same_event * KEYS_OF_A_MEETING + alias] == 0:
                state.keys[row, same_event * KEYS_OF_A_MEETING + alias] = key
                break
        return same_event
    for alias in range(KEYS_OF_A_MEETING):
        state.keys[row, oldest * KEYS_OF_A_MEETING + alias] = 0
    state.keys[row, oldest * KEYS_OF_A_MEETING] = key
    times_ms[oldest] = later_ms
    state.spaces[row, oldest] = 0
    state.swarms[row, oldest] = 0.0
    state.meetings[row] += 1
    return oldest


@numba.njit(cache=True)
def judge(
    state: TieState,
    ties: Int64s,
    actors: ActorState,
    first_rows: Int64s,
    second_rows: Int64s,
    totals: Floats,
    from_ms: int,
    swarm_score: float,
    swarm_keys: Hashes,
) -> None:
    """Find the probability of each of n ties, with the rows of its two actors (-1: not known).

    Meetings before ``from_ms`` do not count, nor those on keys that one of the two lists no more.
    A meeting on one of ``swarm_keys`` (ascending) is one in a swarm from now on.
    """
    by_space = np.zeros(_SPACES, dtype=np.int64)
    swarms_by_space = np.zeros(_SPACES, dtype=np.int64)
    for i in range(len(ties)):
        row, first, second = ties[i], first_rows[i], second_rows[i]
        state.probability[row], state.weight[row], state.expected[row] = 1.0, 0, 0.0
        state.changed[row] = False
        if first < 0 or second < 0:
            continue
        by_space[:] = 0
        swarms_by_space[:] = 0
        weight, in_swarms = 0, 0
        for at in range(state.times_ms.shape[1]):
            if state.times_ms[row, at] < from_ms or not _listed(
                state, row, at, actors, first, second, from_ms
            ):
                continue
            weight += 1
            if _among(state, row, at, swarm_keys):
                state.swarms[row, at] = max(state.swarms[row, at], swarm_score)
            in_swarm = state.swarms[row, at] >= np.float32(swarm_score)
            in_swarms += in_swarm
            for space in range(_SPACES):
                if state.spaces[row, at] >> np.uint32(space) & np.uint32(1):
                    by_space[space] += 1
                    swarms_by_space[space] += in_swarm
        if weight < 2:
            continue
        by_timing = _verdict(weight, shared_chance(actors, first, second, from_ms))
        by_activity = _least(by_space, weight, actors, totals, first, second)
        by_swarms = _least(swarms_by_space, in_swarms, actors, totals, first, second)
        both = by_timing if by_timing.probability >= by_activity.probability else by_activity
        best = both if both.probability <= by_swarms.probability else by_swarms
        state.probability[row] = min(1.0, 2.0 * best.probability)
        state.weight[row], state.expected[row] = best.weight, best.expected


class _Verdict(NamedTuple):
    """So many meetings where so many are expected, and the probability of as many or more."""

    probability: float
    weight: int
    expected: float


@numba.njit(cache=True)
def _listed(
    state: TieState,
    row: int,
    at: int,
    actors: ActorState,
    first: int,
    second: int,
    from_ms: int,
) -> bool:
    """Whether both actors still list a key of this meeting."""
    for alias in range(KEYS_OF_A_MEETING):
        key = state.keys[row, at * KEYS_OF_A_MEETING + alias]
        if (
            key != 0
            and find_key(actors, first, key, from_ms) >= 0
            and find_key(actors, second, key, from_ms) >= 0
        ):
            return True
    return False


@numba.njit(cache=True)
def _among(state: TieState, row: int, at: int, keys: Hashes) -> bool:
    """Whether a key of a meeting is among ascending ones."""
    for alias in range(KEYS_OF_A_MEETING):
        key = state.keys[row, at * KEYS_OF_A_MEETING + alias]
        place = np.searchsorted(keys, key)
        if place < len(keys) and keys[place] == key:
            return True
    return False


@numba.njit(cache=True)
def _least(
    by_space: Int64s, weight: int, actors: ActorState, totals: Floats, first: int, second: int
) -> _Verdict:
    """The least likely count, as one of several looks: at each space, and at all with a meeting.

    ``weight`` is the count of all; one meeting can be in several spaces.
    """
    least, looks, expected = _Verdict(1.0, weight, 0.0), 0, 0.0
    for space in range(len(totals)):
        if by_space[space] == 0:
            continue
        there = expected_by_activity(actors, totals, first, second, space)
        expected += there
        looks += 1
        found = _verdict(by_space[space], there)
        if found.probability < least.probability:
            least = found
    if looks > 1:
        looks += 1
        found = _verdict(weight, expected)
        if found.probability < least.probability:
            least = found
    return _Verdict(min(1.0, max(1, looks) * least.probability), least.weight, least.expected)


@numba.njit(cache=True)
def _verdict(weight: int, expected: float) -> _Verdict:
    """P(X >= weight | X >= 1) of a Poisson X: a pair is looked at because it met.

    Nothing follows from an expectation of zero: those who met could have met by chance.
    """
    if weight < 2 or expected <= 0.0:
        return _Verdict(1.0, weight, expected)
    tail = poisson_tail(float(weight), expected) / -math.expm1(-expected)
    return _Verdict(min(1.0, tail), weight, expected)


@numba.njit(cache=True)
def _clear(state: TieState, row: int) -> None:
    state.keys[row] = 0
    state.times_ms[row] = NEVER_MS
    state.gaps_ms[row] = 0
    state.spaces[row] = 0
    state.swarms[row] = 0.0
    state.meetings[row] = 0
    state.probability[row] = 1.0
    state.expected[row] = 0.0
    state.weight[row] = 0
    state.changed[row] = False
