"""Explanations: which features made a score, and whether another method says the same."""

from __future__ import annotations

import sys
from typing import Final

import numpy as np
import numpy.typing as npt
import pytest
import shap
from sklearn.ensemble import IsolationForest

from detectors.forest import LEAF, Forest, mean_search_length
from monitor.models.scales import Floats
from monitor.models.sklearn_forest import flatten

_FEATURES: Final = 12
_PLANTED: Final = 100
_AGREEMENT: Final = 0.9


def _ordinary(kind: str, n: int, rng: np.random.Generator) -> Floats:
    rows: Floats = rng.normal(size=(n, _FEATURES))
    if kind == "heavy":
        return np.exp(rows)
    return rows @ rng.normal(size=(_FEATURES, _FEATURES)) if kind == "correlated" else rows


def _planted(rows: Floats, rng: np.random.Generator) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Ordinary rows of which one value each is far out, and which."""
    anomalies = rows[rng.integers(0, len(rows), size=_PLANTED)]
    columns = rng.integers(0, rows.shape[1], size=_PLANTED)
    away = rng.uniform(4.0, 10.0, size=_PLANTED) * rows.std(axis=0)[columns]
    anomalies[np.arange(_PLANTED), columns] += away
    return anomalies, columns


def _trained(rows: Floats, **parameters: object) -> tuple[IsolationForest, Forest]:
    forest = IsolationForest(**{"random_state": 0, **parameters}).fit(rows.astype(np.float32))
    names = [f"feature_{column}" for column in range(rows.shape[1])]
    return forest, flatten(forest, names, np.zeros(rows.shape[1]))


@pytest.mark.parametrize("kind", ["normal", "heavy", "correlated"])
def test_shap_names_the_same_feature(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In at least nine of ten planted anomalies: the feature that contributes most."""
    rng = np.random.default_rng(11)
    rows = _ordinary(kind, 2_000, rng)
    anomalies, columns = _planted(rows, rng)
    reference, forest = _trained(rows)
    values = shap.TreeExplainer(reference).shap_values(anomalies.astype(np.float32))
    theirs = np.argmin(values, axis=1)  # They explain path lengths: short is anomalous.
    ours = np.array([np.argmax(forest.explain(row)[1]) for row in anomalies])
    agreement = np.mean(ours == theirs)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{kind} rows: the same feature as SHAP {agreement:.0%}; the planted one:"
            f" ours {np.mean(ours == columns):.0%}, SHAP {np.mean(theirs == columns):.0%}\n"
        )
    assert agreement >= _AGREEMENT


def test_the_planted_feature_contributes_most_where_trees_see_some_features_only() -> None:
    """Contributions go to the feature, not to its place among those that a tree was given."""
    rng = np.random.default_rng(5)
    rows = _ordinary("normal", 2_000, rng)
    anomalies, columns = _planted(rows, rng)
    _, forest = _trained(rows, max_features=0.5, n_estimators=200)
    found = [np.argmax(forest.explain(row)[1]) for row in anomalies]
    assert np.mean(found == columns) >= 0.8


def test_an_anomaly_has_more_than_the_baseline_and_an_ordinary_row_less() -> None:
    rows = _ordinary("normal", 1_000, np.random.default_rng(2))
    _, forest = _trained(rows)
    middle, far = np.zeros(_FEATURES), np.full(_FEATURES, 8.0)
    baseline, contributions = forest.explain(far)
    assert baseline == forest.explain(middle)[0]
    assert (contributions > 0.0).all()
    assert forest.score(far[None])[0] > baseline > forest.score(middle[None])[0]


def test_the_baseline_is_what_training_rows_take_on_average() -> None:
    """The path lengths of all training rows of a tree, weighted as they fell into its leaves."""
    rows = _ordinary("normal", 64, np.random.default_rng(3))
    _, forest = _trained(rows, n_estimators=1, max_samples=64)
    unit = mean_search_length(np.array([64]))[0]
    lengths = -np.log2(forest.score(rows)) * unit
    assert abs(forest.explain(rows[0])[0] - 2 ** (-lengths.mean() / unit)) < 1e-12


@pytest.mark.parametrize("sample_size", [4, 8])
def test_features_that_cancel_out_keep_their_contributions(sample_size: int) -> None:
    """What one adds others take, for 4 rows to the last bit: there are reasons nevertheless."""
    quarter = sample_size // 4
    forest = Forest(
        features=("first", "second"),
        fill=np.zeros(2),
        sample_size=sample_size,
        tree_nodes=np.full(4, 3, dtype=np.int32),
        feature=np.array([0, LEAF, LEAF, *[1, LEAF, LEAF] * 3], dtype=np.int16),
        threshold=np.zeros(12, dtype=np.float32),
        samples=np.array([sample_size, 3 * quarter, quarter] * 4, dtype=np.int32),
    )
    row = np.array([1.0, -1.0])
    baseline, contributions = forest.explain(row)
    assert abs(forest.score(row[None])[0] - baseline) < 1e-15
    assert abs(contributions.sum()) < 1e-15
    assert contributions[0] > 0.03
    assert contributions[1] < -0.03


def test_a_forest_of_leaves_explains_nothing() -> None:
    """Rows that are all alike: nothing is compared, the score is the baseline."""
    rows = np.ones((50, 3))
    _, forest = _trained(rows)
    baseline, contributions = forest.explain(rows[0])
    assert abs(baseline - forest.score(rows)[0]) < 1e-15
    assert not contributions.any()
