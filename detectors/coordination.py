"""Accounts that act on the same objects at nearly the same times: an exact search in a table.

A *pair* is two actions on one object, by different accounts with different contents, within a
window of each other. An *edge* joins two accounts that have a pair; its weight is the number of
their pairs. Pairs and edges are those of the R package CooRTweet (``detect_groups`` with loops
removed, then ``generate_coordinated_network``), participation included:

1. accounts with fewer than N actions in all are dropped;
2. of the others, a content is active when its account has at least N actions with contents that
   are in a pair;
3. a pair is kept when either of its contents is active.

How unlikely an edge is by chance is what CooRTweet leaves open: see ``detectors.chance`` for the
null hypothesis. The observed number is that of *distinct objects* on which the two meet. Tested are
all pairs of accounts, met or not, that have two objects in common on which anybody met: to meet
once is no tie.

An object that everybody shares within one window has as many pairs as accounts squared. Where all
objects together would exceed ``most_pairs``, those with most pairs are left out, whole. Which ones
depends on times alone, so it does not favour any account. Pairs come in chunks of a bounded size.

Sources: Giglietto and others, It takes a village to manipulate the media, Information,
Communication & Society 23 (2020); Righetti and Balluff, CooRTweet, version 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from detectors import _coordination
from detectors._coordination import Lists, Runs, Sorted
from detectors.chance import false_discovery_rates, poisson_tails

if TYPE_CHECKING:
    from detectors._coordination import Bools, Int32s
    from detectors._windows import Floats, Int64s

__all__ = [
    "Actions",
    "Chances",
    "CoordinationSearch",
    "CoordinationSettings",
    "EdgeSum",
    "Edges",
    "Pairs",
]

_HALF: Final = np.uint64(32)
_ONE: Final = np.uint64(1)
_LEAST_OBJECTS: Final = 2


@dataclass(frozen=True, slots=True)
class CoordinationSettings:
    """What counts as acting together, and how much memory it may take."""

    window_ms: int = 60_000
    min_participation: int = 2
    most_pairs: int = 10_000_000
    chunk_pairs: int = 1_000_000

    def __post_init__(self) -> None:
        assert self.window_ms >= 0
        assert self.min_participation >= 1
        assert self.most_pairs >= 0
        assert self.chunk_pairs >= 1


@dataclass(frozen=True, slots=True, eq=False)
class Actions:
    """n actions: who did what with which content, when. Names are codes, from 0, without gaps."""

    objects: Int32s  # (n,)
    accounts: Int32s  # (n,)
    contents: Int32s  # (n,)
    times_ms: Int64s  # (n,)
    own: Bools  # (n,) whether the content is the object itself, as a post that is quoted

    def __post_init__(self) -> None:
        assert len({len(column) for column in (self.objects, self.accounts, self.contents)}) == 1
        assert self.objects.shape == self.times_ms.shape == self.own.shape
        assert len(self.objects) < 1 << 31


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """P pairs: the rows of the older and the newer action (where times are equal, of the first)."""

    older: Int32s  # (P,)
    newer: Int32s  # (P,)

    def __len__(self) -> int:
        return len(self.older)


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """E edges between accounts ``a`` < ``b``, sorted by both."""

    a: Int32s  # (E,)
    b: Int32s  # (E,)
    weight: Int64s  # (E,) pairs
    objects: Int64s  # (E,) distinct ones
    apart_ms: Floats  # (E,) mean time between the two actions of a pair

    def __len__(self) -> int:
        return len(self.a)

    def take(self, kept: Bools) -> Edges:
        """The edges that are ``kept`` (E,)."""
        return Edges(
            self.a[kept], self.b[kept], self.weight[kept], self.objects[kept], self.apart_ms[kept]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Chances:
    """For each of E edges: how many objects chance would explain, and how sure that is.

    ``tests`` is how many pairs of accounts were tested, or an upper bound of that number where
    ``bounded``, which makes q too high rather than too low. Edges of one object have a q of 1.
    """

    expected: Floats  # (E,)
    p: Floats  # (E,)
    q: Floats  # (E,)
    tests: int
    bounded: bool


class EdgeSum:
    """Adds pairs up to edges, chunk by chunk, in the order of the search.

    Holds the edges so far, and as much again (or a chunk) that is not yet merged.
    """

    __slots__ = ("_parts", "_search", "_waiting")

    def __init__(self, search: CoordinationSearch) -> None:
        self._search = search
        self._parts: list[Runs] = []
        self._waiting = 0

    def add(self, pairs: Pairs) -> None:
        """Add a chunk of pairs."""
        actions = self._search.actions
        left, right = actions.accounts[pairs.older], actions.accounts[pairs.newer]
        keys = np.minimum(left, right).astype(np.uint64) << _HALF
        keys |= np.maximum(left, right).astype(np.uint64)
        objects = actions.objects[pairs.older]
        ones = np.ones(len(pairs), dtype=np.int32)
        apart_ms = actions.times_ms[pairs.newer] - actions.times_ms[pairs.older]
        self._parts.append(_merged([Runs(keys, ones, ones, apart_ms, objects, objects)]))
        self._waiting += len(self._parts[-1].keys)
        if self._waiting > max(len(self._parts[0].keys), self._search.settings.chunk_pairs):
            self._merge()

    def edges(self) -> Edges:
        """The edges of all pairs so far."""
        if not self._parts:
            self.add(Pairs(np.empty(0, np.int32), np.empty(0, np.int32)))
        self._merge()
        (runs,) = self._parts
        a, b = runs.keys >> _HALF, runs.keys & ((_ONE << _HALF) - _ONE)
        return Edges(
            a.astype(np.int32),
            b.astype(np.int32),
            runs.weights.astype(np.int64),
            runs.objects.astype(np.int64),
            runs.apart_ms / runs.weights,
        )

    def _merge(self) -> None:
        self._parts = [_merged(self._parts)]
        self._waiting = 0


def _merged(parts: list[Runs]) -> Runs:
    """One for all; the objects of a part must not be below those of the parts before."""
    keys = np.concatenate([part.keys for part in parts])
    order = np.argsort(keys, kind="stable")
    runs = Runs._make(np.concatenate(column)[order] for column in zip(*parts, strict=True))
    count = _coordination.sum_runs(runs)
    return Runs._make(column[:count].copy() for column in runs)


class CoordinationSearch:
    """The search in one table: sorts it, and gives pairs, edges and their chances."""

    __slots__ = ("_active", "_ahead", "_sorted", "_taken", "_within", "actions", "settings")

    def __init__(self, actions: Actions, settings: CoordinationSettings) -> None:
        self.actions = actions
        self.settings = settings
        enough = np.bincount(actions.accounts, minlength=1) >= settings.min_participation
        rows = np.flatnonzero(enough[actions.accounts]).astype(np.int32)
        count = int(actions.objects.max(initial=-1)) + 1
        starts, rows, times_ms = _coordination.sort_actions(
            actions.objects, actions.times_ms, rows, count
        )
        accounts, contents = actions.accounts[rows], actions.contents[rows]
        self._sorted = Sorted(starts, rows, times_ms, accounts, contents, actions.own[rows])
        self._ahead = _coordination.count_ahead(starts, times_ms, settings.window_ms)
        self._within = np.diff(np.concatenate([[0], np.cumsum(self._ahead)])[starts])
        self._taken = self._fit()
        self._ahead[np.repeat(~self._taken, np.diff(starts))] = 0
        self._active = self._find_active()

    @property
    def participating(self) -> int:
        """Actions of accounts with enough of them."""
        return len(self._sorted.rows)

    @property
    def left_out(self) -> Int64s:
        """The objects (codes) whose pairs exceed the bound, most pairs first."""
        out = np.flatnonzero(~self._taken)
        return out[np.argsort(-self._within[out], kind="stable")]

    def first_rows(self, objects: Int64s) -> Int32s:
        """A row of each of the objects (k,), the earliest; each must have one that participates."""
        return self._sorted.rows[self._sorted.starts[objects]]

    def actions_of(self, objects: Int64s) -> tuple[Int64s, Int64s]:
        """For objects (k,), the number of their actions and of pairs of these in the window."""
        return np.diff(self._sorted.starts)[objects], self._within[objects]

    def pairs(self) -> Iterator[Pairs]:
        """All pairs, by object and time, in chunks; one action's pairs are in one chunk."""
        ends = np.cumsum(self._ahead)
        start = 0
        while start < len(ends):
            before = int(ends[start - 1]) if start else 0
            end = int(np.searchsorted(ends, before + self.settings.chunk_pairs, side="right"))
            end = max(end, start + 1)
            pairs = self._expand(start, end, int(ends[end - 1]) - before)
            if len(pairs):
                yield pairs
            start = end

    def edges(self) -> Edges:
        """The edges of all pairs."""
        total = EdgeSum(self)
        for pairs in self.pairs():
            total.add(pairs)
        return total.edges()

    def chances(self, edges: Edges, *, most_steps: int = 2_000_000_000) -> Chances:
        """How far chance explains the edges; they must be of this search, unfiltered.

        To know what the pairs of accounts could have come to takes a step for each object that two
        accounts share. Beyond ``most_steps``, their number is bounded from above instead.
        """
        close_share = self._close_share()
        by_account, by_object = self._lists(close_share > 0.0)
        expected = _coordination.expected_meetings(by_account, close_share, edges.a, edges.b)
        p = poisson_tails(edges.objects, expected)
        sharing = np.diff(by_object.starts)
        steps = int((sharing * (sharing - 1) // 2).sum())
        tests = steps // _LEAST_OBJECTS
        among = np.full(len(edges), tests)
        if steps <= most_steps:
            attainable = _coordination.count_attainable(
                by_account, by_object, close_share, _LEAST_OBJECTS
            )
            tests = int(attainable.sum())
            among = _coordination.count_below(attainable, p)
        q = np.ones(len(edges))
        tested = edges.objects >= _LEAST_OBJECTS
        q[tested] = false_discovery_rates(p[tested], among[tested])
        return Chances(expected, p, q, tests, steps > most_steps)

    def _close_share(self) -> Floats:
        """Of each object's pairs of actions, the share within the window; 0 for those left out."""
        size = np.diff(self._sorted.starts).astype(np.float64)
        pairs = np.maximum(1.0, size * (size - 1.0) / 2.0)
        return np.where(self._taken, self._within / pairs, 0.0)

    def _fit(self) -> Bools:
        """Which objects are taken, from those with fewest pairs on; (K,)."""
        order = np.argsort(self._within, kind="stable")
        taken = np.empty(len(order), dtype=np.bool_)
        taken[order] = np.cumsum(self._within[order]) <= self.settings.most_pairs
        return taken

    def _find_active(self) -> Bools:
        """Which contents belong to an account with enough of them in pairs."""
        contents = int(self.actions.contents.max(initial=-1)) + 1
        ordered = self._sorted
        matched = _coordination.mark_matched(ordered, self._ahead, contents)
        in_pair = matched[ordered.contents]
        accounts, in_pair_contents = ordered.accounts[in_pair], ordered.contents[in_pair]
        enough = np.bincount(accounts, minlength=1) >= self.settings.min_participation
        active = np.zeros(contents, dtype=np.bool_)
        active[in_pair_contents[enough[accounts]]] = True
        return active

    def _expand(self, start: int, end: int, room: int) -> Pairs:
        first, second = np.empty(room, dtype=np.int32), np.empty(room, dtype=np.int32)
        count = _coordination.expand_pairs(
            self._sorted, self._ahead, start, end, self._active, first, second
        )
        rows = self._sorted.rows
        return Pairs(rows[first[:count]], rows[second[:count]])

    def _lists(self, wanted: Bools) -> tuple[Lists, Lists]:
        """The objects of each account and the accounts of each object; of those ``wanted`` (K,)."""
        starts, accounts = self._sorted.starts, self._sorted.accounts
        objects = np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts))
        kept = wanted[objects]
        count = int(self.actions.accounts.max(initial=-1)) + 1
        ones = np.ones(int(kept.sum()), dtype=np.int32)
        by_account = _coordination.list_members(accounts[kept], objects[kept], ones, count)
        owners = np.repeat(np.arange(count, dtype=np.int32), np.diff(by_account.starts))
        by_object = _coordination.list_members(
            by_account.members, owners, by_account.counts, len(starts) - 1
        )
        return by_account, by_object
