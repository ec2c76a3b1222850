"""Ties do not depend on batches, and tell as many meetings as a search over all of them."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.ties import ActorTable, Exposures, Meetings, SignificantTies, TieSettings, TieTable

_SPACES = 3
_LASTING = 2
_TICK_MS = 40_000

# A step of time, how long before the partner acted, two actors, key, space, chance.
meetings = st.lists(
    st.tuples(
        st.integers(0, 20),
        st.integers(-30, 30),
        st.integers(1, 4),
        st.integers(1, 3),
        st.integers(1, 9),
        st.sampled_from([0.001, 0.2, 1.0]),
    ),
    min_size=1,
    max_size=80,
).map(
    lambda drawn: [
        (1_000_000 + 1_000 * (7 * at + step), gap, actor, actor + other, key, chance)
        for at, (step, gap, actor, other, key, chance) in enumerate(drawn)
    ]
)
cuts = st.lists(st.integers(0, 80), max_size=6)
Drawn = list[tuple[int, int, int, int, int, float]]


class Stream:
    """Both tables, and what is significant at ticks of event time."""

    def __init__(self, capacity: int = 50) -> None:
        tie_settings = TieSettings(_SPACES, frozenset({_LASTING}), horizon_ms=400_000, keys=6)
        self.actors = ActorTable(capacity, tie_settings, 1)
        self.ties = TieTable(capacity, tie_settings, 1)
        self.told: list[tuple[int, SignificantTies]] = []

    def apply(self, batch: Drawn) -> None:
        start = 0
        for end in range(1, len(batch) + 1):
            over = end < len(batch) and batch[end][0] // _TICK_MS > batch[end - 1][0] // _TICK_MS
            if over or end == len(batch):
                self._note(batch[start:end])
                start = end
            if over:
                self.tick(batch[end][0])

    def tick(self, time_ms: int) -> None:
        now_ms = time_ms // _TICK_MS * _TICK_MS
        swarm_keys = np.array([2, 5], dtype=np.uint64)
        self.told.append((now_ms, self.ties.significant(self.actors, swarm_keys, now_ms, 0)))

    def _note(self, batch: Drawn) -> None:
        if not batch:
            return
        times, gaps, actors, partners, keys, chances = (
            np.array(c) for c in zip(*batch, strict=True)
        )
        spaces = (keys % _SPACES).astype(np.uint8)
        # Of each meeting the partner's exposure, then the actor's.
        twice = np.repeat(chances, 2)
        self.actors.apply(
            Exposures(
                np.stack([times - 1_000 * gaps, times], axis=1).ravel(),
                np.stack([partners, actors], axis=1).ravel().astype(np.uint64),
                np.repeat(keys, 2).astype(np.uint64),
                np.repeat(spaces, 2),
                twice,
                1.0 + twice,
            )
        )
        self.ties.apply(
            Meetings(
                times,
                actors.astype(np.uint64),
                partners.astype(np.uint64),
                times - 1_000 * gaps,
                keys.astype(np.uint64),
                spaces,
                chances,
            )
        )


def told(stream: Stream) -> list[tuple[object, ...]]:
    return [
        (at, found.first.tolist(), found.second.tolist(), found.q.tolist(), found.weight.tolist())
        for at, found in stream.told
    ]


@given(batch=meetings, cut=cuts, capacity=st.sampled_from([3, 50]))
@settings(max_examples=80, deadline=None)
def test_cutting_into_batches_changes_nothing(batch: Drawn, cut: list[int], capacity: int) -> None:
    """Neither what is told at ticks nor a byte of state, while pairs and actors are evicted."""
    whole, pieces = Stream(capacity), Stream(capacity)
    whole.apply(batch)
    ends = [0, *sorted({min(end, len(batch)) for end in cut} | {len(batch)})]
    for start, end in pairwise(ends):
        over = start and batch[start][0] // _TICK_MS > batch[start - 1][0] // _TICK_MS
        if over and end > start:
            pieces.tick(batch[start][0])
        pieces.apply(batch[start:end])
    assert told(pieces) == told(whole)
    for one, other in ((whole.ties, pieces.ties), (whole.actors, pieces.actors)):
        for name, array in one.row_arrays.items():
            assert np.array_equal(array, other.row_arrays[name]), name
        assert one.saved() == other.saved()


@given(batch=meetings)
@settings(max_examples=80, deadline=None)
def test_meetings_are_counted_as_a_search_counts_them(batch: Drawn) -> None:
    """By pair: different keys, but one for each event, and one for all keys that last."""
    stream = Stream()
    stream.apply(batch)
    expected: dict[tuple[int, int], list[set[int]]] = defaultdict(list)
    when: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for time_ms, gap_s, actor, partner, key, _ in batch:
        pair, gap_ms = (actor, partner), -1_000 * gap_s
        at = (max(time_ms, time_ms - 1_000 * gap_s), gap_ms)
        groups, times = expected[pair], when[pair]
        lasting = key % _SPACES == _LASTING
        place = next(
            (
                n
                for n, keys in enumerate(groups)
                if key in keys or (lasting and any(k % _SPACES == _LASTING for k in keys))
            ),
            None,
        )
        if place is None and at in times:
            place = len(times) - 1 - times[::-1].index(at)
        if place is None:
            groups.append(set())
            times.append(at)
            place = len(groups) - 1
        groups[place].add(key)
        if at[0] >= times[place][0]:
            times[place] = at
    arrays = stream.ties.row_arrays
    for row in range(len(stream.ties.keys)):
        pair = (int(arrays["first"][row]), int(arrays["second"][row]))
        assert arrays["meetings"][row] == len(expected[pair]), pair
