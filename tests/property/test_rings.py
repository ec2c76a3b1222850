"""Unbounded rings find exactly the pairs that a search over all of them finds."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.keys import KeyTable
from detectors.rings import Rings, RingSettings

_WINDOW_MS = 60
_UNBOUNDED = RingSettings(length=128, window_ms=_WINDOW_MS, partners=128)

traces = st.lists(
    st.tuples(st.integers(0, 12), st.integers(-150, 150), st.integers(1, 4), st.integers(1, 7)),
    max_size=100,
).map(
    # Times go on, and are late or early by what was drawn; some are equal.
    lambda drawn: [
        (1_000_000 + 7 * at + step + late, key, actor)
        for at, (step, late, key, actor) in enumerate(drawn)
    ]
)
cuts = st.lists(st.integers(0, 100), max_size=6)


class Stream:
    """Rings over a key table, as a stage has them."""

    def __init__(self, ring_settings: RingSettings, capacity: int) -> None:
        self.keys = KeyTable(capacity, 1)
        self.rings = Rings(capacity, ring_settings)
        self.columns: list[tuple[float, ...]] = []
        self.contacts: list[tuple[int, int, int, float]] = []
        self.truncated = 0

    def apply(self, batch: list[tuple[int, int, int]]) -> None:
        times_ms, keys, actors = np.array(batch, dtype=np.int64).reshape(-1, 3).T.copy()
        rows, fresh = self.keys.rows(keys.astype(np.uint64))
        found = self.rings.apply(times_ms, rows, fresh, actors.astype(np.uint64))
        start = len(self.columns)
        columns = (found.crowd, found.chance, found.audience, found.founders)
        self.columns += zip(*(column.tolist() for column in columns), strict=True)
        self.contacts += zip(
            (found.positions + start).tolist(),
            found.partners.tolist(),
            found.partner_ms.tolist(),
            found.chances.tolist(),
            strict=True,
        )
        self.truncated += found.truncated


def all_contacts(batch: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Of each trace, the earlier others on its key within the window: the newest of each."""
    found = []
    for at, (time_ms, key, actor) in enumerate(batch):
        met: dict[int, int] = {}
        for earlier_ms, other_key, other in reversed(batch[:at]):
            together = abs(time_ms - earlier_ms) <= _WINDOW_MS
            if other_key == key and other != actor and together and other not in met:
                met[other] = earlier_ms
        found += [(at, other, other_ms) for other, other_ms in met.items()]
    return found


@given(batch=traces)
@settings(max_examples=200, deadline=None)
def test_unbounded_rings_find_all_pairs(batch: list[tuple[int, int, int]]) -> None:
    """Late traces, equal times, many actions of one actor: each pair, once per trace."""
    stream = Stream(_UNBOUNDED, 8)
    stream.apply(batch)
    assert sorted(contact[:3] for contact in stream.contacts) == sorted(all_contacts(batch))
    assert stream.truncated == 0
    assert all(0.0 < chance <= 1.0 for *_, chance in stream.contacts)


@given(batch=traces)
@settings(max_examples=100, deadline=None)
def test_columns_are_what_a_search_finds(batch: list[tuple[int, int, int]]) -> None:
    stream = Stream(_UNBOUNDED, 8)
    stream.apply(batch)
    for at, (time_ms, key, actor) in enumerate(batch):
        before = [trace for trace in batch[:at] if trace[1] == key]
        others = [trace for trace in before if trace[2] != actor]
        near = [trace for trace in others if abs(trace[0] - time_ms) <= _WINDOW_MS]
        crowd = {who for when, _, who in near if when <= time_ms} | {actor}
        audience = {who for *_, who in before} | {actor}
        founder = (
            others[0][2] if others and len(audience) == 2 and len(others) == len(before) else 0
        )
        chance = len(near) / len(others) if others else 0.0
        assert stream.columns[at] == (len(crowd), chance, len(audience), founder)


@given(
    batch=traces,
    cut=cuts,
    capacity=st.sampled_from([1, 2, 8]),
    length=st.sampled_from([1, 3, 128]),
)
@settings(max_examples=150, deadline=None)
def test_cutting_into_batches_changes_nothing(
    batch: list[tuple[int, int, int]], cut: list[int], capacity: int, length: int
) -> None:
    """Neither what is found nor any byte of the state, while keys are evicted."""
    bounded = RingSettings(length=length, window_ms=_WINDOW_MS, partners=min(2, length))
    whole, pieces = Stream(bounded, capacity), Stream(bounded, capacity)
    whole.apply(batch)
    ends = sorted({min(end, len(batch)) for end in cut} | {len(batch)})
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        pieces.apply(batch[start:end])
    assert (pieces.contacts, pieces.columns) == (whole.contacts, whole.columns)
    assert pieces.truncated == whole.truncated
    for name, array in whole.rings.row_arrays.items():
        assert np.array_equal(array, pieces.rings.row_arrays[name]), name


@given(batch=traces, length=st.sampled_from([2, 5]))
@settings(max_examples=60, deadline=None)
def test_bounded_rings_find_some_of_the_pairs_and_no_others(
    batch: list[tuple[int, int, int]], length: int
) -> None:
    stream = Stream(RingSettings(length=length, window_ms=_WINDOW_MS, partners=length), 8)
    stream.apply(batch)
    assert {contact[:3] for contact in stream.contacts} <= set(all_contacts(batch))
