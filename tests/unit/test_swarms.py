"""Swarms: what is surprising for a key and its group, and what is not."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from detectors.keys import KeyTable
from detectors.rings import Rings
from detectors.swarms import SwarmOutputs, Swarms, SwarmSettings

Int64s = npt.NDArray[np.int64]
Traces = tuple[Int64s, Int64s, Int64s]  # times (ms), keys, actors

_HOUR_S = 3_600.0
_SWARM = 0.99


class Stream:
    """One group of keys, as a stage has it."""

    def __init__(self, swarm_settings: SwarmSettings | None = None, capacity: int = 4_096) -> None:
        self.keys = KeyTable(capacity)
        self.rings = Rings(capacity)
        self.swarms = Swarms(capacity, 2, swarm_settings)

    def apply(self, traces: Traces, group: int = 0) -> SwarmOutputs:
        times_ms, keys, actors = traces
        rows, fresh = self.keys.rows(keys.astype(np.uint64))
        found = self.rings.apply(times_ms, rows, fresh, actors.astype(np.uint64))
        groups = np.full(len(rows), group, dtype=np.int32)
        return self.swarms.apply(times_ms, rows, fresh, groups, found)


def traces(times_s: npt.NDArray[np.float64], keys: Int64s, actors: Int64s) -> Traces:
    """In the order of time."""
    order = np.argsort(times_s, kind="stable")
    return (1_000 * times_s[order]).astype(np.int64), keys[order], actors[order]


def together(*parts: Traces) -> Traces:
    times_ms, keys, actors = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return traces(times_ms / 1_000, keys, actors)


def usual(seed: int, hours: float, keys: int = 200, per_minute: float = 0.1) -> Traces:
    """Keys with rates that differ a hundredfold, actors that do not come back soon."""
    rng = np.random.default_rng(seed)
    rates = np.exp(rng.normal(0.0, 1.0, keys))
    count = rng.poisson(60 * hours * keys * per_minute)
    chosen = rng.choice(keys, count, p=rates / rates.sum())
    times_s = _HOUR_S * hours * rng.random(count)
    return traces(times_s, chosen + 1, rng.integers(1, 1_000_000, count))


def crowd(key: int, start_s: float, actors: int, width_s: float) -> Traces:
    """So many actors on one key, one after the other."""
    times_s = start_s + width_s * np.arange(actors) / actors
    names = 2_000_000 + 1_000 * key + np.arange(actors)
    return traces(times_s, np.full(actors, key), names)


def scores(stream: Stream, applied: Traces, key: int) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = stream.apply(applied).score[applied[1] == key]
    return found


def test_a_crowd_on_a_fresh_key_is_a_swarm() -> None:
    """15 actors in 40 s on a key that nobody had touched; found while it forms."""
    found = scores(Stream(), together(usual(1, 3.0), crowd(900, 2.5 * _HOUR_S, 15, 40)), 900)
    assert found.max() >= _SWARM
    assert (found >= _SWARM).argmax() <= 9
    assert found[:4].max() < 0.5


def test_a_slow_crowd_is_a_swarm_too() -> None:
    """One more every 25 s: unremarkable in a minute, not in ten."""
    found = scores(Stream(), together(usual(1, 3.0), crowd(900, 2 * _HOUR_S, 20, 500)), 900)
    assert found.max() >= _SWARM


def test_a_key_that_is_always_busy_is_none() -> None:
    """A carrier's address: 20 actors a minute, all day; and it may be half as busy again."""
    rng = np.random.default_rng(2)
    times_s = np.cumsum(rng.exponential(3.0, 4_800))
    late = times_s > 3 * _HOUR_S
    times_s[late] = 3 * _HOUR_S + (times_s[late] - 3 * _HOUR_S) / 1.5
    busy = traces(times_s, np.full(len(times_s), 900), rng.integers(1, 5_000, len(times_s)))
    applied = together(usual(2, 4.0), busy)
    found = scores(Stream(), applied, 900)
    known = applied[0][applied[1] == 900] > 20 * 60_000
    assert found[known].max() < 0.5


def test_an_audience_that_grows_over_minutes_is_none() -> None:
    """From two a minute it doubles every 15 minutes, for two hours: once known, it may go on."""
    rng = np.random.default_rng(3)
    minutes = np.arange(120)
    arrivals = rng.poisson(2.0 ** (1.0 + minutes / 15.0))
    times_s = 2 * _HOUR_S + 60 * (np.repeat(minutes, arrivals) + rng.random(arrivals.sum()))
    viral = traces(times_s, np.full(len(times_s), 900), 10_000_000 + np.arange(len(times_s)))
    assert len(viral[0]) > 9_000
    applied = together(usual(3, 4.0), viral)
    known = applied[0][applied[1] == 900] > 1_000 * (2 * _HOUR_S + 40 * 60)
    assert scores(Stream(), applied, 900)[known].max() < 0.5


def test_where_keys_take_off_all_the_time_one_more_is_none() -> None:
    """The same crowd, after three hours in which some key had one every other minute."""
    daily = [crowd(1_000 + n, 120.0 * n, 12, 40) for n in range(90)]
    applied = together(usual(4, 3.5), *daily, crowd(900, 3.2 * _HOUR_S, 12, 40))
    assert scores(Stream(), applied, 900).max() < 0.5
    quiet = together(usual(4, 3.5), crowd(900, 3.2 * _HOUR_S, 12, 40))
    assert scores(Stream(), quiet, 900).max() >= _SWARM


def test_a_few_swarms_do_not_hide_the_next() -> None:
    """What is usual is what is usual in half of all panes, and in three of four."""
    before = [crowd(1_000 + n, 1_500.0 + 1_500.0 * n, 15, 40) for n in range(6)]
    applied = together(usual(5, 4.0), *before, crowd(900, 3.5 * _HOUR_S, 15, 40))
    assert scores(Stream(), applied, 900).max() >= _SWARM


def test_before_anything_is_known_nothing_is_a_swarm() -> None:
    """In the first minutes every key is fresh, also those that were always busy."""
    busy = [crowd(key, 0.5 * key, 15, 60) for key in range(1, 20)]
    assert Stream().apply(together(*busy)).score.max() < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_the_score_is_how_often_chance_does_it(seed: int) -> None:
    """Keys that live by the model: in a day, 0.5 comes about once, 0.99 hardly ever."""
    applied = usual(100 + seed, 24.0)
    found = Stream().apply(applied).score
    once = len(np.unique(applied[0][found >= 0.5] // 60_000))
    assert once <= 4
    assert found.max() < _SWARM


def test_groups_are_apart() -> None:
    """What is usual in one says nothing about the other."""
    stream = Stream()
    stream.apply(together(usual(6, 3.0), *[crowd(1_000 + n, 120.0 * n, 12, 40) for n in range(90)]))
    stream.apply(
        (np.arange(0, 10_800_000, 10_000), 5_000 + np.arange(1_080), np.arange(1_080) + 1), 1
    )
    assert stream.apply(crowd(900, 3.1 * _HOUR_S, 12, 40)).score.max() < 0.5
    assert stream.apply(crowd(901, 3.1 * _HOUR_S, 12, 40), 1).score.max() >= _SWARM


def test_parts_of_a_space_count_as_looks() -> None:
    """With 16 parts, chance has 16 times as many occasions."""
    applied = together(usual(1, 3.0), crowd(900, 2.5 * _HOUR_S, 9, 40))
    whole = scores(Stream(), applied, 900)
    parts = scores(Stream(SwarmSettings(parts=16)), applied, 900)
    assert 1.0 / parts - 1.0 == pytest.approx(16 * (1.0 / whole - 1.0))


def test_a_swarm_goes_on_until_half_of_it_is_gone() -> None:
    """Who comes later belongs to it, though the key has got used to it; in the end it is over."""
    stream = Stream()
    minutes = np.arange(180)
    arrivals = np.where(minutes < 60, 12, 1)
    times_s = 2 * _HOUR_S + 60 * np.repeat(minutes, arrivals) + np.arange(arrivals.sum()) % 12 * 5.0
    long = traces(times_s, np.full(len(times_s), 900), 10_000_000 + np.arange(len(times_s)))
    applied = together(usual(7, 6.0), long)
    found = stream.apply(applied)
    mine = applied[1] == 900
    passed_s = applied[0][mine] / 1_000 - 2 * _HOUR_S
    assert found.swarming[mine][(passed_s > 60) & (passed_s < 3_600)].all()
    assert found.score[mine][(passed_s > 2_700) & (passed_s < 3_600)].max() < 0.9
    assert not found.swarming[mine][passed_s > 4_500].any()
    assert not found.swarming[~mine].any()


def test_late_traces_change_nothing_that_is_over() -> None:
    """They belong to the key's newest pane: time does not go back."""
    stream, late = Stream(), crowd(900, 0.5 * _HOUR_S, 5, 40)
    stream.apply(together(usual(8, 1.0), crowd(900, 0.9 * _HOUR_S, 2, 10)))
    panes = {name: stream.swarms.row_arrays[name].copy() for name in ("pane_60000", "slow_60000")}
    stream.apply(late)
    for name, array in panes.items():
        assert np.array_equal(array, stream.swarms.row_arrays[name])


def test_cutting_into_batches_changes_nothing() -> None:
    """Neither scores nor any byte of the state, while keys are evicted."""
    applied = together(
        usual(9, 3.0, keys=60), *[crowd(1_000 + n, 900.0 * n, 9, 50) for n in range(9)]
    )
    whole, pieces = Stream(capacity=40), Stream(capacity=40)
    expected = whole.apply(applied)
    ends = [0, 1, 2, 50, 51, 400, 1_000, len(applied[0])]
    parts = [
        pieces.apply((applied[0][a:b], applied[1][a:b], applied[2][a:b])) for a, b in pairwise(ends)
    ]
    for name in ("actors", "expected", "score", "swarming"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        assert np.array_equal(joined, getattr(expected, name)), name
    for name, array in {**whole.swarms.row_arrays, **whole.swarms.group_arrays}.items():
        other = {**pieces.swarms.row_arrays, **pieces.swarms.group_arrays}[name]
        assert np.array_equal(array, other), name


def test_it_goes_on_from_its_arrays() -> None:
    """Rows and groups are all there is."""
    applied = together(usual(10, 3.0), crowd(900, 2.5 * _HOUR_S, 15, 40))
    cut = len(applied[0]) // 2
    first, second = (tuple(c[:cut] for c in applied), tuple(c[cut:] for c in applied))
    stream = Stream()
    stream.apply((first[0], first[1], first[2]))
    copy = Swarms(4_096, 2)
    for name, array in {**copy.row_arrays, **copy.group_arrays}.items():
        array[:] = {**stream.swarms.row_arrays, **stream.swarms.group_arrays}[name]
    rest = (second[0], second[1], second[2])
    rows, fresh = stream.keys.rows(rest[1].astype(np.uint64))
    found = stream.rings.apply(rest[0], rows, fresh, rest[2].astype(np.uint64))
    groups = np.zeros(len(rows), dtype=np.int32)
    ours = stream.swarms.apply(rest[0], rows, fresh, groups, found)
    theirs = copy.apply(rest[0], rows, fresh, groups, found)
    assert np.array_equal(ours.score, theirs.score)
    assert ours.score.max() >= _SWARM


def test_fields_cover_every_column_and_depend_on_the_settings() -> None:
    swarms = Swarms(3, 1)
    covered = {name for field in swarms.fields for name in field.spans}
    assert covered == set(swarms.row_arrays)
    other = Swarms(3, 1, replace(SwarmSettings(), half_lives=(5.0, 100.0)))
    assert all(a.identity != b.identity for a, b in zip(swarms.fields, other.fields, strict=True))
    swarms.row_arrays["slow_60000"][:] = 3.0
    swarms.clear_rows(slice(0, 2))
    assert swarms.row_arrays["slow_60000"].tolist() == [0.0, 0.0, 3.0]


def test_rings_and_swarms_take_less_than_700_bytes() -> None:
    assert Rings(4).bytes_per_row + Swarms(4, 1).bytes_per_row <= 700


def test_nothing_comes_of_no_traces() -> None:
    stream = Stream()
    nothing = np.zeros(0, dtype=np.int64)
    found = stream.apply((nothing, nothing, nothing))
    assert len(found.score) == len(found.swarming) == 0
