"""The kernel of windowed features: applies a batch of events in order, writes values at each.

State per row (one row per key):

- ``panes``: float32, for each window a ring of panes, each holding one slot per count, sum and
  gap moment and one per gap maximum; a window's slots lie together so that a new pane clears one
  run of memory;
- ``newest_pane``: per window, the number of the newest pane: ``newest_ms`` // pane length;
- ``entries`` and ``seen_s``: per distinct sketch, hashes (32 bits) and when each was last seen;
- ``threshold`` and ``threshold_s``: per sketch, the theta below which hashes are kept, and when it
  was last lowered;
- ``gap_last_ms``: per gap feature, the time of the last event;
- ``newest_ms``: the key's newest event time.

A value is read as of the key's newest event, so that a late event changes the present.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from detectors.keys import Flags, Hashes, Rows

__all__ = [
    "Plan",
    "State",
    "apply_events",
    "clear_state",
    "column_table",
    "complete_state",
    "new_state",
]

Floats32: TypeAlias = npt.NDArray[np.float32]
Floats: TypeAlias = npt.NDArray[np.float64]
Int64s: TypeAlias = npt.NDArray[np.int64]
UInt32s: TypeAlias = npt.NDArray[np.uint32]

_NEVER: Final = np.iinfo(np.int64).min
_FULL: Final = np.uint32(0xFFFFFFFF)
_MIN_GAPS_FOR_VARIATION: Final = 5
_AHEAD: Final = 8
_FLOATS_PER_LINE: Final = 16


class Plan(NamedTuple):
    """What to compute, as arrays (shapes: W windows, A adding slots, M maximum slots, ...).

    A NamedTuple of arrays is what numba passes without cost.
    """

    pane_ms: Int64s  # (W,)
    pane_count: Int64s  # (W,)
    pane_start: Int64s  # (W,) where the window's ring begins in a row of ``panes``
    pane_width: Int64s  # (W,) slots per pane: adding slots, then maximum slots
    add_count: Int64s  # (W,) how many of them add; the rest keep a maximum
    slot_start: Int64s  # (W,) where the window's slots begin in the two arrays below
    slot_mask: Int64s  # (S,) which event mask a slot listens to
    slot_value: Int64s  # (S,) what it takes: see _slot_value
    output_kind: Int64s  # (O,) 0 total, 1 gap mean, 2 gap variation, 3 gap maximum, 4 distinct
    output_slot: Int64s  # (O,) the slot it is read from (S), or the sketch for kind 4
    output_span_s: Int64s  # (O,) for kind 4 the window's length, seconds
    gap_mask: Int64s  # (G,) event mask of each gap feature
    sketch_start: Int64s  # (D,) where a sketch's entries begin in a row
    sketch_size: Int64s  # (D,)
    sketch_mask: Int64s  # (D,) event mask
    sketch_hash: Int64s  # (D,) row of ``hashes``
    sketch_span_s: Int64s  # (D,) longest window, seconds
    longest_ms: int


class State(NamedTuple):
    """State of all rows; see the module's docstring."""

    panes: Floats32
    newest_pane: Int64s
    entries: UInt32s
    seen_s: UInt32s
    threshold: UInt32s
    threshold_s: UInt32s
    gap_last_ms: Int64s
    newest_ms: Int64s


def new_state(plan: Plan, capacity: int) -> State:
    """Empty state of ``capacity`` rows; memory is reserved now but only used as rows fill."""
    pane_slots = int((plan.pane_count * plan.pane_width).sum())
    sketches = len(plan.sketch_start)
    sketch_slots = int(plan.sketch_size.sum())
    return State(
        panes=np.zeros((capacity, pane_slots), dtype=np.float32),
        newest_pane=np.zeros((capacity, len(plan.pane_ms)), dtype=np.int64),
        entries=np.zeros((capacity, sketch_slots), dtype=np.uint32),
        seen_s=np.zeros((capacity, sketch_slots), dtype=np.uint32),
        threshold=np.zeros((capacity, sketches), dtype=np.uint32),
        threshold_s=np.zeros((capacity, sketches), dtype=np.uint32),
        gap_last_ms=np.zeros((capacity, len(plan.gap_mask)), dtype=np.int64),
        newest_ms=np.zeros(capacity, dtype=np.int64),
    )


def clear_state(state: State, rows: slice) -> None:
    """Make ``rows`` those of keys without events (the kernel clears a row at its first event)."""
    for array in state:
        array[rows] = 0
    state.threshold[rows] = _FULL
    state.gap_last_ms[rows] = _NEVER


def complete_state(plan: Plan, state: State, rows: slice) -> None:
    """Compute what follows from the rest: the newest pane of every window (times are >= 0).

    A window that is new begins at the key's present, like those it had.
    """
    np.floor_divide(state.newest_ms[rows, None], plan.pane_ms, out=state.newest_pane[rows])


def column_table(columns: int, n: int, dtype: type[np.generic]) -> npt.NDArray[Any]:
    """A table of at least ``columns`` contiguous columns of n values (and some unused ones).

    The kernel writes one value of each column after the other. Were the columns a multiple of
    4,096 bytes apart, they would all compete for the same few lines of the cache.
    """
    per_page = 4_096 // np.dtype(dtype).itemsize
    stride = (n // per_page + 1) * per_page + 5 * per_page // 64
    return np.empty((max(1, columns), stride), dtype=dtype)


@numba.njit(cache=True)
def apply_events(
    plan: Plan,
    state: State,
    rows: Rows,
    fresh: Flags,
    times_ms: Int64s,
    masks: npt.NDArray[np.bool_],
    values: Floats,
    hashes: Hashes,
    outputs: Floats,
    late: Flags,
) -> int:
    """Apply n events in order; write ``outputs`` (O, n) and ``late`` (n,).

    ``masks`` is (masks, n), ``values`` (sums, n), ``hashes`` (identifiers, n); these and
    ``outputs`` may have more columns than n. A late event (no
    window of its key reaches back to it) changes nothing. Returns how many counts were skipped
    because a shorter window had already moved past the event.
    """
    skipped = 0
    gaps = np.empty(max(1, len(plan.gap_mask)), dtype=np.float64)
    totals = np.empty(max(1, len(plan.slot_mask)), dtype=np.float64)
    touched = 0.0
    for i in range(len(rows)):
        if i % _AHEAD == 0:
            touched += _touch(state, rows, i, min(i + _AHEAD, len(rows)))
        row = rows[i]
        time_ms = times_ms[i]
        if fresh[i]:
            _clear(state, row, time_ms)
        if time_ms <= state.newest_ms[row] - plan.longest_ms:
            late[i] = True
            outputs[:, i] = np.nan
            continue
        if time_ms > state.newest_ms[row]:
            state.newest_ms[row] = time_ms
        for g in range(len(plan.gap_mask)):
            gaps[g] = -1.0
            if masks[plan.gap_mask[g], i]:
                last_ms = state.gap_last_ms[row, g]
                if last_ms != _NEVER and time_ms >= last_ms:
                    gaps[g] = (time_ms - last_ms) / 1000.0
                state.gap_last_ms[row, g] = max(time_ms, last_ms)
        skipped += _apply_to_panes(plan, state, row, time_ms, i, masks, values, gaps)
        _apply_to_sketches(plan, state, row, time_ms // 1000, i, masks, hashes)
        _read(plan, state, row, i, totals, outputs)
    totals[0] = touched  # keeps the compiler from leaving the reads out
    return skipped


@numba.njit(cache=True, inline="always")
def _touch(state: State, rows: Rows, start: int, stop: int) -> float:
    """Read a value of each cache line of the rows of the next events.

    A row is in main memory, in a dozen places. Asked for one after the other while an event is
    applied, each makes it wait; asked for all at once for several events, they come together.
    """
    touched = 0.0
    for i in range(start, stop):
        row = rows[i]
        for at in range(0, state.panes.shape[1], _FLOATS_PER_LINE):
            touched += state.panes[row, at]
        for at in range(0, state.entries.shape[1], _FLOATS_PER_LINE):
            touched += state.entries[row, at] + state.seen_s[row, at]
        touched += state.newest_ms[row]
        if state.threshold.shape[1]:
            touched += state.threshold[row, 0] + state.threshold_s[row, 0]
    return touched


@numba.njit(cache=True, inline="always")
def _clear(state: State, row: int, time_ms: int) -> None:
    state.panes[row] = 0.0
    state.newest_pane[row] = 0
    state.entries[row] = 0
    state.seen_s[row] = 0
    state.threshold[row] = _FULL
    state.threshold_s[row] = 0
    state.gap_last_ms[row] = _NEVER
    state.newest_ms[row] = time_ms


@numba.njit(cache=True, inline="always")
def _apply_to_panes(
    plan: Plan,
    state: State,
    row: int,
    time_ms: int,
    i: int,
    masks: npt.NDArray[np.bool_],
    values: Floats,
    gaps: Floats,
) -> int:
    skipped = 0
    panes = state.panes[row]
    for window in range(len(plan.pane_ms)):
        count, width = plan.pane_count[window], plan.pane_width[window]
        start = plan.pane_start[window]
        pane = time_ms // plan.pane_ms[window]
        newest = state.newest_pane[row, window]
        if pane > newest:
            for stale in range(max(newest + 1, pane - count + 1), pane + 1):
                first = start + (stale % count) * width
                panes[first : first + width] = 0.0
            state.newest_pane[row, window] = pane
        elif pane <= newest - count:
            skipped += 1
            continue
        first = start + (pane % count) * width
        slot_start = plan.slot_start[window]
        for slot in range(width):
            if masks[plan.slot_mask[slot_start + slot], i]:
                value = _slot_value(plan.slot_value[slot_start + slot], i, values, gaps)
                if slot >= plan.add_count[window]:
                    panes[first + slot] = max(panes[first + slot], value)
                else:
                    panes[first + slot] += value
    return skipped


@numba.njit(cache=True, inline="always")
def _slot_value(source: int, i: int, values: Floats, gaps: Floats) -> float:
    """Decode a slot's source: -1 one; s >= 0 sum s; below -1 a moment of a gap feature."""
    if source == -1:
        return 1.0
    if source >= 0:
        return float(values[source, i])
    code = -source - 2
    gap = float(gaps[code // 4])
    moment = code % 4
    if gap < 0.0:
        return 0.0
    if moment == 0:
        return 1.0
    if moment == 2:
        return gap * gap
    return gap


@numba.njit(cache=True, inline="always")
def _apply_to_sketches(
    plan: Plan,
    state: State,
    row: int,
    time_s: int,
    i: int,
    masks: npt.NDArray[np.bool_],
    hashes: Hashes,
) -> None:
    now_s = state.newest_ms[row] // 1000
    for sketch in range(len(plan.sketch_start)):
        if not masks[plan.sketch_mask[sketch], i]:
            continue
        full = hashes[plan.sketch_hash[sketch], i]
        if full == 0 or time_s <= now_s - plan.sketch_span_s[sketch]:
            continue
        key = np.uint32(full >> np.uint64(32)) | np.uint32(1)
        start = plan.sketch_start[sketch]
        _insert(
            state.entries[row, start : start + plan.sketch_size[sketch]],
            state.seen_s[row, start : start + plan.sketch_size[sketch]],
            state.threshold[row, sketch : sketch + 1],
            state.threshold_s[row, sketch : sketch + 1],
            key,
            time_s,
            now_s - plan.sketch_span_s[sketch],
        )


@numba.njit(cache=True, inline="always")
def _insert(
    entries: UInt32s,
    seen_s: UInt32s,
    threshold: UInt32s,
    threshold_s: UInt32s,
    key: np.uint32,
    time_s: int,
    horizon_s: int,
) -> None:
    """A theta sketch over a sliding window (Dasgupta et al. 2016, arXiv:1510.01455).

    Keeps every hash below theta that was seen after the horizon. Theta falls to the largest hash
    when the sketch is full, and returns to 1 once everything dropped since has left the window.
    """
    if threshold[0] != _FULL and threshold_s[0] <= horizon_s:
        threshold[0] = _FULL
    if key >= threshold[0]:
        threshold_s[0] = max(threshold_s[0], time_s)
        return
    free = -1
    largest = -1
    for e in range(len(entries)):
        if entries[e] == key:
            if seen_s[e] < time_s:
                seen_s[e] = time_s
            return
        if entries[e] == 0 or seen_s[e] <= horizon_s:
            free = e
        elif largest < 0 or entries[e] > entries[largest]:
            largest = e
    if free < 0:
        threshold_s[0] = max(threshold_s[0], max(time_s, seen_s[largest]))
        if key > entries[largest]:
            threshold[0] = key
            return
        threshold[0] = entries[largest]
        free = largest
    entries[free] = key
    seen_s[free] = time_s


@numba.njit(cache=True, inline="always")
def _read(plan: Plan, state: State, row: int, i: int, totals: Floats, outputs: Floats) -> None:
    for window in range(len(plan.pane_ms)):
        _total(plan, state, row, window, totals)
    now_s = state.newest_ms[row] // 1000
    for out in range(len(plan.output_kind)):
        kind = plan.output_kind[out]
        slot = plan.output_slot[out]
        if kind == 0:
            outputs[out, i] = totals[slot]
        elif kind == 4:
            outputs[out, i] = _distinct(plan, state, row, out, now_s)
        elif totals[slot] <= 0.0:
            outputs[out, i] = np.nan
        elif kind == 3:
            outputs[out, i] = totals[slot]
        elif kind == 1:
            outputs[out, i] = totals[slot + 1] / totals[slot]
        elif totals[slot] < _MIN_GAPS_FOR_VARIATION or totals[slot + 1] <= 0.0:
            outputs[out, i] = np.nan
        else:
            mean = totals[slot + 1] / totals[slot]
            variance = totals[slot + 2] / totals[slot] - mean * mean
            outputs[out, i] = np.sqrt(max(variance, 0.0)) / mean


@numba.njit(cache=True, inline="always")
def _total(plan: Plan, state: State, row: int, window: int, totals: Floats) -> None:
    """Each slot over all panes of a window: the sum, or for the last ones the maximum."""
    width, adding = plan.pane_width[window], plan.add_count[window]
    start, first = plan.pane_start[window], plan.slot_start[window]
    totals[first : first + width] = 0.0
    for pane in range(plan.pane_count[window]):
        at = start + pane * width
        for slot in range(adding):
            totals[first + slot] += state.panes[row, at + slot]
        for slot in range(adding, width):
            totals[first + slot] = max(totals[first + slot], state.panes[row, at + slot])


@numba.njit(cache=True, inline="always")
def _distinct(plan: Plan, state: State, row: int, out: int, now_s: int) -> float:
    sketch = plan.output_slot[out]
    start = plan.sketch_start[sketch]
    threshold = state.threshold[row, sketch]
    if threshold != _FULL and state.threshold_s[row, sketch] <= now_s - plan.sketch_span_s[sketch]:
        threshold = _FULL
    horizon_s = now_s - plan.output_span_s[out]
    alive = 0
    for e in range(start, start + plan.sketch_size[sketch]):
        entry = state.entries[row, e]
        # Without branches: which entries are alive cannot be guessed.
        alive += (entry != 0) & (entry < threshold) & (state.seen_s[row, e] > horizon_s)
    if threshold == _FULL:
        return float(alive)
    return alive * (4294967296.0 / float(threshold))
