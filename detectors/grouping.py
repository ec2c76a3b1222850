"""Groups in a graph of ties, which no single account can hold together.

A group is a biconnected component of three accounts or more: take any one account out, and the
others are still connected by ties among themselves. So everybody has two ties within the group at
least, and a hub (somebody who happens to be tied to many) glues no strangers together: it belongs
to each of the groups that it touches, or, where those whom it touches know nobody else, to none.
The rule has no parameter, and the groups do not depend on the order of the ties.

Source: Hopcroft and Tarjan, Algorithm 447: Efficient Algorithms for Graph Manipulation,
Communications of the ACM 16 (1973).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from detectors._windows import Floats, Int64s

__all__ = ["Groups", "find_components", "find_groups"]

Nodes: TypeAlias = npt.NDArray[np.int64] | npt.NDArray[np.uint64]

_CORE_SHARE: Final = 0.5
"""Of the mean weighted degree of a group: those who have as much are its core."""


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """G groups with M memberships in all, the largest group first (then by its first node).

    Group g has the memberships ``starts[g]:starts[g + 1]``, the highest degree first (then by
    node). A node may be a member of several groups.
    """

    starts: Int64s  # (G + 1,)
    members: Nodes  # (M,)
    degree: Floats  # (M,) weights of the member's ties within the group, added up
    core: npt.NDArray[np.bool_]  # (M,) whether that is half the group's mean, or more

    def __len__(self) -> int:
        return len(self.starts) - 1


def find_groups(first: Nodes, second: Nodes, weight: Floats) -> Groups:
    """The groups of a graph with E ties between ``first`` and ``second``, all (E,).

    Nodes are any whole numbers (of 64 bits, signed or not). Each tie is given once, in either
    direction, and nobody is tied to oneself.
    """
    names, low, high, weight = _coded(first, second, weight)
    component = np.empty(len(low), dtype=np.int64)
    _biconnected(len(names), low, high, component)
    return _ranked(names, *_memberships(component, low, high, weight, least=3))


def find_components(first: Nodes, second: Nodes, weight: Floats) -> Groups:
    """The connected components of the same graph, pairs included: what one tie alone can glue."""
    names, low, high, weight = _coded(first, second, weight)
    component = _connected(len(names), low, high)[low]
    return _ranked(names, *_memberships(component, low, high, weight, least=2))


def _coded(first: Nodes, second: Nodes, weight: Floats) -> tuple[Nodes, Int64s, Int64s, Floats]:
    """The nodes, ascending, and the ties between their positions, sorted by both."""
    assert first.shape == second.shape == weight.shape
    assert not (first == second).any()
    names, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    low, high = np.sort(codes.reshape(2, -1), axis=0).astype(np.int64)
    order = np.lexsort((high, low))
    low, high = low[order], high[order]
    assert not ((np.diff(low) == 0) & (np.diff(high) == 0)).any()
    return names, low, high, weight[order]


def _memberships(
    component: Int64s, low: Int64s, high: Int64s, weight: Floats, *, least: int
) -> tuple[Int64s, Int64s, Floats]:
    """Component, node and weighted degree of each membership of components of ``least`` or more."""
    nodes = int(high.max(initial=0)) + 1
    places = np.concatenate([component * nodes + low, component * nodes + high])
    keys, inverse = np.unique(places, return_inverse=True)
    degree: Floats = np.zeros(len(keys))
    np.add.at(degree, inverse, np.concatenate([weight, weight]))
    of_component, node = keys // nodes, keys % nodes
    large = np.bincount(of_component)[of_component] >= least if len(keys) else keys > 0
    return of_component[large], node[large], degree[large]


def _ranked(names: Nodes, component: Int64s, node: Int64s, degree: Floats) -> Groups:
    """Memberships, sorted by component and node, in the order of ``Groups``."""
    _, first, group, size = np.unique(
        component, return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(size), dtype=np.int64)
    rank[np.lexsort((node[first], -size))] = np.arange(len(size))
    mean = np.bincount(group, weights=degree, minlength=len(size)) / size
    core = degree >= _CORE_SHARE * mean[group]
    order = np.lexsort((node, -degree, rank[group]))
    starts = np.zeros(len(size) + 1, dtype=np.int64)
    np.cumsum(size[np.argsort(rank)], out=starts[1:])
    return Groups(starts, names[node[order]], degree[order], core[order])


@numba.njit(cache=True)
def _biconnected(nodes: int, low: Int64s, high: Int64s, component: Int64s) -> None:
    """Write the component of each tie; (E,).

    Depth first: where nothing below a node reaches above its parent, a component ends. ``reach`` is
    the earliest node that a subtree has a tie to.
    """
    starts, neighbours, ties = _adjacency(nodes, low, high)
    at = starts[:-1].copy()
    entered = np.full(nodes, -1, dtype=np.int64)
    reach = np.empty(nodes, dtype=np.int64)
    entered_by = np.full(nodes, -1, dtype=np.int64)
    path = np.empty(nodes, dtype=np.int64)
    open_ties = np.empty(len(low), dtype=np.int64)
    clock, count, opened = 0, 0, 0
    for root in range(nodes):
        if entered[root] >= 0:
            continue
        path[0], length = root, 1
        entered[root] = reach[root] = clock
        clock += 1
        while length:
            node = path[length - 1]
            if at[node] < starts[node + 1]:
                other, tie = neighbours[at[node]], ties[at[node]]
                at[node] += 1
                if entered[other] < 0:
                    open_ties[opened] = tie
                    opened += 1
                    entered_by[other] = tie
                    entered[other] = reach[other] = clock
                    clock += 1
                    path[length] = other
                    length += 1
                elif tie != entered_by[node] and entered[other] < entered[node]:
                    open_ties[opened] = tie
                    opened += 1
                    reach[node] = min(reach[node], entered[other])
                continue
            length -= 1
            if not length:
                break
            parent = path[length - 1]
            reach[parent] = min(reach[parent], reach[node])
            if reach[node] >= entered[parent]:
                tie = -1
                while tie != entered_by[node]:
                    opened -= 1
                    tie = open_ties[opened]
                    component[tie] = count
                count += 1


@numba.njit(cache=True)
def _connected(nodes: int, low: Int64s, high: Int64s) -> Int64s:
    """For each node, the first of its component; (nodes,)."""
    parent = np.arange(nodes)
    for tie in range(len(low)):
        a, b = low[tie], high[tie]
        while parent[a] != a:
            parent[a] = a = parent[parent[a]]
        while parent[b] != b:
            parent[b] = b = parent[parent[b]]
        parent[max(a, b)] = min(a, b)
    for node in range(nodes):
        parent[node] = parent[parent[node]]
    return parent


@numba.njit(cache=True)
def _adjacency(nodes: int, low: Int64s, high: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """Where each node's neighbours begin (nodes + 1,), they and the ties to them (2 E,)."""
    starts = np.zeros(nodes + 1, dtype=np.int64)
    for tie in range(len(low)):
        starts[low[tie] + 1] += 1
        starts[high[tie] + 1] += 1
    starts = np.cumsum(starts)
    free = starts[:-1].copy()
    neighbours = np.empty(2 * len(low), dtype=np.int64)
    ties = np.empty(2 * len(low), dtype=np.int64)
    for tie in range(len(low)):
        for node, other in ((low[tie], high[tie]), (high[tie], low[tie])):
            neighbours[free[node]] = other
            ties[free[node]] = tie
            free[node] += 1
    return starts, neighbours, ties
