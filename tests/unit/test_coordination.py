"""The exact search: equal times, several acts of one account, participation, celebrities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from detectors.coordination import Actions, CoordinationSearch, CoordinationSettings
from detectors.grouping import find_components, find_groups

Row = tuple[str, str, int]  # object, account, second


def _search(rows: list[Row], *, window_s: int = 60, least: int = 1) -> CoordinationSearch:
    """Each row has a content of its own; accounts and objects are coded in the order of names."""
    objects, accounts, seconds = zip(*rows, strict=True)
    actions = Actions(
        np.unique(objects, return_inverse=True)[1].astype(np.int32),
        np.unique(accounts, return_inverse=True)[1].astype(np.int32),
        np.arange(len(rows), dtype=np.int32),
        np.array(seconds, dtype=np.int64) * 1_000,
        np.zeros(len(rows), dtype=np.bool_),
    )
    settings = CoordinationSettings(window_ms=window_s * 1_000, min_participation=least)
    return CoordinationSearch(actions, settings)


def _pairs(search: CoordinationSearch) -> list[tuple[int, int]]:
    return [
        (int(older), int(newer))
        for pairs in search.pairs()
        for older, newer in zip(pairs.older, pairs.newer, strict=True)
    ]


def test_the_window_has_its_ends() -> None:
    rows = [("x", "a", 100), ("x", "b", 160), ("x", "c", 161), ("y", "d", 100)]
    assert _pairs(_search(rows)) == [(0, 1), (1, 2)]
    assert _pairs(_search(rows, window_s=0)) == []


def test_the_older_comes_first_and_of_equal_times_the_first_row() -> None:
    assert _pairs(_search([("x", "a", 9), ("x", "b", 5)])) == [(1, 0)]
    assert _pairs(_search([("x", "b", 5), ("x", "a", 5)], window_s=0)) == [(0, 1)]


def test_one_account_is_no_pair_but_each_of_its_acts_is_in_one() -> None:
    search = _search([("x", "a", 0), ("x", "a", 1), ("x", "b", 2), ("x", "a", 300)])
    assert _pairs(search) == [(0, 2), (1, 2)]
    edges = search.edges()
    assert (edges.weight.tolist(), edges.objects.tolist()) == ([2], [1])
    assert edges.apart_ms.tolist() == [1_500.0]


def test_participation_is_counted_before_and_after() -> None:
    """First acts at all, then acts in pairs: a pair stays if either account has enough of them."""
    once = [("x", "a", 0), ("x", "b", 1)]
    assert _pairs(_search(once, least=2)) == []
    apart = [*once, ("y", "a", 0), ("z", "b", 0)]
    assert _pairs(_search(apart, least=2)) == []
    either = [*apart, ("y", "c", 5), ("z", "c", 9_999)]
    assert _pairs(_search(either, least=2)) == [(0, 1), (2, 4)]
    assert _search(either, least=2).participating == 6


def test_many_acts_on_one_object_come_in_their_order() -> None:
    """More than are sorted by insertion, in an order that is neither rising nor falling."""
    seconds = np.random.default_rng(1).permutation(200) // 2
    search = _search([("x", f"{at:03d}", int(at)) for at in seconds], window_s=1)
    expected = {
        tuple(sorted(pair, key=lambda row: (seconds[row], row)))
        for pair in itertools.combinations(range(200), 2)
        if abs(seconds[pair[0]] - seconds[pair[1]]) <= 1 and seconds[pair[0]] != seconds[pair[1]]
    }
    assert set(_pairs(search)) == expected


def test_an_empty_table_has_nothing() -> None:
    empty = np.empty(0, np.int32)
    actions = Actions(empty, empty, empty, empty.astype(np.int64), empty.astype(np.bool_))
    search = CoordinationSearch(actions, CoordinationSettings())
    edges = search.edges()
    assert (_pairs(search), len(edges), search.chances(edges).tests) == ([], 0, 0)


def _celebrity(rng: np.random.Generator, accounts: list[str], start: int) -> list[Row]:
    """Everybody shares it within two minutes."""
    return [("celebrity", name, start + int(rng.integers(120))) for name in accounts]


@pytest.mark.parametrize("seed", range(5))
def test_what_everybody_shares_glues_nobody(seed: int) -> None:
    """Two crews on objects that others share over days, and a celebrity that 400 share at once.

    By raw edges all are one component; by what chance does not explain, the two crews are groups.
    """
    rng = np.random.default_rng(seed)
    strangers = [f"stranger-{number:03d}" for number in range(388)]
    crews = [[f"crew-{crew}-{number}" for number in range(6)] for crew in "ab"]
    rows = _celebrity(rng, [*strangers, *crews[0], *crews[1]], 50_000)
    for crew, names in enumerate(crews):
        for wave in range(6):
            title = f"object-{crew}-{wave}"
            start = int(rng.integers(1_000, 250_000))
            rows += [(title, name, start + int(rng.integers(20))) for name in names]
            others = rng.choice(strangers, 60, replace=False)
            rows += [(title, str(name), int(rng.integers(259_200))) for name in others]
    search = _search(rows, least=2)
    edges = search.edges()
    a, b = edges.a.astype(np.int64), edges.b.astype(np.int64)
    assert np.diff(find_components(a, b, edges.weight.astype(float)).starts)[0] > 300
    kept = search.chances(edges).q <= 0.05
    groups = find_groups(a[kept], b[kept], edges.objects[kept].astype(float))
    everybody = np.unique([row[1] for row in rows])
    bounds = itertools.pairwise(groups.starts.tolist())
    found = sorted(sorted(everybody[groups.members[start:end]].tolist()) for start, end in bounds)
    assert found == crews


def test_objects_on_which_everybody_is_at_once_prove_nothing() -> None:
    """Who acts within the window whatever the order met by no merit of their own."""
    rows = [(f"x{wave}", name, wave * 9_999) for wave in range(5) for name in "abcd"]
    search = _search(rows)
    chances = search.chances(search.edges())
    assert chances.expected.tolist() == [5.0] * 6
    assert (chances.q > 0.5).all()
