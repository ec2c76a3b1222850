"""The kernels of the exact search for accounts that act together.

Actions lie sorted by object and time, so that those within the window of one another are next to
each other: for each action, a pointer runs ahead until the window ends. A pair has two different
accounts and contents, none of which is the object itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

from detectors.chance import meeting_chance, poisson_tail

if TYPE_CHECKING:
    from detectors._windows import Floats, Int64s

__all__ = [
    "Lists",
    "Runs",
    "Sorted",
    "count_ahead",
    "count_attainable",
    "count_below",
    "expand_pairs",
    "expected_meetings",
    "list_members",
    "mark_matched",
    "sort_actions",
    "sum_runs",
]

Bools: TypeAlias = npt.NDArray[np.bool_]
Int32s: TypeAlias = npt.NDArray[np.int32]

_FEW: Final = 24  # are sorted by insertion
_BINS_PER_DECADE: Final = 32
_LEAST_PROBABILITY: Final = 1e-300
_BINS: Final = 300 * _BINS_PER_DECADE + 1


class Sorted(NamedTuple):
    """M actions on K objects, by object, then time, then row; object k's are starts[k:k + 2]."""

    starts: Int64s  # (K + 1,)
    rows: Int32s  # (M,) in the table
    times_ms: Int64s  # (M,)
    accounts: Int32s  # (M,)
    contents: Int32s  # (M,)
    own: Bools  # (M,) whether the content is the object: it pairs with nothing


class Lists(NamedTuple):
    """For each of N owners its members, ascending, each with how often it occurs."""

    starts: Int64s  # (N + 1,)
    members: Int32s
    counts: Int32s


@numba.njit(cache=True)
def sort_actions(
    objects: Int32s, times_ms: Int64s, rows: Int32s, count: int
) -> tuple[Int64s, Int32s, Int64s]:
    """Sort ``rows`` (M,), which ascend, by object (codes below ``count``), time and row.

    Returns the starts of the objects (count + 1,), the rows and their times (M,).
    """
    starts = np.zeros(count + 1, dtype=np.int64)
    for row in rows:
        starts[objects[row] + 1] += 1
    starts = np.cumsum(starts)
    free = starts[:-1].copy()
    ordered = np.empty(len(rows), dtype=np.int32)
    times = np.empty(len(rows), dtype=np.int64)
    for row in rows:
        at = free[objects[row]]
        free[objects[row]] += 1
        ordered[at] = row
        times[at] = times_ms[row]
    for k in range(count):
        start, end = starts[k], starts[k + 1]
        if end - start > _FEW:
            order = np.argsort(times[start:end], kind="mergesort")  # stable
            ordered[start:end] = ordered[start:end][order]
            times[start:end] = times[start:end][order]
            continue
        for i in range(start + 1, end):
            time, row, j = times[i], ordered[i], i
            while j > start and times[j - 1] > time:
                times[j], ordered[j] = times[j - 1], ordered[j - 1]
                j -= 1
            times[j], ordered[j] = time, row
    return starts, ordered, times


@numba.njit(cache=True)
def count_ahead(starts: Int64s, times_ms: Int64s, window_ms: int) -> Int64s:
    """For each action, how many later ones on its object lie within the window; (M,)."""
    ahead = np.empty(len(times_ms), dtype=np.int64)
    for k in range(len(starts) - 1):
        end = starts[k]
        for i in range(starts[k], starts[k + 1]):
            while end < starts[k + 1] and times_ms[end] - times_ms[i] <= window_ms:
                end += 1
            ahead[i] = end - i - 1
    return ahead


@numba.njit(cache=True)
def _is_pair(actions: Sorted, i: int, j: int) -> bool:
    return bool(
        actions.accounts[i] != actions.accounts[j]
        and actions.contents[i] != actions.contents[j]
        and not actions.own[i]
        and not actions.own[j]
    )


@numba.njit(cache=True)
def mark_matched(actions: Sorted, ahead: Int64s, contents: int) -> Bools:
    """Which contents are in a pair; (contents,). ``ahead`` (M,) says how far the window goes."""
    matched = np.zeros(contents, dtype=np.bool_)
    for i in range(len(ahead)):
        for j in range(i + 1, i + 1 + ahead[i]):
            if _is_pair(actions, i, j):
                matched[actions.contents[i]] = True
                matched[actions.contents[j]] = True
    return matched


@numba.njit(cache=True)
def expand_pairs(
    actions: Sorted,
    ahead: Int64s,
    start: int,
    end: int,
    active: Bools,
    first: Int32s,
    second: Int32s,
) -> int:
    """Write the pairs with an ``active`` content whose older action is in ``start:end``.

    Returns how many there are; the arrays must have room for all that ``ahead`` counts.
    """
    count = 0
    for i in range(start, end):
        for j in range(i + 1, i + 1 + ahead[i]):
            if _is_pair(actions, i, j) and (
                active[actions.contents[i]] or active[actions.contents[j]]
            ):
                first[count], second[count] = i, j
                count += 1
    return count


class Runs(NamedTuple):
    """n parts of edges, by ascending key; those of one key by ascending object."""

    keys: npt.NDArray[np.uint64]  # (n,) both accounts
    weights: Int32s  # (n,) pairs
    objects: Int32s  # (n,) distinct ones
    apart_ms: Int64s  # (n,) added up
    first: Int32s  # (n,) the lowest object
    last: Int32s  # (n,) the highest


@numba.njit(cache=True)
def sum_runs(runs: Runs) -> int:
    """Add up parts with the same key, in place; returns how many keys there are."""
    keys, weights, objects, apart_ms, first, last = runs
    count = 0
    for i in range(len(keys)):
        if i and keys[i] == keys[count - 1]:
            at = count - 1
            weights[at] += weights[i]
            objects[at] += objects[i] - (first[i] == last[at])
            apart_ms[at] += apart_ms[i]
            last[at] = last[i]
            continue
        keys[count], weights[count], objects[count] = keys[i], weights[i], objects[i]
        apart_ms[count], first[count], last[count] = apart_ms[i], first[i], last[i]
        count += 1
    return count


@numba.njit(cache=True)
def list_members(owners: Int32s, members: Int32s, weights: Int32s, count: int) -> Lists:
    """For each owner (codes below ``count``) its distinct members and their weights, added up.

    Members (M,) must come in ascending order: as they come, they are listed.
    """
    sizes = np.zeros(count, dtype=np.int64)
    newest = np.full(count, -1, dtype=np.int32)
    for i in range(len(owners)):
        if newest[owners[i]] != members[i]:
            newest[owners[i]] = members[i]
            sizes[owners[i]] += 1
    starts = np.zeros(count + 1, dtype=np.int64)
    starts[1:] = np.cumsum(sizes)
    free = starts[:-1].copy()
    listed = np.empty(starts[-1], dtype=np.int32)
    counts = np.zeros(starts[-1], dtype=np.int32)
    for i in range(len(owners)):
        at = free[owners[i]]
        if at == starts[owners[i]] or listed[at - 1] != members[i]:
            listed[at] = members[i]
            free[owners[i]] = at = at + 1
        counts[at - 1] += weights[i]
    return Lists(starts, listed, counts)


@numba.njit(cache=True)
def expected_meetings(by_account: Lists, close_share: Floats, a: Int32s, b: Int32s) -> Floats:
    """On how many objects the accounts a and b of each edge meet by chance, at most; (E,)."""
    expected = np.zeros(len(a))
    starts, objects, counts = by_account
    for edge in range(len(a)):
        few, many = a[edge], b[edge]
        if starts[few + 1] - starts[few] > starts[many + 1] - starts[many]:
            few, many = many, few
        low = starts[many]
        for i in range(starts[few], starts[few + 1]):
            high = starts[many + 1]
            while low < high:
                middle = (low + high) // 2
                if objects[middle] < objects[i]:
                    low = middle + 1
                else:
                    high = middle
            if low < starts[many + 1] and objects[low] == objects[i]:
                share = close_share[objects[i]]
                expected[edge] += meeting_chance(share, counts[i], counts[low])
    return expected


@numba.njit(cache=True)
def count_attainable(
    by_account: Lists, by_object: Lists, close_share: Floats, least_objects: int
) -> Int64s:
    """How many pairs of accounts could come to which probability at least, by bin; (_BINS,).

    If they met on all objects that they have in common, which are ``least_objects`` or more.
    """
    accounts = len(by_account.starts) - 1
    common = np.zeros(accounts, dtype=np.int32)
    expected = np.zeros(accounts)
    others = np.empty(accounts, dtype=np.int32)
    ahead = by_object.starts[:-1].copy()
    counts = np.zeros(_BINS, dtype=np.int64)
    for account in range(accounts):
        found = 0
        for i in range(by_account.starts[account], by_account.starts[account + 1]):
            k = by_account.members[i]
            ahead[k] += 1  # accounts ascend, here and there
            for j in range(ahead[k], by_object.starts[k + 1]):
                other = by_object.members[j]
                if common[other] == 0:
                    others[found] = other
                    found += 1
                common[other] += 1
                expected[other] += meeting_chance(
                    close_share[k], by_account.counts[i], by_object.counts[j]
                )
        for other in others[:found]:
            if common[other] >= least_objects:
                counts[_bin(poisson_tail(common[other], expected[other]))] += 1
            common[other] = 0
            expected[other] = 0.0
    return counts


@numba.njit(cache=True)
def count_below(counts: Int64s, probabilities: Floats) -> Int64s:
    """Of what is counted by bin (_BINS,), how many are as low as each probability; (n,).

    Those of its bin are all counted: it may be 7 % too many.
    """
    at_most = np.cumsum(counts[::-1])[::-1]
    below = np.empty(len(probabilities), dtype=np.int64)
    for i in range(len(probabilities)):
        below[i] = at_most[_bin(probabilities[i])]
    return below


@numba.njit(cache=True)
def _bin(probability: float) -> int:
    """Which bin: 0 is the highest. There are 32 to a decade, down to 1e-300."""
    if probability <= _LEAST_PROBABILITY:
        return _BINS - 1
    return int(-_BINS_PER_DECADE * math.log10(probability))
