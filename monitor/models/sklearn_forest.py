"""scikit-learn's isolation forest as the arrays that ``detectors.forest`` scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import IsolationForest

from detectors.forest import LEAF, Forest, ForestError
from monitor.models.scales import Floats, Scale, greatest_below, unscaled_thresholds

__all__ = ["flatten"]


def flatten(
    forest: IsolationForest,
    features: Sequence[str],
    fill: Floats,
    scales: Sequence[Scale] | None = None,
) -> Forest:
    """The arrays of a ``forest`` that was trained on ``scaled(rows, scales)``.

    They score rows as they are: ``flatten(forest, ...).score(rows)`` equals
    ``-forest.score_samples(scaled(rows, scales))``. ``fill`` (k,) takes the place of NaN; the
    training rows must have been filled with it as well. Without ``scales``, all are linear.

    Raises:
        ForestError: the forest is not of these features or scales, or exceeds a bound.
    """
    k = len(features)
    if {forest.n_features_in_, k if scales is None else len(scales)} != {k}:
        raise ForestError(
            f"the forest has {forest.n_features_in_}, there are {k} names"
            + ("" if scales is None else f" and {len(scales)} scales"),
            where="features",
        )
    trees = [
        _level_by_level(estimator.tree_, columns if len(columns) < k else np.arange(k))
        for estimator, columns in zip(forest.estimators_, forest.estimators_features_, strict=True)
    ]
    feature = np.concatenate([tree[0] for tree in trees])
    threshold = greatest_below(np.concatenate([tree[1] for tree in trees]))
    for column, scale in enumerate(scales or ()):
        if scale == "log":
            compares = feature == column
            threshold[compares] = unscaled_thresholds(threshold[compares])
    if not np.isfinite(threshold).all():
        raise ForestError(
            "a tree splits where no value is",
            where="threshold",
            hint="was it trained on rows of these scales?",
        )
    return Forest(
        features=tuple(features),
        fill=np.ascontiguousarray(fill, dtype=np.float64),
        sample_size=int(forest.max_samples_),
        tree_nodes=np.array([len(tree[0]) for tree in trees], dtype=np.int32),
        feature=feature.astype(np.int16),
        threshold=threshold,
        samples=np.concatenate([tree[2] for tree in trees]).astype(np.int32),
    )


def _level_by_level(
    tree: Any,  # noqa: ANN401 - scikit-learn's compiled trees have no types
    columns: npt.NDArray[np.integer[Any]],
) -> tuple[npt.NDArray[np.int64], Floats, npt.NDArray[np.int64]]:
    """Feature, threshold and samples of each node; ``columns`` are what the tree was given."""
    children = np.column_stack((tree.children_left, tree.children_right))
    levels = [np.zeros(1, dtype=np.int64)]
    while len(levels[-1]):
        below = children[levels[-1]].ravel()
        levels.append(below[below >= 0])
    order = np.concatenate(levels)
    leaf = children[order, 0] < 0
    feature = np.where(leaf, LEAF, columns[np.where(leaf, 0, tree.feature[order])])
    threshold = np.where(leaf, 0.0, tree.threshold[order])
    return feature, threshold, tree.n_node_samples[order]
