"""The kernels of the isolation forest: isolate rows in its trees, share a row's path by feature.

A node is one 64-bit word, so that a step reads one word of the tree and one value of the row:

    bits 32..63  the threshold, as an integer that orders like it (see ``ordered``)
    bits 12..31  where in its tree the left child is; the right child comes after it
    bits  0..11  which feature is compared

A step is ``node = left + (value > threshold)``, without a branch to mispredict. A leaf is its own
left child and its threshold exceeds everything, so a row stays where it has arrived, and every row
takes as many steps as its tree is deep. A row alone would wait for memory at each step, so eight go
down a tree together; those left over, and a single row, go down four trees together. Rows are taken
in blocks: within one, a tree is used for all rows while it is in the nearest cache. The path
lengths of a row are added in the order of the trees either way, so a score depends on its row only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from detectors._windows import Floats, Floats32, Int64s

__all__ = [
    "MAX_FEATURES",
    "MAX_TREE_NODES",
    "Trees",
    "attribute_path",
    "ordered",
    "pack_nodes",
    "path_lengths",
]

_FEATURE_BITS: Final = 12
_LEFT_BITS: Final = 20
MAX_FEATURES: Final = 1 << _FEATURE_BITS
MAX_TREE_NODES: Final = 1 << _LEFT_BITS

_FEATURE_MASK: Final = MAX_FEATURES - 1
_LEFT_MASK: Final = MAX_TREE_NODES - 1
_GREATEST: Final = np.iinfo(np.int32).max
_BLOCK_ROWS: Final = 64
_TOGETHER: Final = 8  # rows
_TREES_TOGETHER: Final = 4


class Trees(NamedTuple):
    """What the kernels read (shapes: N nodes, T trees, k features).

    Nobody may make one but of a forest that was checked: the kernels check no bounds.
    """

    nodes: Int64s  # (N,) see the module's docstring
    path: Floats  # (N,) expected path length of a training row that came to the node
    starts: Int64s  # (T,) where a tree's nodes begin
    depths: Int64s  # (T,) steps from the root to the deepest leaf
    fill: Floats  # (k,) stands for a value that is NaN


def ordered(values: Floats32) -> Int64s:
    """Integers (32 bits, held in 64) that compare with those of a row as ``values`` would.

    Of both zeros it is 0. A row's -0.0 is -1 (see ``_read``), which nothing lies between.
    """
    bits = (values + np.float32(0.0)).view(np.int32)  # -0.0 + 0.0 is 0.0
    integers: Int64s = np.where(bits < 0, bits ^ _GREATEST, bits).astype(np.int64)
    return integers


def pack_nodes(
    threshold: Floats32, left: Int64s, feature: npt.NDArray[np.int16], leaf: npt.NDArray[np.bool_]
) -> Int64s:
    """One word a node; ``left`` counts within the tree and is the node itself for a leaf."""
    key = np.where(leaf, _GREATEST, ordered(threshold))
    nodes: Int64s = (key << 32) | (left << _FEATURE_BITS) | np.where(leaf, 0, feature)
    return nodes


@numba.njit(cache=True, nogil=True)
def path_lengths(trees: Trees, rows: Floats) -> Floats:
    """The path lengths of ``rows`` (n, k), each summed over the trees: (n,)."""
    n, k = rows.shape
    totals = np.zeros(n, dtype=np.float64)
    values = np.empty(_BLOCK_ROWS * k, dtype=np.float32)
    keys = values.view(np.int32)
    for first in range(0, n, _BLOCK_ROWS):
        size = min(_BLOCK_ROWS, n - first)
        _read(rows[first : first + size], trees.fill, values, keys)
        together = size // _TOGETHER * _TOGETHER
        block = totals[first : first + together]
        for tree in range(len(trees.starts) if together else 0):
            start, steps = trees.starts[tree], trees.depths[tree]
            _descend(trees.nodes[start:], trees.path[start:], steps, keys, k, block)
        for i in range(together, size):
            totals[first + i] = _path_length(trees, keys, np.uintp(i * k))
    return totals


@numba.njit(cache=True, nogil=True)
def attribute_path(trees: Trees, row: Floats, contributions: Floats) -> None:
    """Add to ``contributions`` (k,) what each feature changes in the path length of ``row`` (k,).

    At every node on the way the expected path length changes by going left or right; that change
    belongs to the feature that is compared.
    """
    k = len(row)
    values = np.empty(k, dtype=np.float32)
    keys = values.view(np.int32)
    _read(row.reshape((1, k)), trees.fill, values, keys)
    for tree in range(len(trees.starts)):
        start = trees.starts[tree]
        nodes, path = trees.nodes[start:], trees.path[start:]
        node = np.uintp(0)
        for _ in range(trees.depths[tree]):
            child = _step(nodes[node], keys, np.uintp(0))
            if child == node:
                break
            contributions[nodes[node] & _FEATURE_MASK] += path[child] - path[node]
            node = child


@numba.njit(cache=True, nogil=True)
def _read(rows: Floats, fill: Floats, values: Floats32, keys: npt.NDArray[np.int32]) -> None:
    """Write the values of ``rows`` as ordered integers; ``keys`` is the memory of ``values``."""
    n, k = rows.shape
    for i in range(n):
        for j in range(k):
            value = rows[i, j]
            if math.isnan(value):
                value = fill[j]
            values[i * k + j] = np.float32(value)
    for at in range(n * k):
        bits = keys[at]
        keys[at] = bits ^ ((bits >> 31) & _GREATEST)


@numba.njit(cache=True, nogil=True)
def _step(node: np.int64, keys: npt.NDArray[np.int32], at: np.uintp) -> np.uintp:
    """The child of ``node`` for the row whose values begin at ``at``."""
    value = np.int64(keys[at + np.uintp(node & _FEATURE_MASK)])
    left = np.uintp((node >> _FEATURE_BITS) & _LEFT_MASK)
    return left + np.uintp(value > (node >> 32))


@numba.njit(cache=True, nogil=True)
def _descend(
    nodes: Int64s,
    path: Floats,
    steps: int,
    keys: npt.NDArray[np.int32],
    k: int,
    totals: Floats,
) -> None:
    """Add each row's path length in one tree to ``totals``, which are a multiple of eight."""
    for i in range(0, len(totals), _TOGETHER):
        width = np.uintp(k)
        at_0 = np.uintp(i * k)
        at_1, at_2, at_3 = at_0 + width, at_0 + width * np.uintp(2), at_0 + width * np.uintp(3)
        at_4 = at_0 + width * np.uintp(4)
        at_5, at_6, at_7 = at_4 + width, at_4 + width * np.uintp(2), at_4 + width * np.uintp(3)
        n_0 = n_1 = n_2 = n_3 = n_4 = n_5 = n_6 = n_7 = np.uintp(0)
        for _ in range(steps):
            n_0 = _step(nodes[n_0], keys, at_0)
            n_1 = _step(nodes[n_1], keys, at_1)
            n_2 = _step(nodes[n_2], keys, at_2)
            n_3 = _step(nodes[n_3], keys, at_3)
            n_4 = _step(nodes[n_4], keys, at_4)
            n_5 = _step(nodes[n_5], keys, at_5)
            n_6 = _step(nodes[n_6], keys, at_6)
            n_7 = _step(nodes[n_7], keys, at_7)
        totals[i] += path[n_0]
        totals[i + 1] += path[n_1]
        totals[i + 2] += path[n_2]
        totals[i + 3] += path[n_3]
        totals[i + 4] += path[n_4]
        totals[i + 5] += path[n_5]
        totals[i + 6] += path[n_6]
        totals[i + 7] += path[n_7]


@numba.njit(cache=True, nogil=True)
def _path_length(trees: Trees, keys: npt.NDArray[np.int32], at: np.uintp) -> float:
    """The path length of the row whose values begin at ``at``, summed over the trees."""
    nodes, path, starts, depths = trees.nodes, trees.path, trees.starts, trees.depths
    total = 0.0
    together = len(starts) // _TREES_TOGETHER * _TREES_TOGETHER
    for tree in range(0, together, _TREES_TOGETHER):
        s_0, s_1 = np.uintp(starts[tree]), np.uintp(starts[tree + 1])
        s_2, s_3 = np.uintp(starts[tree + 2]), np.uintp(starts[tree + 3])
        n_0 = n_1 = n_2 = n_3 = np.uintp(0)
        steps = max(max(depths[tree], depths[tree + 1]), max(depths[tree + 2], depths[tree + 3]))
        for _ in range(steps):
            n_0 = _step(nodes[s_0 + n_0], keys, at)
            n_1 = _step(nodes[s_1 + n_1], keys, at)
            n_2 = _step(nodes[s_2 + n_2], keys, at)
            n_3 = _step(nodes[s_3 + n_3], keys, at)
        total += path[s_0 + n_0]
        total += path[s_1 + n_1]
        total += path[s_2 + n_2]
        total += path[s_3 + n_3]
    for tree in range(together, len(starts)):
        start, node = np.uintp(starts[tree]), np.uintp(0)
        for _ in range(depths[tree]):
            node = _step(nodes[start + node], keys, at)
        total += path[start + node]
    return total
