"""Rings: who is found with whom, how likely by chance, and within which bounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from detectors.rings import RingOutputs, Rings, RingSettings


def apply(rings: Rings, traces: Sequence[tuple[float, int]], *, fresh: bool = False) -> RingOutputs:
    """Traces (seconds, actor) on one key."""
    n = len(traces)
    return rings.apply(
        np.array([int(1_000 * seconds) for seconds, _ in traces], dtype=np.int64),
        np.zeros(n, dtype=np.int32),
        np.array([fresh, *[False] * (n - 1)]),
        np.array([actor for _, actor in traces], dtype=np.uint64),
    )


def contacts(found: RingOutputs) -> list[tuple[int, int, float]]:
    return list(
        zip(
            found.positions.tolist(),
            found.partners.tolist(),
            (found.partner_ms / 1_000).tolist(),
            strict=True,
        )
    )


def test_partners_are_others_within_the_window_once_and_newest_first() -> None:
    found = apply(Rings(1), [(0, 1), (50, 2), (55, 3), (58, 2), (60, 4), (61, 4)])
    assert contacts(found) == [
        (1, 1, 0.0),
        (2, 2, 50.0),
        (2, 1, 0.0),
        (3, 3, 55.0),
        (3, 1, 0.0),
        (4, 2, 58.0),
        (4, 3, 55.0),
        (4, 1, 0.0),
        (5, 2, 58.0),
        (5, 3, 55.0),
    ]
    assert found.truncated == 0


def test_late_traces_meet_those_after_them() -> None:
    """The window reaches both ways; the crowd of a trace is who acted until then."""
    found = apply(Rings(1), [(100, 1), (130, 2), (55, 3), (80, 4)])
    assert contacts(found) == [
        (1, 1, 100.0),
        (2, 1, 100.0),
        (3, 3, 55.0),
        (3, 2, 130.0),
        (3, 1, 100.0),
    ]
    assert found.crowd.tolist() == [1, 2, 1, 2]


def test_partners_beyond_the_bound_are_counted() -> None:
    rings = Rings(1, RingSettings(partners=3))
    found = apply(rings, [(second, second) for second in range(1, 8)])
    assert [len(found.partners[found.positions == at]) for at in range(7)] == [0, 1, 2, 3, 3, 3, 3]
    assert found.partners[found.positions == 6].tolist() == [6, 5, 4]
    assert found.truncated == 1 + 2 + 3


def test_a_fresh_row_knows_nobody() -> None:
    rings = Rings(1)
    apply(rings, [(0, 1), (1, 2)])
    found = apply(rings, [(2, 3), (3, 4)], fresh=True)
    assert contacts(found) == [(1, 3, 2.0)]
    assert (found.audience.tolist(), found.founders.tolist()) == ([1, 2], [0, 3])
    assert set(rings.row_arrays["actors"].ravel().tolist()) == {0, 3, 4}


def test_chance_is_the_share_of_earlier_moments_that_lie_within_the_window() -> None:
    """Of 9 others before, 1 is within the minute; an actor who was there thrice is likelier."""
    hours = [(3_600.0 * hour, 10 + hour) for hour in range(8)]
    found = apply(Rings(1), [*hours, (30_000, 5), (30_010, 6)])
    assert (found.partners.tolist(), found.chances.tolist()) == ([5], [pytest.approx(1 / 9)])
    thrice = [(0.0, 5), (3_600.0, 5), *hours[2:]]
    found = apply(Rings(1), [*thrice, (30_000, 5), (30_010, 6)])
    # C(8, 3) of the C(9, 3) ways to place three actions avoid the one moment.
    assert found.chances.tolist() == [pytest.approx(1 - 56 / 84)]
    assert found.chance[-1] == pytest.approx(1 / 9)


def test_own_actions_are_not_moments_at_which_another_could_have_acted() -> None:
    mine = [(3_600.0 * hour, 6) for hour in range(8)]
    found = apply(Rings(1), [*mine, (30_000, 5), (30_010, 6)])
    assert found.chances.tolist() == [1.0]


def test_a_key_of_one_minute_says_nothing() -> None:
    found = apply(Rings(1), [(second, second) for second in range(1, 12)])
    assert np.array_equal(found.chances, np.ones(len(found.chances)))


def test_where_the_ring_is_shorter_than_the_window_its_rate_counts() -> None:
    """100 actors in 10 s on a key that had 1,000 before: the crowd of a minute is about 600."""
    rings = Rings(1)
    apply(rings, [(10.0 * at, at + 1) for at in range(1_000)])
    found = apply(rings, [(20_000 + at / 10, 5_000 + at) for at in range(100)])
    assert found.crowd[-1] == pytest.approx(600, rel=0.05)
    # At this rate more lie within the minute than were seen: 600 of 1,099.
    assert found.chance[-1] == pytest.approx(600 / 1_099, rel=0.05)
    assert found.chance[0] == 0.0


def test_the_audience_counts_actors_and_tells_the_founder_once() -> None:
    rings = Rings(1, RingSettings(length=4, partners=4))
    found = apply(rings, [(0, 7), (5, 7), (9_000, 8), (9_001, 7), (9_002, 9), (9_003, 8)])
    assert found.audience.tolist() == [1, 1, 2, 2, 3, 3]
    assert found.founders.tolist() == [0, 0, 7, 0, 0, 0]
    # Who comes back after a ring's length of others counts again: it is all that is remembered.
    found = apply(rings, [(9_004, 1), (9_005, 2), (9_006, 3), (9_007, 4), (9_008, 7)])
    assert found.audience.tolist() == [4, 5, 6, 7, 8]


def test_a_ring_takes_less_than_700_bytes() -> None:
    assert Rings(10).bytes_per_row <= 700


def test_fields_cover_every_column_and_depend_on_the_length() -> None:
    """A ring of another length cannot be taken over: its places have another meaning."""
    for length in (4, 32):
        rings = Rings(3, RingSettings(length=length, partners=4))
        [field] = rings.fields
        covered = {name: sum(span.columns for span in spans) for name, spans in field.spans.items()}
        assert covered == {name: array[0].size for name, array in rings.row_arrays.items()}
        assert field.identity["length"] == length
