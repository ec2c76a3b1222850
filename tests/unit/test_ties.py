"""Ties: what counts as a meeting, and which pairs chance does not explain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from detectors.keys import KeyTable
from detectors.rings import Rings
from detectors.ties import ActorTable, Exposures, Meetings, SignificantTies, TieSettings, TieTable

Hashes = npt.NDArray[np.uint64]

_HOUR_MS = 3_600_000
_ASSET, _COPY, _DEVICE, _NETWORK = range(4)
_SETTINGS = TieSettings(spaces=4, lasting=frozenset({_DEVICE, _NETWORK}))
_START_MS = 1_000 * _HOUR_MS


class Tables:
    """Ties and actors, fed with what is said directly."""

    def __init__(self, tie_settings: TieSettings = _SETTINGS, capacity: int = 1_000) -> None:
        self.actors = ActorTable(capacity, tie_settings)
        self.ties = TieTable(capacity, tie_settings)

    def meet(
        self,
        first: int,
        second: int,
        key: int,
        *,
        minute: float = 0.0,
        gap_s: float = 10.0,
        chance: float = 0.001,
        space: int = _ASSET,
        swarm: float = 0.0,
        company: float = 1.0,
    ) -> None:
        """The second acts on a key, the first so much earlier."""
        time_ms = _START_MS + int(60_000 * minute)
        earlier_ms = time_ms - int(1_000 * gap_s)
        self.expose(
            [(first, key, earlier_ms, 0.0, 1.0), (second, key, time_ms, chance, 1 + company)], space
        )
        self.ties.apply(
            Meetings(
                times_ms=np.array([time_ms]),
                actors=_hashes(second),
                partners=_hashes(first),
                partner_ms=np.array([earlier_ms]),
                keys=_hashes(key),
                spaces=np.array([space], dtype=np.uint8),
                swarm_scores=np.array([swarm]),
            )
        )

    def expose(
        self, done: Sequence[tuple[int, int, int, float, float]], space: int = _ASSET
    ) -> None:
        """Actors, keys, times, chances and crowds."""
        actors, keys, times_ms, chances, crowds = zip(*done, strict=True)
        self.actors.apply(
            Exposures(
                np.array(times_ms, dtype=np.int64),
                _hashes(*actors),
                _hashes(*keys),
                np.full(len(done), space, dtype=np.uint8),
                np.array(chances, dtype=np.float64),
                np.array(crowds, dtype=np.float64),
            )
        )

    def others(self, count: int = 20_000, space: int = _ASSET) -> None:
        """Activity of many, so that nobody has much of it."""
        self.expose(
            [(10_000 + n % 500, 10_000 + n, _START_MS, 0.1, 1.0) for n in range(count)], space
        )

    def significant(
        self, minute: float = 60.0, since_minute: float = -1_000.0, swarm_keys: Sequence[int] = ()
    ) -> SignificantTies:
        now_ms = _START_MS + int(60_000 * minute)
        since_ms = _START_MS + int(60_000 * since_minute)
        return self.ties.significant(self.actors, _hashes(*swarm_keys), now_ms, since_ms)

    def met(self) -> int:
        """The meetings of the only pair."""
        return int(self.ties.row_arrays["meetings"][0])


def _hashes(*numbers: int) -> Hashes:
    return np.array(numbers, dtype=np.uint64)


def test_a_pair_that_meets_on_different_keys_against_the_odds_is_tied() -> None:
    tables = Tables()
    tables.others()
    for key in range(1, 5):
        tables.meet(7, 8, key, minute=key, gap_s=key)
    found = tables.significant()
    assert (found.first.tolist(), found.second.tolist()) == ([7], [8])
    assert found.weight.tolist() == [4]
    assert found.expected.tolist() == [pytest.approx(0.004)]
    assert found.q[0] < 1e-6
    assert found.gaps_ms[0, :4].tolist() == [1_000, 2_000, 3_000, 4_000]
    assert found.keys[0, :4, 0].tolist() == [1, 2, 3, 4]


def test_the_gap_is_negative_where_the_second_came_first() -> None:
    """First and second are told by their hashes."""
    tables = Tables()
    tables.others()
    for key in range(1, 5):
        tables.meet(8, 7, key, minute=key, gap_s=key)
    assert tables.significant().gaps_ms[0, :4].tolist() == [-1_000, -2_000, -3_000, -4_000]


def test_spaces_that_agree_add_up() -> None:
    """Once on a video, once on a copy of another, once on a device: three meetings."""
    tables = Tables()
    for space in range(4):
        tables.others(space=space)
    for key, space in enumerate([_ASSET, _COPY, _DEVICE], 1):
        tables.meet(7, 8, key, minute=key, space=space)
    found = tables.significant()
    assert found.weight.tolist() == [3]
    spaces = found.spaces[0, :3].tolist()
    assert spaces == [1 << _ASSET, 1 << _COPY, 1 << _DEVICE]


def test_the_same_key_counts_once() -> None:
    tables = Tables()
    for minute in range(9):
        tables.meet(7, 8, 1, minute=minute)
    assert tables.met() == 1
    tables.meet(7, 8, 2)
    assert tables.met() == 2


def test_keys_of_one_event_are_one_meeting() -> None:
    """The video and its copy, whichever comes first, and again in a later event."""
    tables = Tables()
    for minute, order in enumerate([(1, 2), (2, 1), (1, 2)]):
        for key in order:
            tables.meet(7, 8, key, minute=minute, space=_ASSET if key == 1 else _COPY)
    tables.meet(7, 8, 3, minute=9)
    assert tables.met() == 2
    spaces = tables.ties.row_arrays["spaces"][0]
    assert sorted(spaces[spaces > 0].tolist()) == [1 << _ASSET, 1 << _ASSET | 1 << _COPY]


def test_keys_that_last_count_once_in_all() -> None:
    """A device, its network and the network of the next day say one thing: these two live there."""
    tables = Tables()
    for minute, (key, space) in enumerate(
        [(1, _DEVICE), (2, _NETWORK), (3, _NETWORK), (4, _ASSET)]
    ):
        tables.meet(7, 8, key, minute=minute, space=space)
    assert tables.met() == 2


def test_keys_shared_without_meeting_are_expected_meetings() -> None:
    """Two who like the same: they met on 3 of 23 shared keys where chance makes that many."""
    for shared, tied in ((0, 1), (20, 0)):
        tables = Tables()
        tables.others()
        for key in range(1, 4):
            tables.meet(7, 8, key, minute=key, chance=0.01)
        for key in range(100, 100 + shared):
            early_ms = _START_MS + 1_000 * key
            late_ms = early_ms + _HOUR_MS
            tables.expose([(7, key, early_ms, 0.0, 1.0), (8, key, late_ms, 0.1, 1.0)])
        found = tables.significant(120)
        assert len(found) == tied
        expected = tables.ties.row_arrays["expected"][0]
        assert expected == pytest.approx(0.03 + 0.1 * shared, rel=1e-5)


def test_a_key_on_which_both_act_often_expects_them_to_meet() -> None:
    tables = Tables()
    tables.others()
    tables.meet(7, 8, 1, minute=1, chance=0.01)
    for _ in range(9):
        tables.expose([(7, 2, _START_MS, 0.0, 1.0)])
    tables.meet(7, 8, 2, minute=2, chance=0.01)
    tables.significant()
    # Ten actions of one on the second key: as many chances for the other to meet one of them.
    assert tables.ties.row_arrays["expected"][0] == pytest.approx(0.01 + 0.1, rel=1e-5)


def test_keys_of_one_event_are_expected_once() -> None:
    """Both keys were shared by the same two events: the likelier of the two counts."""
    tables = Tables()
    tables.others()
    tables.others(space=_COPY)
    tables.meet(7, 8, 1, minute=1, chance=0.01)
    tables.meet(7, 8, 2, minute=1, chance=0.03, space=_COPY)
    tables.meet(7, 8, 3, minute=2, chance=0.05)
    tables.significant()
    assert tables.ties.row_arrays["expected"][0] == pytest.approx(0.08, rel=1e-5)


def test_who_is_everywhere_meets_everyone() -> None:
    """Activity alone explains it: the pair makes half of all actions."""
    tables = Tables()
    for key in range(1, 6):
        tables.meet(7, 8, key, minute=key)
    assert not len(tables.significant())
    tables.others()
    tables.meet(7, 8, 6, minute=6)
    assert len(tables.significant()) == 1


def test_keys_of_a_minute_tie_nobody_unless_they_are_swarms() -> None:
    """Everybody on them meets everybody: chance 1. A crowd that nobody expects is evidence."""
    for swarm, tied in ((0.0, 0), (0.95, 1)):
        tables = Tables()
        tables.others()
        for key in range(1, 5):
            tables.meet(7, 8, key, minute=key, chance=1.0, swarm=swarm, company=20.0)
        assert len(tables.significant()) == tied


def test_who_came_before_the_crowd_was_in_the_swarm_too() -> None:
    """The swarm shows after they met; it is known by its key when the tie is judged."""
    for swarm_keys, tied in (((), 0), ((2, 3, 4), 1), ((4,), 0), ((5, 6, 7, 8), 0)):
        tables = Tables()
        tables.others()
        for key in range(1, 5):
            tables.meet(7, 8, key, minute=key, chance=1.0, company=20.0)
        found = tables.significant(swarm_keys=swarm_keys)
        assert len(found) == tied
        if tied:
            # Of 40 who were there before, one in 20,016 is the other; and the other way round.
            assert found.weight.tolist() == [3]
            assert found.expected.tolist() == [pytest.approx(4 * 20 * 4 / 20_008, rel=1e-3)]


def test_meetings_beyond_the_horizon_are_forgotten() -> None:
    tables = Tables()
    tables.others()
    for key in range(1, 4):
        tables.meet(7, 8, key, minute=key)
    assert len(tables.significant(60)) == 1
    tables.meet(7, 8, 4, minute=1_441 + 2)
    tables.significant(1_441 + 3)
    # Those of the first three minutes are more than a day old.
    assert tables.ties.row_arrays["weight"][0] == 0
    assert not len(tables.significant(1_441 + 3))


def test_a_meeting_on_a_key_that_an_actor_forgot_does_not_count() -> None:
    """Else a busy actor's meetings would be compared with the keys of the last hour alone."""
    tables = Tables()
    for key in range(1, 6):
        tables.meet(7, 8, key, minute=key)
    tables.expose([(7, 100 + n, _START_MS + 10 * 60_000, 0.0, 1.0) for n in range(29)])
    tables.meet(7, 8, 6, minute=11)
    tables.significant()
    # There is room for 32: two of the first five, and 30 that came later.
    assert tables.ties.row_arrays["weight"][0] == 3


def test_only_ties_that_met_lately_are_told() -> None:
    tables = Tables()
    tables.others()
    for key in range(1, 5):
        tables.meet(7, 8, key, minute=key)
    assert len(tables.significant(60, since_minute=3)) == 1
    assert not len(tables.significant(60, since_minute=5))


def test_many_pairs_make_one_that_is_a_little_unlikely_unremarkable() -> None:
    """Benjamini and Hochberg: of thousands who met once, some two meet again."""
    tables = Tables(capacity=10_000)
    tables.others()
    for key in (1, 2, 3):
        tables.meet(7, 8, key, minute=key, chance=0.02)
    assert len(tables.significant()) == 1
    for n in range(3_000):
        tables.meet(20_000 + 2 * n, 20_001 + 2 * n, 50_000 + n)
    tables.meet(7, 8, 3, minute=4, chance=0.02)
    assert not len(tables.significant())


def test_pairs_that_met_once_go_before_those_that_met_again() -> None:
    tables = Tables(capacity=100)
    for key in (1, 2):
        tables.meet(7, 8, key, minute=key)
    for n in range(500):
        tables.meet(20_000 + 2 * n, 20_001 + 2 * n, 50_000 + n)
    assert [7, 8] in np.stack(
        [tables.ties.row_arrays["first"], tables.ties.row_arrays["second"]], 1
    ).tolist()


@pytest.mark.parametrize("late", [False, True])
def test_a_late_meeting_is_one_like_any(late: bool) -> None:
    """Whichever of two times is the later one, the gap and the time of the meeting are alike."""
    tables = Tables()
    early_ms, late_ms = _START_MS, _START_MS + 30_000
    tables.ties.apply(
        Meetings(
            times_ms=np.array([early_ms if late else late_ms]),
            actors=_hashes(7 if late else 8),
            partners=_hashes(8 if late else 7),
            partner_ms=np.array([late_ms if late else early_ms]),
            keys=_hashes(1),
            spaces=np.zeros(1, dtype=np.uint8),
            swarm_scores=np.zeros(1),
        )
    )
    arrays = tables.ties.row_arrays
    assert (arrays["times_ms"][0, 0], arrays["gaps_ms"][0, 0]) == (late_ms, 30_000)


def test_it_goes_on_from_its_arrays_and_what_is_saved() -> None:
    tables, copy = Tables(), Tables()
    tables.others()
    for key in (1, 2, 3):
        tables.meet(7, 8, key, minute=key)
    for old, new in ((tables.actors, copy.actors), (tables.ties, copy.ties)):
        used = len(old.keys)
        arrays = {name: array[:used] for name, array in old.keys.row_arrays.items()}
        new.keys.restore(arrays, old.keys.counters)
        for name, array in new.row_arrays.items():
            array[:] = old.row_arrays[name]
        new.restore(old.saved())
    tables.meet(7, 8, 4, minute=4)
    copy.meet(7, 8, 4, minute=4)
    assert copy.significant().q.tolist() == tables.significant().q.tolist() != []
    assert copy.ties.saved() == tables.ties.saved()


def test_fields_cover_every_column_and_rows_can_be_cleared() -> None:
    tables = Tables()
    tables.meet(7, 8, 1)
    for part in (tables.actors, tables.ties):
        [field] = part.fields
        covered = {name: spans[0].columns for name, spans in field.spans.items()}
        assert covered == {name: array[0].size for name, array in part.row_arrays.items()}
        empty = {name: array[-1].copy() for name, array in part.row_arrays.items()}
        part.clear_rows(slice(0, 2))
        for name, array in part.row_arrays.items():
            assert np.array_equal(array[0], empty[name]), name


def test_memory_is_bounded() -> None:
    settings = TieSettings(spaces=10)
    actors, ties = ActorTable(4, settings), TieTable(4, settings)
    assert actors.bytes_per_row + KeyTable(4).bytes_per_row <= 1_500
    assert ties.bytes_per_row + Rings(4).bytes_per_row <= 1_500
