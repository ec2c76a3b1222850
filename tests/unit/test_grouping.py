"""Groups hold without any one of their members."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.grouping import Groups, find_components, find_groups

Tie = tuple[int, int, float]


def _find(ties: list[Tie], dtype: type[np.integer] = np.int64) -> Groups:
    first, second, weight = zip(*ties, strict=True) if ties else ((), (), ())
    return find_groups(np.array(first, dtype), np.array(second, dtype), np.array(weight, float))


def _sets(groups: Groups) -> list[set[int]]:
    bounds = itertools.pairwise(groups.starts)
    return [set(groups.members[start:end].tolist()) for start, end in bounds]


def _clique(nodes: range) -> list[Tie]:
    return [(a, b, 3.0) for a, b in itertools.combinations(nodes, 2)]


def test_a_clique_is_a_group_and_a_pair_is_none() -> None:
    groups = _find([*_clique(range(4)), (10, 11, 9.0)])
    assert _sets(groups) == [{0, 1, 2, 3}]
    assert groups.degree.tolist() == [9.0] * 4
    assert groups.core.all()


def test_a_hub_of_strangers_makes_no_group() -> None:
    assert len(_find([(0, other, 5.0) for other in range(1, 100)])) == 0


def test_no_tie_makes_no_group() -> None:
    groups = _find([])
    assert len(groups) == 0
    assert groups.starts.tolist() == [0]


def test_a_hub_belongs_to_the_groups_it_touches_and_joins_them_not() -> None:
    """Neither by one tie to each, nor by a tie to everybody."""
    crews = [*_clique(range(1, 7)), *_clique(range(11, 16))]
    assert _sets(_find([*crews, (0, 1, 2.0), (0, 11, 2.0)])) == [{*range(1, 7)}, {*range(11, 16)}]
    ties = [(0, node, 2.0) for node in (*range(1, 7), *range(11, 16))]
    assert _sets(_find([*crews, *ties])) == [{0, *range(1, 7)}, {0, *range(11, 16)}]


def test_who_hangs_on_by_one_tie_is_no_member() -> None:
    assert _sets(_find([*_clique(range(3)), (2, 3, 9.0), (3, 4, 9.0)])) == [{0, 1, 2}]


def test_the_core_is_who_is_tied_most_and_comes_first() -> None:
    groups = _find([*_clique(range(5)), (0, 9, 1.0), (1, 9, 1.0)])
    assert groups.members.tolist() == [0, 1, 2, 3, 4, 9]
    assert groups.degree.tolist() == [13.0, 13.0, 12.0, 12.0, 12.0, 2.0]
    assert groups.core.tolist() == [True] * 5 + [False]


def test_components_are_what_any_tie_glues() -> None:
    """Against groups, for comparison: pairs and hubs included."""
    ties = [
        *_clique(range(3)),
        (2, 3, 9.0),
        (7, 8, 1.0),
        *((20, node, 1.0) for node in range(9, 20)),
    ]
    first, second, weight = (np.array(column) for column in zip(*ties, strict=True))
    groups = find_components(first, second, weight)
    assert _sets(groups) == [{*range(9, 21)}, {0, 1, 2, 3}, {7, 8}]
    assert groups.members[:2].tolist() == [20, 9]


def test_nodes_may_be_hashes_of_64_bits() -> None:
    top = (1 << 64) - 1
    groups = _find([(top, 5, 1.0), (5, 1 << 63, 1.0), (1 << 63, top, 1.0)], np.uint64)
    assert groups.members.tolist() == [5, 1 << 63, top]


def test_a_chain_of_a_million_needs_no_recursion() -> None:
    nodes = np.arange(1_000_000)
    ring = find_groups(nodes, np.roll(nodes, 1), np.ones(len(nodes)))
    assert np.diff(ring.starts).tolist() == [1_000_000]


@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda tie: tie[0] < tie[1])))
def test_groups_are_what_stays_connected_without_any_one_member(ties: set[tuple[int, int]]) -> None:
    """Against all sets of nodes; and the order and direction of ties do not matter."""
    found = _find([(a, b, 1.0) for a, b in sorted(ties)])
    again = _find([(b, a, 1.0) for a, b in sorted(ties, reverse=True)])
    assert found.members.tolist() == again.members.tolist()
    assert found.starts.tolist() == again.starts.tolist()
    holding = [
        set(nodes)
        for size in range(3, 11)
        for nodes in itertools.combinations(range(10), size)
        if all(_connected(set(nodes) - {out}, ties) for out in nodes)
    ]
    largest = [nodes for nodes in holding if not any(nodes < other for other in holding)]
    assert sorted(map(sorted, _sets(found))) == sorted(map(sorted, largest))


def _connected(nodes: set[int], ties: set[tuple[int, int]]) -> bool:
    reached, ahead = set[int](), {min(nodes)}
    while ahead:
        reached |= ahead
        ahead = {
            b for tie in ties for a, b in (tie, tie[::-1]) if a in ahead and b in nodes
        } - reached
    return reached == nodes


@pytest.mark.parametrize("seed", range(3))
def test_degrees_are_those_within_the_group(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = np.nonzero(np.triu(rng.random((30, 30)) < 0.1, 1))
    weight: npt.NDArray[np.float64] = rng.integers(1, 9, len(low)).astype(float)
    groups = find_groups(low, high, weight)
    assert len(groups) > 0
    for start, end in itertools.pairwise(groups.starts):
        members = groups.members[start:end]
        inside = np.isin(low, members) & np.isin(high, members)
        for member, degree in zip(members, groups.degree[start:end], strict=True):
            own = inside & ((low == member) | (high == member))
            assert degree == weight[own].sum()
