"""The kernel of actors: on which shared keys an actor acted lately, and how much in each space.

State per row (one row per actor), L the number of keys that are remembered, S of spaces:

- ``keys``, ``times_ms``, ``actions`` and ``chances`` (L): the shared keys acted on last, in no
  order; the time of the newest action on each, how many there were, and their chances added up;
  a key that was never filled has a time of ``NEVER_MS``;
- ``acted`` and ``company`` (S): actions on shared keys of a space, and how many others acted on
  them within the window, both decayed to ``decayed_ms``.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

__all__ = [
    "NEVER_MS",
    "ActorState",
    "Exposures",
    "apply_exposures",
    "decay",
    "expected_by_activity",
    "new_actors",
    "shared_chance",
]

Floats: TypeAlias = npt.NDArray[np.float64]
Floats32: TypeAlias = npt.NDArray[np.float32]
Int32s: TypeAlias = npt.NDArray[np.int32]
Int64s: TypeAlias = npt.NDArray[np.int64]
Hashes: TypeAlias = npt.NDArray[np.uint64]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Flags: TypeAlias = npt.NDArray[np.bool_]

NEVER_MS: Final = np.iinfo(np.int64).min // 2


class ActorState(NamedTuple):
    """State of all rows; see the module's docstring."""

    keys: Hashes
    times_ms: Int64s
    actions: Floats32
    chances: Floats32
    acted: Floats32
    company: Floats32
    decayed_ms: Int64s


class Exposures(NamedTuple):
    """What n actors did on shared keys; see ``detectors.ties.Exposures``."""

    times_ms: Int64s
    keys: Hashes
    spaces: Bytes
    chances: Floats
    crowds: Floats


def new_actors(capacity: int, keys: int, spaces: int) -> ActorState:
    """Actors who did nothing; memory is reserved now but only used as rows fill."""
    return ActorState(
        keys=np.zeros((capacity, keys), dtype=np.uint64),
        times_ms=np.full((capacity, keys), NEVER_MS, dtype=np.int64),
        actions=np.zeros((capacity, keys), dtype=np.float32),
        chances=np.zeros((capacity, keys), dtype=np.float32),
        acted=np.zeros((capacity, spaces), dtype=np.float32),
        company=np.zeros((capacity, spaces), dtype=np.float32),
        decayed_ms=np.zeros(capacity, dtype=np.int64),
    )


@numba.njit(cache=True)
def decay(since_ms: int, now_ms: int, half_life_ms: float) -> float:
    """What is left of 1 after the time between two times; 1 where there is none."""
    return 0.5 ** ((now_ms - since_ms) / half_life_ms) if now_ms > since_ms else 1.0


@numba.njit(cache=True)
def apply_exposures(
    state: ActorState,
    totals: Floats,
    totals_ms: Int64s,
    exposures: Exposures,
    rows: Int32s,
    fresh: Flags,
    half_life_ms: float,
) -> None:
    """Note what n actors did, in order; ``totals`` (S,) are the actions of all, as of their time.

    ``totals_ms`` (1,) is that time.
    """
    for i in range(len(rows)):
        row, time_ms, space = rows[i], exposures.times_ms[i], exposures.spaces[i]
        if fresh[i]:
            _clear(state, row)
        left = decay(state.decayed_ms[row], time_ms, half_life_ms)
        if left < 1.0:
            for at in range(len(totals)):
                state.acted[row, at] *= left
                state.company[row, at] *= left
            state.decayed_ms[row] = time_ms
        left = decay(totals_ms[0], time_ms, half_life_ms)
        if left < 1.0:
            totals *= left
            totals_ms[0] = time_ms
        totals[space] += 1.0
        state.acted[row, space] += 1.0
        state.company[row, space] += exposures.crowds[i] - 1.0
        _note_key(state, row, exposures.keys[i], time_ms, exposures.chances[i])


@numba.njit(cache=True)
def _note_key(state: ActorState, row: int, key: np.uint64, time_ms: int, chance: float) -> None:
    """Remember an action on a shared key, in place of the one acted on longest ago."""
    keys, times_ms = state.keys[row], state.times_ms[row]
    place = 0
    for at in range(len(keys)):
        if keys[at] == key and times_ms[at] != NEVER_MS:
            state.actions[row, at] += 1.0
            state.chances[row, at] += chance
            times_ms[at] = max(times_ms[at], time_ms)
            return
        if times_ms[at] < times_ms[place]:
            place = at
    if time_ms < times_ms[place]:
        return
    keys[place], times_ms[place] = key, time_ms
    state.actions[row, place], state.chances[row, place] = 1.0, chance


@numba.njit(cache=True)
def shared_chance(state: ActorState, first: int, second: int, from_ms: int) -> float:
    """How many meetings of two actors (rows) chance makes on the keys that both acted on.

    Of keys that both acted on at the same two times (one event has several keys) the likeliest one
    counts. What one of them did before ``from_ms`` does not.
    """
    expected = 0.0
    length = state.keys.shape[1]
    for at in range(length):
        if state.times_ms[first, at] < from_ms:
            continue
        other = find_key(state, second, state.keys[first, at], from_ms)
        if other < 0:
            continue
        chance = _meeting(state, first, at, second, other)
        counted = False
        for later in range(length):
            if later == at or state.times_ms[first, later] != state.times_ms[first, at]:
                continue
            twin = find_key(state, second, state.keys[first, later], from_ms)
            if twin < 0 or state.times_ms[second, twin] != state.times_ms[second, other]:
                continue
            more = _meeting(state, first, later, second, twin)
            if more > chance or (more == chance and later < at):
                counted = True
                break
        if not counted:
            expected += chance
    return expected


@numba.njit(cache=True)
def find_key(state: ActorState, row: int, key: np.uint64, from_ms: int) -> int:
    """Where an actor's row has a key acted on since a time, or -1."""
    for at in range(state.keys.shape[1]):
        if state.keys[row, at] == key and state.times_ms[row, at] >= from_ms:
            return at
    return -1


@numba.njit(cache=True)
def _meeting(state: ActorState, first: int, at: int, second: int, other: int) -> float:
    """The chance that two actors meet on a key: of each action, as often as the other acted."""
    one = state.chances[first, at] * state.actions[second, other]
    two = state.chances[second, other] * state.actions[first, at]
    chance: float = min(1.0, max(one, two))
    return chance


@numba.njit(cache=True)
def expected_by_activity(
    state: ActorState, totals: Floats, first: int, second: int, space: int
) -> float:
    """How often two actors meet in a space if those who act on keys are drawn by their activity.

    Every meeting is seen at the later of two traces: of the company of one (who acted before it) as
    many are the other as its share of all actions.
    """
    total = max(1.0, totals[space])
    one = state.company[first, space] * min(1.0, state.acted[second, space] / total)
    two = state.company[second, space] * min(1.0, state.acted[first, space] / total)
    expected: float = one + two
    return expected


@numba.njit(cache=True)
def _clear(state: ActorState, row: int) -> None:
    state.keys[row] = 0
    state.times_ms[row] = NEVER_MS
    state.actions[row] = 0.0
    state.chances[row] = 0.0
    state.acted[row] = 0.0
    state.company[row] = 0.0
    state.decayed_ms[row] = 0
