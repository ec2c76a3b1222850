"""The kernel of rings: what a trace finds among the newest actions on its key, and its own place.

State per row (one row per key), R the length of the ring:

- ``times_ms`` and ``actors`` (R): the newest R actions, action number N in column N % R;
- ``actions``: how many there were so far; so the ring holds the ``min(actions, R)`` newest;
- ``audience``: how many actors there were; one who comes back after R actions of others counts
  again, as the ring is all that is remembered;
- ``first_ms`` and ``newest_ms``: the lowest and the highest time.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["FoundContacts", "RingColumns", "RingState", "apply_traces", "clear_rings", "new_rings"]

Floats: TypeAlias = npt.NDArray[np.float64]
Int32s: TypeAlias = npt.NDArray[np.int32]
Int64s: TypeAlias = npt.NDArray[np.int64]
Hashes: TypeAlias = npt.NDArray[np.uint64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_NEVER: Final = np.iinfo(np.int64).min


class RingState(NamedTuple):
    """State of all rows; see the module's docstring."""

    times_ms: Int64s
    actors: Hashes
    actions: Int64s
    audience: Int64s
    first_ms: Int64s
    newest_ms: Int64s


class FoundContacts(NamedTuple):
    """Room for the contacts of n traces, ``partners`` of each at most."""

    positions: Int32s
    partners: Hashes
    partner_ms: Int64s
    chances: Floats


class RingColumns(NamedTuple):
    """Room for a value of each of n traces; see ``detectors.rings.RingOutputs``."""

    crowd: Floats
    long_crowd: Floats
    chances: Floats
    audience: Int64s
    founders: Hashes


def new_rings(capacity: int, length: int) -> RingState:
    """Empty rings of ``capacity`` rows; memory is reserved now but only used as rows fill."""
    return RingState(
        times_ms=np.zeros((capacity, length), dtype=np.int64),
        actors=np.zeros((capacity, length), dtype=np.uint64),
        actions=np.zeros(capacity, dtype=np.int64),
        audience=np.zeros(capacity, dtype=np.int64),
        first_ms=np.zeros(capacity, dtype=np.int64),
        newest_ms=np.zeros(capacity, dtype=np.int64),
    )


def clear_rings(state: RingState, rows: slice) -> None:
    """Make ``rows`` those of keys without actions."""
    for array in state:
        array[rows] = 0


@numba.njit(cache=True)
def apply_traces(
    state: RingState,
    times_ms: Int64s,
    rows: Int32s,
    fresh: Flags,
    actors: Hashes,
    windows_ms: tuple[int, int],
    contacts: FoundContacts,
    columns: RingColumns,
) -> tuple[int, int]:
    """Apply n traces in order; returns how many contacts were found, and how many left out.

    ``windows_ms`` are that of contacts and of the crowd, and that of the long crowd.
    """
    window_ms, long_ms = windows_ms
    length = state.actors.shape[1]
    room = len(contacts.partners) // max(1, len(rows))
    others = _new_others(length)
    found, truncated = 0, 0
    for i in range(len(rows)):
        row, time_ms, actor = rows[i], times_ms[i], actors[i]
        if fresh[i]:
            _clear(state, row)
        actions = state.actions[row]
        newest = state.actors[row, (actions - 1) % length]
        columns.founders[i] = 0
        if actions == 0 or (state.audience[row] == 1 and newest == actor):
            # Nobody else was there: most traces are of this kind.
            columns.crowd[i] = columns.long_crowd[i] = columns.audience[i] = 1
            columns.chances[i] = 0.0
            _add(state, row, time_ms, actor, 1 if actions == 0 else 0)
            continue
        count, own, inside = _scan(state, row, time_ms, actor, window_ms, others)
        widened = _widened(state, row, time_ms, window_ms)
        columns.crowd[i] = 1.0 + _crowd(others, count, time_ms - window_ms, widened)
        widened_long = _widened(state, row, time_ms, long_ms)
        columns.long_crowd[i] = 1.0 + _crowd(others, count, time_ms - long_ms, widened_long)
        theirs = max(1, actions - own)
        near = min(float(theirs), inside * widened)
        columns.chances[i] = near / theirs
        if own == 0 and state.audience[row] == 1:
            columns.founders[i] = newest
        told = 0
        for at in range(count if inside else 0):
            if others.met_ms[at] == _NEVER:
                continue
            if told == room:
                truncated += 1
                continue
            told += 1
            contacts.positions[found] = i
            contacts.partners[found] = others.actors[at]
            contacts.partner_ms[found] = others.met_ms[at]
            contacts.chances[found] = _meeting(near, theirs, others.actions[at])
            found += 1
        _add(state, row, time_ms, actor, 1 if own == 0 else 0)
        columns.audience[i] = state.audience[row]
    return found, truncated


class _Others(NamedTuple):
    """The other actors in a ring, seen from a trace.

    How often each acted; the time of the newest action (by the log) within the window, and the
    latest time that is not after the trace.
    """

    actors: Hashes
    actions: Int64s
    met_ms: Int64s
    before_ms: Int64s


@numba.njit(cache=True)
def _new_others(length: int) -> _Others:
    return _Others(
        np.empty(length, dtype=np.uint64),
        np.empty(length, dtype=np.int64),
        np.empty(length, dtype=np.int64),
        np.empty(length, dtype=np.int64),
    )


@numba.njit(cache=True)
def _scan(
    state: RingState, row: int, time_ms: int, actor: np.uint64, window_ms: int, others: _Others
) -> tuple[int, int, int]:
    """List the other actors of a ring, those who acted last first.

    Returns how many there are, how many entries are the actor's own, and how many of those of
    others lie within the window.
    """
    length = state.actors.shape[1]
    actions = state.actions[row]
    count, own, inside = 0, 0, 0
    for back in range(1, min(actions, length) + 1):
        column = (actions - back) % length
        other = state.actors[row, column]
        if other == actor:
            own += 1
            continue
        at = 0
        while at < count and others.actors[at] != other:
            at += 1
        if at == count:
            count += 1
            others.actors[at], others.actions[at] = other, 0
            others.met_ms[at] = others.before_ms[at] = _NEVER
        others.actions[at] += 1
        acted_ms = state.times_ms[row, column]
        if acted_ms <= time_ms:
            others.before_ms[at] = max(others.before_ms[at], acted_ms)
        if -window_ms <= time_ms - acted_ms <= window_ms:
            inside += 1
            if others.met_ms[at] == _NEVER:
                others.met_ms[at] = acted_ms
    return count, own, inside


@numba.njit(cache=True)
def _crowd(others: _Others, count: int, from_ms: int, widened: float) -> float:
    """How many of the others acted from a time on, until the trace.

    Where the ring does not reach back so far: those it has, and as many more as actions beyond it
    would bring at the rate at which actors are seen for the first time (Good and Toulmin 1956,
    https://doi.org/10.1093/biomet/43.1-2.45, first term).
    """
    found, once = 0, 0
    for at in range(count):
        if others.before_ms[at] >= from_ms:
            found += 1
            if others.actions[at] == 1:
                once += 1
    return found + once * (widened - 1.0)


@numba.njit(cache=True)
def _widened(state: RingState, row: int, time_ms: int, window_ms: int) -> float:
    """By how much the window is longer than what the ring remembers of it, at least 1."""
    length = state.actors.shape[1]
    if state.actions[row] < length:
        return 1.0
    span_ms = time_ms - state.times_ms[row, state.actions[row] % length]
    return window_ms / max(1.0, span_ms) if 0 <= span_ms < window_ms else 1.0


@numba.njit(cache=True)
def _meeting(near: float, theirs: int, repeats: int) -> float:
    """The chance that at least one of ``repeats`` actions is among ``near`` out of ``theirs``."""
    missing = 1.0
    for at in range(repeats):
        missing *= max(0.0, theirs - near - at) / (theirs - at)
        if missing == 0.0:
            break
    return 1.0 - missing


@numba.njit(cache=True)
def _add(state: RingState, row: int, time_ms: int, actor: np.uint64, new_actors: int) -> None:
    actions = state.actions[row]
    column = actions % state.actors.shape[1]
    state.times_ms[row, column] = time_ms
    state.actors[row, column] = actor
    if actions == 0 or time_ms < state.first_ms[row]:
        state.first_ms[row] = time_ms
    if actions == 0 or time_ms > state.newest_ms[row]:
        state.newest_ms[row] = time_ms
    state.actions[row] = actions + 1
    state.audience[row] += new_actors


@numba.njit(cache=True)
def _clear(state: RingState, row: int) -> None:
    state.times_ms[row] = 0
    state.actors[row] = 0
    state.actions[row] = 0
    state.audience[row] = 0
