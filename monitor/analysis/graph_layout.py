"""Where the nodes of a graph go in a picture: distances on paper like distances in the graph.

Each component is laid out by itself and they are packed in rows, the largest first. No chance is
involved but a shuffle with a fixed seed: the same graph gives the same picture.

Source: Zheng, Pawar, Goodman, Graph Drawing by Stochastic Gradient Descent, IEEE TVCG 25 (2019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from detectors._windows import Floats, Int64s

__all__ = ["lay_out", "pack"]

Int16s: TypeAlias = npt.NDArray[np.int16]

_ROUNDS: Final = 30
_LAST_STEP: Final = 0.1
_SEED: Final = 1
_MARGIN: Final = 0.75


def lay_out(nodes: int, first: Int64s, second: Int64s) -> Floats:
    """Places (nodes, 2) of a graph with ties between nodes ``first`` and ``second``, both (E,).

    Tied nodes are about 1 apart. The box around them begins at (0, 0), its long side across.
    Takes nodes² of time and memory.
    """
    distances = _distances(nodes, first, second)
    rng = np.random.default_rng(_SEED)
    a, b = np.triu_indices(nodes, 1)
    order = rng.permutation(len(a))
    places = rng.random((nodes, 2)) * math.sqrt(nodes)
    apart = distances[a[order], b[order]].astype(np.float64)
    _descend(places, a[order], b[order], apart)
    return _upright(places)


def pack(sizes: Sequence[tuple[float, float]], shape: float) -> list[tuple[float, float]]:
    """Corners of boxes of these (width, height) in rows, all about ``shape`` times as wide as high.

    They are taken in the order given; put the largest first.
    """
    area = sum((width + _MARGIN) * (height + _MARGIN) for width, height in sizes)
    across = max(math.sqrt(area * shape), max((width for width, _ in sizes), default=0.0) + _MARGIN)
    corners: list[tuple[float, float]] = []
    x = y = row_height = 0.0
    for width, height in sizes:
        if x and x + width > across:
            x, y, row_height = 0.0, y + row_height + _MARGIN, 0.0
        corners.append((x, y))
        x += width + _MARGIN
        row_height = max(row_height, height)
    return corners


def _distances(nodes: int, first: Int64s, second: Int64s) -> Int16s:
    """Ties on the shortest way between any two nodes; where there is none, one more than most."""
    neighbours = np.argsort(np.concatenate([first, second]), kind="stable")
    others = np.concatenate([second, first])[neighbours]
    starts = np.zeros(nodes + 1, dtype=np.int64)
    np.cumsum(np.bincount(np.concatenate([first, second]), minlength=nodes), out=starts[1:])
    distances = np.full((nodes, nodes), -1, dtype=np.int16)
    _walk(starts, others, distances)
    distances[distances < 0] = distances.max(initial=0) + 1
    return distances


@numba.njit(cache=True)
def _walk(starts: Int64s, others: Int64s, distances: Int16s) -> None:
    nodes = len(starts) - 1
    queue = np.empty(nodes, dtype=np.int64)
    for root in range(nodes):
        of_root = distances[root]
        of_root[root] = 0
        queue[0], done, found = root, 0, 1
        while done < found:
            node = queue[done]
            done += 1
            for other in others[starts[node] : starts[node + 1]]:
                if of_root[other] < 0:
                    of_root[other] = of_root[node] + 1
                    queue[found] = other
                    found += 1


@numba.njit(cache=True)
def _descend(places: Floats, a: Int64s, b: Int64s, apart: Floats) -> None:
    """Move pairs towards their distance, ever less: far ones weigh by distance to the power -2."""
    most = apart.max() if len(apart) else 1.0
    decay = math.log(_LAST_STEP / (most * most)) / (_ROUNDS - 1)
    for turn in range(_ROUNDS):
        step = most * most * math.exp(decay * turn)
        for i in range(len(a)):
            x = places[a[i], 0] - places[b[i], 0]
            y = places[a[i], 1] - places[b[i], 1]
            length = max(1e-9, math.sqrt(x * x + y * y))
            pull = min(1.0, step / (apart[i] * apart[i])) * (length - apart[i]) / (2.0 * length)
            places[a[i], 0] -= pull * x
            places[a[i], 1] -= pull * y
            places[b[i], 0] += pull * x
            places[b[i], 1] += pull * y


def _upright(places: Floats) -> Floats:
    """Turn the long axis across, and begin at the corner."""
    places = places - places.mean(axis=0)
    _, _, axes = np.linalg.svd(places, full_matrices=False)
    turned = places @ axes.T
    upright: Floats = turned - turned.min(axis=0)
    return upright
