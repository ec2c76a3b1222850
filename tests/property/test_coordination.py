"""The search finds what the definition says, however pairs are cut into chunks."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detectors.chance import false_discovery_rates, meeting_chance, poisson_tail
from detectors.coordination import Actions, CoordinationSearch, CoordinationSettings


class Row(NamedTuple):
    object: int
    account: int
    content: int
    time_ms: int
    own: bool


ROWS = st.lists(
    st.builds(
        Row,
        st.integers(0, 3),
        st.integers(0, 5),
        st.integers(0, 11),
        st.integers(0, 12),
        st.sampled_from([False, False, False, True]),
    ),
    max_size=40,
)
WINDOWS = st.integers(0, 6)
LEAST = st.integers(1, 4)
CROWD = [Row(0, account % 6, account, account // 5, own=False) for account in range(40)]


def _search(rows: list[Row], window: int, least: int, **bounds: int) -> CoordinationSearch:
    columns = np.array(rows, dtype=np.int64).reshape(-1, 5).T
    objects, accounts, contents = columns[:3].astype(np.int32)
    actions = Actions(objects, accounts, contents, columns[3], columns[4].astype(bool))
    return CoordinationSearch(
        actions, CoordinationSettings(window_ms=window, min_participation=least, **bounds)
    )


def _found(search: CoordinationSearch) -> list[tuple[int, int]]:
    return [
        (int(older), int(newer))
        for pairs in search.pairs()
        for older, newer in zip(pairs.older, pairs.newer, strict=True)
    ]


def _expected(rows: list[Row], window: int, least: int) -> set[tuple[int, int]]:
    """All pairs of rows, by the words of the definition."""
    acts = Counter(row.account for row in rows)
    there = [index for index, row in enumerate(rows) if acts[row.account] >= least]
    pairs = set()
    for i, j in itertools.combinations(there, 2):
        a, b = rows[i], rows[j]
        if a.object != b.object or a.account == b.account or a.content == b.content:
            continue
        if not a.own and not b.own and abs(a.time_ms - b.time_ms) <= window:
            pairs.add((i, j) if a.time_ms <= b.time_ms else (j, i))
    matched = {rows[index].content for pair in pairs for index in pair}
    in_pairs = [rows[index] for index in there if rows[index].content in matched]
    enough = Counter(row.account for row in in_pairs)
    active = {row.content for row in in_pairs if enough[row.account] >= least}
    return {(i, j) for i, j in pairs if rows[i].content in active or rows[j].content in active}


@given(ROWS, WINDOWS, LEAST, st.integers(1, 50))
@example(CROWD, 3, 2, 7)
def test_pairs_are_those_of_the_definition(
    rows: list[Row], window: int, least: int, chunk: int
) -> None:
    found = _found(_search(rows, window, least, chunk_pairs=chunk))
    assert len(found) == len(set(found))
    assert set(found) == _expected(rows, window, least)


@given(ROWS, WINDOWS, LEAST, st.integers(1, 50))
@example(CROWD, 3, 2, 7)
def test_edges_add_up_the_pairs(rows: list[Row], window: int, least: int, chunk: int) -> None:
    edges = _search(rows, window, least, chunk_pairs=chunk).edges()
    pairs = defaultdict[tuple[int, int], list[tuple[int, int]]](list)
    for older, newer in _expected(rows, window, least):
        a, b = sorted((rows[older].account, rows[newer].account))
        apart_ms = rows[newer].time_ms - rows[older].time_ms
        pairs[a, b].append((rows[older].object, apart_ms))
    assert list(zip(edges.a.tolist(), edges.b.tolist(), strict=True)) == sorted(pairs)
    for edge, key in enumerate(sorted(pairs)):
        objects, apart = zip(*pairs[key], strict=True)
        assert edges.weight[edge] == len(objects)
        assert edges.objects[edge] == len(set(objects))
        assert edges.apart_ms[edge] == pytest.approx(np.mean(apart))


@given(ROWS, WINDOWS, LEAST)
@example(CROWD, 3, 2)
def test_chances_are_those_of_the_definition(rows: list[Row], window: int, least: int) -> None:
    """Expected meetings and p by counting; q from all that the pairs could have come to."""
    search = _search(rows, window, least)
    edges = search.edges()
    chances = search.chances(edges)
    acts = Counter(row.account for row in rows)
    of_object = defaultdict[int, list[Row]](list)
    for row in rows:
        if acts[row.account] >= least:
            of_object[row.object].append(row)
    common = Counter[tuple[int, int]]()
    expected = defaultdict[tuple[int, int], float](float)
    for there in of_object.values():
        near = [abs(a.time_ms - b.time_ms) <= window for a, b in itertools.combinations(there, 2)]
        if not any(near):
            continue
        counts = Counter(row.account for row in there)
        for pair in itertools.combinations(sorted(counts), 2):
            common[pair] += 1
            expected[pair] += meeting_chance(
                sum(near) / len(near), counts[pair[0]], counts[pair[1]]
            )
    keys = list(zip(edges.a.tolist(), edges.b.tolist(), strict=True))
    assert chances.expected == pytest.approx([expected[key] for key in keys])
    p = np.array(
        [poisson_tail(n, expected[key]) for n, key in zip(edges.objects, keys, strict=True)]
    )
    assert chances.p == pytest.approx(p)
    tried = {pair for pair, objects in common.items() if objects >= 2}
    assert chances.tests == len(tried)
    least_p = np.array([poisson_tail(common[pair], expected[pair]) for pair in tried])
    below = [int((least_p <= value * (1 + 1e-9)).sum()) for value in p[edges.objects >= 2]]
    exact = false_discovery_rates(p[edges.objects >= 2], np.array(below, dtype=np.int64))
    q = chances.q[edges.objects >= 2]
    assert (q >= exact * (1 - 1e-9)).all()
    assert (q <= false_discovery_rates(p[edges.objects >= 2], len(tried)) * (1 + 1e-9)).all()
    assert (chances.q[edges.objects < 2] == 1.0).all()


@settings(max_examples=50)
@given(ROWS, WINDOWS, st.integers(0, 60))
def test_what_does_not_fit_is_left_out_whole(rows: list[Row], window: int, most: int) -> None:
    """And the rest is found as if the objects left out were not there, but for participation."""
    search = _search(rows, window, 1, most_pairs=most)
    out = set(search.left_out.tolist())
    rest = {pair for pair in _expected(rows, window, 1) if rows[pair[0]].object not in out}
    assert set(_found(search)) == rest
    assert len(rest) <= most
    actions, within = search.actions_of(search.left_out)
    assert (np.diff(within) <= 0).all()
    assert actions.tolist() == [sum(row.object == k for row in rows) for k in search.left_out]
    assert (
        not out
        or within.sum()
        + sum(
            abs(a.time_ms - b.time_ms) <= window
            for a, b in itertools.combinations(rows, 2)
            if a.object == b.object and a.object not in out
        )
        > most
    )


@given(ROWS, WINDOWS, LEAST)
def test_a_bound_of_the_tests_makes_q_no_lower(rows: list[Row], window: int, least: int) -> None:
    search = _search(rows, window, least)
    edges = search.edges()
    exact, bounded = search.chances(edges), search.chances(edges, most_steps=-1)
    assert bounded.bounded
    assert bounded.tests >= exact.tests
    assert (bounded.q >= exact.q * (1 - 1e-9)).all()
    assert (bounded.p == exact.p).all()
