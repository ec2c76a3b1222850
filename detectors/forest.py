"""An isolation forest as flat arrays: scores rows, and says which features made a score.

A row that random splits separate early from the rest is an anomaly: its score is 2 to the power of
minus its mean path length over the trees, in units of what a random search tree would take (Liu,
Ting, Zhou: Isolation Forest, ICDM 2008). Scores are those of scikit-learn's ``IsolationForest``
with the opposite sign: 0 to 1, high is anomalous. Training is the shell's (``monitor.models``);
here is what trained trees are, with nothing in it that could be executed.

Trees lie level by level, so that the two children of the j-th inner node of a tree are its nodes
``2 j + 1`` and ``2 j + 2``: there are no links to store, hence none that could lead astray.

A value is compared as float32, as scikit-learn does. Beyond float32's range it counts as infinite,
beyond every threshold. NaN is a value that is not known: the feature's ``fill`` takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors._trees import (
    MAX_FEATURES,
    MAX_TREE_NODES,
    Trees,
    attribute_path,
    pack_nodes,
    path_lengths,
)
from detectors.errors import DetectorError

if TYPE_CHECKING:
    from detectors._windows import Floats, Floats32, Int64s

__all__ = ["LEAF", "Forest", "ForestError", "mean_search_length"]

Int16s: TypeAlias = npt.NDArray[np.int16]
Int32s: TypeAlias = npt.NDArray[np.int32]

LEAF: Final = -1
"""What stands for the feature of a node that compares none."""

_MAX_NODES: Final = 1 << 24
_MAX_SAMPLE_SIZE: Final = (1 << 31) - 1
_DTYPES: Final = (
    ("sample_size", np.int64, 0),
    ("fill", np.float64, 1),
    ("tree_nodes", np.int32, 1),
    ("feature", np.int16, 1),
    ("threshold", np.float32, 1),
    ("samples", np.int32, 1),
)


class ForestError(DetectorError):
    """A forest that cannot be used: ``where`` names the array, ``hint`` says what to do."""

    def __init__(self, message: str, *, where: str, hint: str = "") -> None:
        self.message = message
        self.where = where
        self.hint = hint
        super().__init__(f"{where}: {message}" + (f" ({hint})" if hint else ""))


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """T trees with N nodes together, over k features. Checked when made: raises ForestError.

    >>> forest = Forest(
    ...     features=("shares_10m",),
    ...     fill=np.array([0.0]),
    ...     sample_size=8,
    ...     tree_nodes=np.array([3], dtype=np.int32),
    ...     feature=np.array([0, LEAF, LEAF], dtype=np.int16),
    ...     threshold=np.array([100.0, 0.0, 0.0], dtype=np.float32),
    ...     samples=np.array([8, 7, 1], dtype=np.int32),
    ... )
    >>> forest.score(np.array([[3.0], [412.0]])).round(3).tolist()
    [0.429, 0.81]
    """

    features: tuple[str, ...]
    """k names, in the order of a row's values."""
    fill: Floats
    """(k,) what stands for a value that is NaN."""
    sample_size: int
    """Rows that each tree was trained on; gives the unit of path lengths."""
    tree_nodes: Int32s
    """(T,) nodes of each tree."""
    feature: Int16s
    """(N,) the feature a node compares, or ``LEAF``; tree by tree, level by level."""
    threshold: Floats32
    """(N,) a value at most as great goes left. 0 for leaves."""
    samples: Int32s
    """(N,) training rows that came to the node."""
    _trees: Trees = field(init=False, repr=False)
    _unit: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_features(self.features, self.fill)
        _check_nodes(self)
        left, levels = _shape(self)
        _check_samples(self, left)
        object.__setattr__(self, "_trees", _derive(self, left, levels))
        object.__setattr__(
            self,
            "_unit",
            len(self.tree_nodes) * float(mean_search_length(np.array([self.sample_size]))[0]),
        )

    @classmethod
    def from_arrays(cls, features: Sequence[str], arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """What ``arrays`` gave, of a file that may be damaged or hostile; other arrays are let be.

        Raises:
            ForestError: an array is missing or of another type, or the forest is none.
        """
        for name, dtype, dimensions in _DTYPES:
            array = arrays.get(name)
            if not isinstance(array, np.ndarray):
                raise ForestError("is missing", where=name, hint="is this the file of a forest?")
            if array.dtype != dtype or array.ndim != dimensions:
                raise ForestError(
                    f"is {array.dtype} of shape {array.shape},"
                    f" not {np.dtype(dtype)} of {dimensions} dimensions",
                    where=name,
                )
        return cls(
            features=tuple(features),
            sample_size=int(arrays["sample_size"]),
            **{name: np.ascontiguousarray(arrays[name]) for name, _, size in _DTYPES if size},
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What a file keeps, beside the names of the features."""
        return {
            "sample_size": np.array(self.sample_size, dtype=np.int64),
            "fill": self.fill,
            "tree_nodes": self.tree_nodes,
            "feature": self.feature,
            "threshold": self.threshold,
            "samples": self.samples,
        }

    @property
    def trees(self) -> int:
        """How many trees there are."""
        return len(self.tree_nodes)

    @property
    def nodes(self) -> int:
        """How many nodes they have together."""
        return len(self.feature)

    def score(self, rows: Floats) -> Floats:
        """The anomaly scores (n,) of ``rows`` (n, k); a row's score depends on no other row.

        Raises:
            ForestError: the rows do not have k values.
        """
        rows = _as_kernel_input(rows)
        if rows.ndim != 2 or rows.shape[1] != len(self.features):
            raise ForestError(
                f"have the shape {rows.shape}, not (n, {len(self.features)})", where="rows"
            )
        return self._scores(path_lengths(self._trees, rows))

    def explain(self, row: Floats) -> tuple[float, Floats]:
        """Where the score of ``row`` (k,) comes from: a baseline and what each feature adds to it.

        The baseline is the score of a row of which nothing is known; the contributions (k,) add up
        to what the score exceeds it by. They are shares of the path: at each node, the change of
        the expected path length belongs to the feature that is compared (Saabas, Interpreting
        random forests, 2014). On planted anomalies the feature that contributes most is the one
        that TreeSHAP names too (Lundberg et al., Nature Machine Intelligence 2, 2020), which takes
        fifty times as long; a test compares them.

        Raises:
            ForestError: the row does not have k values.
        """
        row = _as_kernel_input(row)
        if row.shape != self.fill.shape:
            raise ForestError(
                f"has the shape {row.shape}, not ({len(self.features)},)", where="row"
            )
        contributions = np.zeros(len(row), dtype=np.float64)
        roots = self._trees.path[self._trees.starts]
        baseline = float(self._scores(np.array([roots.sum()]))[0])
        if not self._unit:
            return baseline, contributions
        attribute_path(self._trees, row, contributions)
        # score - baseline = baseline (2 ** (-change / unit) - 1), shared out in proportion.
        change, rate = float(contributions.sum()), np.log(2.0) / self._unit
        per_length = baseline * (np.expm1(-rate * change) / change if change else -rate)
        return baseline, contributions * per_length

    def _scores(self, lengths: Floats) -> Floats:
        if not self._unit:  # Trees of a single row isolate nothing; scikit-learn's limit.
            return np.full(len(lengths), 0.5)
        scores: Floats = np.exp2(lengths / -self._unit)
        return scores


def mean_search_length(rows: npt.NDArray[np.integer[Any]]) -> Floats:
    """Mean path length of an unsuccessful search in a random search tree of that many rows.

    It stands for the part of a tree that was not grown below a leaf.
    """
    count = np.asarray(rows, dtype=np.float64)
    many = np.maximum(count, 3.0)
    grown = 2.0 * (np.log(many - 1.0) + np.euler_gamma) - 2.0 * (many - 1.0) / many
    lengths: Floats = np.where(count > 2, grown, np.where(count == 2, 1.0, 0.0))
    return lengths


def _as_kernel_input(values: Floats) -> Floats:
    """For other memory (read-only, with gaps) the kernel would have to be compiled once more."""
    values = np.ascontiguousarray(values, dtype=np.float64)
    return values if values.flags.writeable else values.copy()


def _check_features(features: tuple[str, ...], fill: Floats) -> None:
    if not 1 <= len(features) <= MAX_FEATURES:
        raise ForestError(f"{len(features)}, not 1 to {MAX_FEATURES:,}", where="features")
    if len(set(features)) < len(features):
        raise ForestError("a name occurs twice", where="features")
    if fill.shape != (len(features),):
        raise ForestError(
            f"{len(fill)} values for {len(features)} features",
            where="fill",
            hint="the arrays and the names are of different forests",
        )
    if not np.isfinite(fill).all():
        raise ForestError(
            f"of {features[_first(~np.isfinite(fill))]!r} is not finite", where="fill"
        )


def _check_nodes(forest: Forest) -> None:
    sizes, feature, threshold = forest.tree_nodes, forest.feature, forest.threshold
    nodes = len(feature)
    if not 1 <= forest.sample_size <= _MAX_SAMPLE_SIZE:
        raise ForestError(f"{forest.sample_size} rows", where="sample_size")
    if not 1 <= nodes <= _MAX_NODES:
        raise ForestError(f"{nodes} nodes, not 1 to {_MAX_NODES:,}", where="feature")
    for name, array in (("threshold", threshold), ("samples", forest.samples)):
        if len(array) != nodes:
            raise ForestError(f"{len(array)} values for {nodes} nodes", where=name)
    if (wrong := (sizes < 1) | (sizes > MAX_TREE_NODES)).any():
        raise ForestError(
            f"tree {_first(wrong)} has {sizes[_first(wrong)]} nodes, not 1 to {MAX_TREE_NODES:,}",
            where="tree_nodes",
        )
    if (total := int(sizes.sum(dtype=np.int64))) != nodes:
        raise ForestError(f"{total} nodes, but there are {nodes}", where="tree_nodes")
    if (wrong := (feature < LEAF) | (feature >= len(forest.features))).any():
        at = _first(wrong)
        raise ForestError(
            f"node {at} compares feature {feature[at]} of {len(forest.features)}", where="feature"
        )
    if (wrong := ~np.isfinite(threshold)).any():
        raise ForestError(f"of node {_first(wrong)} is not finite", where="threshold")


def _shape(forest: Forest) -> tuple[Int64s, list[Int64s]]:
    """The left child of each node (a leaf: itself), and the nodes of each level.

    Raises:
        ForestError: a tree has more or fewer nodes than children, or is too deep.
    """
    sizes = forest.tree_nodes.astype(np.int64)
    starts = np.cumsum(sizes) - sizes
    inner = forest.feature != LEAF
    before = np.cumsum(inner) - inner  # inner nodes before a node, in all trees
    own = np.arange(forest.nodes)
    left: Int64s = np.where(
        inner, np.repeat(starts - 2 * before[starts], sizes) + 2 * before + 1, own
    )
    inners = np.add.reduceat(inner, starts, dtype=np.int64)
    if (wrong := sizes != 2 * inners + 1).any():
        tree = _first(wrong)
        raise ForestError(
            f"tree {tree} has {sizes[tree]} nodes, of which {inners[tree]} have children",
            where="feature",
        )
    if (wrong := inner & (left <= own)).any():
        raise ForestError(
            f"node {_first(wrong)} is not below the root of its tree", where="feature"
        )
    # scikit-learn grows no deeper, so deeper trees are none of its own and would only cost time.
    deepest = max(1, (forest.sample_size - 1).bit_length())
    levels = [starts]
    while len(parents := levels[-1][inner[levels[-1]]]):
        if len(levels) > deepest:
            raise ForestError(f"a tree is deeper than {deepest}", where="feature")
        levels.append((left[parents][:, None] + np.arange(2)).ravel())
    return left, levels


def _check_samples(forest: Forest, left: Int64s) -> None:
    samples, parents = forest.samples.astype(np.int64), np.flatnonzero(forest.feature != LEAF)
    if (wrong := (samples < 1) | (samples > forest.sample_size)).any():
        at = _first(wrong)
        raise ForestError(
            f"{samples[at]} came to node {at}, not 1 to {forest.sample_size}", where="samples"
        )
    children = samples[left[parents]] + samples[left[parents] + 1]
    if (wrong := samples[parents] != children).any():
        at = parents[_first(wrong)]
        raise ForestError(f"the children of node {at} have more or fewer than it", where="samples")


def _derive(forest: Forest, left: Int64s, levels: list[Int64s]) -> Trees:
    """What the kernels read, of a forest that was checked."""
    leaf = forest.feature == LEAF
    sizes = forest.tree_nodes.astype(np.int64)
    starts = levels[0]
    depth = np.zeros(forest.nodes)
    for number, level in enumerate(levels):
        depth[level] = number
    path = depth + mean_search_length(forest.samples)
    for level in reversed(levels):
        parents = level[~leaf[level]]
        children = left[parents][:, None] + np.arange(2)
        weights = forest.samples[children] / forest.samples[parents][:, None]
        path[parents] = (weights * path[children]).sum(axis=1)
    within_tree = left - np.repeat(starts, sizes)
    return Trees(
        nodes=pack_nodes(forest.threshold, within_tree, forest.feature, leaf),
        path=path,
        starts=starts,
        depths=np.maximum.reduceat(depth, starts).astype(np.int64),
        fill=forest.fill.copy(),
    )


def _first(wrong: npt.NDArray[np.bool_]) -> int:
    return int(np.argmax(wrong))
