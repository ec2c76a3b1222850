"""The isolation forest as arrays: what it takes, what it refuses, what its files are."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import IsolationForest

import detectors.forest
from detectors._trees import attribute_path, path_lengths
from detectors.forest import LEAF, Forest, ForestError, mean_search_length
from monitor.models.scales import Floats, Scale, scaled
from monitor.models.sklearn_forest import flatten

NAMES = ("shares_10m", "generations_1h", "guard_block_ratio_1h")
FILL = np.array([0.0, 2.5, -1.0])


def _rows(n: int = 400) -> Floats:
    rng = np.random.default_rng(7)
    return np.column_stack([np.exp(3.0 * rng.normal(size=n)), rng.normal(size=n), rng.random(n)])


def _trained(**parameters: object) -> IsolationForest:
    return IsolationForest(
        **{"n_estimators": 20, "max_samples": 64, "random_state": 3, **parameters}
    ).fit(_rows().astype(np.float32))


def _forest() -> Forest:
    return flatten(_trained(), NAMES, FILL)


def _sound() -> dict[str, npt.NDArray[Any]]:
    """Arrays of two trees over three features: one with three inner nodes, one with a leaf only."""
    return {
        "sample_size": np.array(8, dtype=np.int64),
        "fill": np.zeros(3),
        "tree_nodes": np.array([7, 1], dtype=np.int32),
        "feature": np.array([0, 1, LEAF, 2, LEAF, LEAF, LEAF, LEAF], dtype=np.int16),
        "threshold": np.array([9.0, 0.5, 0, 0.25, 0, 0, 0, 0], dtype=np.float32),
        "samples": np.array([8, 6, 2, 4, 2, 3, 1, 8], dtype=np.int32),
    }


def test_the_example_in_the_documentation_is_true() -> None:
    assert doctest.testmod(detectors.forest) == (0, 2)


def test_rows_come_to_the_leaves_that_the_arrays_describe() -> None:
    """Worked by hand: path lengths of both trees over twice the mean search length of 8 rows."""
    forest = Forest.from_arrays(NAMES, _sound())
    assert (forest.trees, forest.nodes) == (2, 8)
    c_2, c_3, c_8 = mean_search_length(np.array([2, 3, 8]))
    rows = np.array([[10.0, 0, 0], [9.0, 0.6, 0], [9.0, 0.5, 0.25], [9.0, 0.5, 0.26]])
    lengths = np.array([1 + c_2, 2 + c_2, 3 + c_3, 3]) + c_8
    np.testing.assert_allclose(forest.score(rows), 2 ** (-lengths / (2 * c_8)), atol=1e-15)


def test_a_file_gives_back_the_same_forest(tmp_path: Path) -> None:
    """To the last bit, without pickle."""
    forest = _forest()
    np.savez(tmp_path / "forest.npz", allow_pickle=False, **forest.arrays())
    with np.load(tmp_path / "forest.npz", allow_pickle=False) as file:
        again = Forest.from_arrays(NAMES, dict(file))
    assert again.features == forest.features
    for name, array in forest.arrays().items():
        assert again.arrays()[name].dtype == array.dtype
        np.testing.assert_array_equal(again.arrays()[name], array)
    assert again.score(_rows()).tobytes() == forest.score(_rows()).tobytes()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("threshold", None, "threshold: is missing"),
        ("threshold", [1.0] * 8, "threshold: is missing"),  # no array at all
        ("threshold", np.zeros(8), "threshold: is float64"),
        ("threshold", np.zeros(8, dtype=object), "threshold: is object"),
        ("threshold", np.zeros((8, 1), dtype=np.float32), r"threshold: .* shape \(8, 1\)"),
        ("threshold", np.zeros(7, dtype=np.float32), "threshold: 7 values for 8 nodes"),
        ("feature", np.zeros(8, dtype=">i2"), "feature: is >i2"),
        ("feature", np.zeros(0, dtype=np.int16), "feature: 0 nodes"),
        ("samples", np.ones(9, dtype=np.int32), "samples: 9 values for 8 nodes"),
        ("sample_size", np.array([8], dtype=np.int64), "sample_size: .* 0 dimensions"),
        ("sample_size", np.array(0, dtype=np.int64), "sample_size: 0 rows"),
        ("sample_size", np.array(-8, dtype=np.int64), "sample_size: -8 rows"),
        ("sample_size", np.array(1 << 31, dtype=np.int64), "sample_size: 2147483648 rows"),
        ("tree_nodes", np.array([], dtype=np.int32), "tree_nodes: 0 nodes, but there are 8"),
        ("tree_nodes", np.array([7, 2], dtype=np.int32), "tree_nodes: 9 nodes, but there are 8"),
        ("tree_nodes", np.array([8, 0], dtype=np.int32), "tree_nodes: tree 1 has 0 nodes"),
        ("tree_nodes", np.array([9, -1], dtype=np.int32), "tree_nodes: tree 1 has -1 nodes"),
        ("fill", np.zeros(2), "fill: 2 values for 3 features"),
        ("fill", np.array([0, np.nan, 0]), "fill: of 'generations_1h' is not finite"),
    ],
)
def test_arrays_of_another_kind_are_refused(name: str, value: object, message: str) -> None:
    """The error names the array."""
    arrays: dict[str, Any] = _sound() | {name: value}
    if value is None:
        del arrays[name]
    with pytest.raises(ForestError, match=message) as caught:
        Forest.from_arrays(NAMES, arrays)
    assert caught.value.where == name


@pytest.mark.parametrize(
    ("name", "at", "value", "message"),
    [
        ("feature", 0, 3, "node 0 compares feature 3 of 3"),
        ("feature", 2, -2, "node 2 compares feature -2"),
        ("feature", 7, 0, "tree 1 has 1 nodes, of which 1 have children"),  # beyond the end
        ("feature", 1, LEAF, "tree 0 has 7 nodes, of which 2 have children"),
        ("threshold", 1, np.nan, "of node 1 is not finite"),
        ("threshold", 7, np.inf, "of node 7 is not finite"),
        ("samples", 7, 0, "0 came to node 7"),
        ("samples", 7, -1, "-1 came to node 7"),
        ("samples", 7, 9, "9 came to node 7, not 1 to 8"),
        ("samples", 3, 5, "the children of node 1"),
    ],
)
def test_elements_that_mean_nothing_are_refused(
    name: str, at: int, value: float, message: str
) -> None:
    arrays = _sound()
    arrays[name][at] = value
    with pytest.raises(ForestError, match=message) as caught:
        Forest.from_arrays(NAMES, arrays)
    assert caught.value.where == name


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        # The third inner node would be its own child: going down would never end.
        ([0, LEAF, LEAF, 1, 2, LEAF, LEAF], "node 3 is not below the root"),
        ([LEAF, 0, 1, 2, LEAF, LEAF, LEAF], "node 1 is not below the root"),
        ([LEAF, LEAF, LEAF, LEAF, 0, 1, 2], "node 4 is not below the root"),
    ],
)
def test_a_circle_is_refused(feature: list[int], message: str) -> None:
    """As many nodes as children, but some are not reached from the root."""
    arrays = _sound()
    arrays["feature"][:7] = feature
    with pytest.raises(ForestError, match=message):
        Forest.from_arrays(NAMES, arrays)


def test_trees_cut_at_other_places_are_refused() -> None:
    """The nodes are as many as said, but those of one tree are not."""
    arrays = _sound() | {"tree_nodes": np.array([5, 3], dtype=np.int32)}
    with pytest.raises(ForestError, match="feature: tree 0 has 5 nodes, of which 3 have children"):
        Forest.from_arrays(NAMES, arrays)


def test_a_tree_deeper_than_any_that_is_trained_is_refused() -> None:
    """The depth is the time that a row takes: a chain of a million nodes would stop the worker."""
    inner = 9
    arrays = _sound() | {
        "sample_size": np.array(256, dtype=np.int64),
        "tree_nodes": np.array([2 * inner + 1], dtype=np.int32),
        "feature": np.array([0, *[LEAF, 0] * (inner - 1), LEAF, LEAF], dtype=np.int16),
        "threshold": np.zeros(2 * inner + 1, dtype=np.float32),
        "samples": np.array(
            [10, *[n for left in range(9, 0, -1) for n in (1, left)]], dtype=np.int32
        ),
    }
    with pytest.raises(ForestError, match="feature: a tree is deeper than 8"):
        Forest.from_arrays(NAMES, arrays)
    deeper = arrays | {"sample_size": np.array(257, dtype=np.int64)}
    assert Forest.from_arrays(NAMES, deeper).nodes == 19


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "features: 0, not 1 to 4,096"),
        (NAMES[:2], "fill: 3 values for 2 features"),
        (("a", "b", "a"), "features: a name occurs twice"),
    ],
)
def test_names_that_do_not_fit_are_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ForestError, match=message):
        Forest.from_arrays(names, _sound())


def test_a_value_that_is_not_known_counts_as_the_fill() -> None:
    """In scores, in explanations, and for scikit-learn once it is told the same."""
    reference, forest = _trained(), _forest()
    rows = _rows()
    rows[::2, 0] = np.nan
    rows[::3, 1] = np.nan
    rows[5] = np.nan
    filled = np.where(np.isnan(rows), FILL, rows)
    assert forest.score(rows).tobytes() == forest.score(filled).tobytes()
    assert np.abs(forest.score(rows) + reference.score_samples(filled)).max() < 1e-12
    np.testing.assert_array_equal(forest.explain(rows[5])[1], forest.explain(FILL)[1])


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_beyond_float32_is_beyond_every_threshold(scale: Scale) -> None:
    """As for scikit-learn, which reads such values as infinite."""
    scales = [scale] * 3
    reference = IsolationForest(random_state=0).fit(scaled(_rows(), scales))
    forest = flatten(reference, NAMES, FILL, scales)
    rows = np.array([[1e39, -1e300, np.inf], [-np.inf, 3.4e38, -1e39]])
    assert np.abs(forest.score(rows) + reference.score_samples(scaled(rows, scales))).max() < 1e-12
    infinite = np.array([[np.inf, -np.inf, np.inf]])
    np.testing.assert_array_equal(forest.score(rows[:1]), forest.score(infinite))


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_both_zeros_are_one_value(zero: float) -> None:
    """As for floats: neither is greater than the other, in a row or in a threshold."""
    arrays = _sound()
    arrays["threshold"][0] = zero
    scores = Forest.from_arrays(NAMES, arrays).score(
        np.array([[value, 0.6, 0.0] for value in (-1e-45, -0.0, 0.0, 1e-45)])
    )
    assert scores[0] == scores[1] == scores[2] < scores[3]


def test_trees_of_one_row_isolate_nothing() -> None:
    reference = _trained(max_samples=1)
    forest = flatten(reference, NAMES, FILL)
    np.testing.assert_array_equal(forest.score(_rows()), np.full(400, 0.5))
    np.testing.assert_array_equal(forest.score(_rows()), -reference.score_samples(_rows()))
    baseline, contributions = forest.explain(_rows()[0])
    assert baseline == 0.5
    np.testing.assert_array_equal(contributions, np.zeros(3))


def test_rows_in_other_memory_are_scored_by_the_kernel_there_is() -> None:
    """Columns side by side, read-only as Polars gives them, with gaps: compiling takes seconds."""
    forest, rows = _forest(), _rows()
    expected = forest.score(rows)
    read_only = rows.copy()
    read_only.flags.writeable = False
    for same in (np.asfortranarray(rows), read_only, np.repeat(rows, 2, axis=0)[::2]):
        np.testing.assert_array_equal(forest.score(same), expected)
        np.testing.assert_array_equal(forest.explain(same[0])[1], forest.explain(rows[0])[1])
    assert len(path_lengths.signatures) == len(attribute_path.signatures) == 1


def test_no_rows_have_no_scores() -> None:
    assert _forest().score(np.empty((0, 3))).shape == (0,)


@pytest.mark.parametrize("shape", [(5, 2), (5, 4), (3,), (1, 5, 3), (0,)])
def test_rows_of_another_width_are_refused(shape: tuple[int, ...]) -> None:
    """They would be read past their end."""
    with pytest.raises(ForestError, match="rows: have the shape"):
        _forest().score(np.zeros(shape))


def test_a_row_of_another_width_cannot_be_explained() -> None:
    with pytest.raises(ForestError, match=r"row: has the shape \(2,\), not \(3,\)"):
        _forest().explain(np.zeros(2))


def test_names_and_scales_must_be_those_of_the_forest() -> None:
    with pytest.raises(ForestError, match="features: the forest has 3, there are 2 names"):
        flatten(_trained(), NAMES[:2], FILL)
    with pytest.raises(ForestError, match="the forest has 3, there are 3 names and 1 scales"):
        flatten(_trained(), NAMES, FILL, ["log"])


def test_a_scale_that_the_forest_was_not_trained_on_is_noticed() -> None:
    """Where it can be: no logarithm of a float32 is below -90."""
    reference = IsolationForest(random_state=0).fit(-1000.0 * _rows())
    with pytest.raises(ForestError, match="was it trained on rows of these scales"):
        flatten(reference, NAMES, FILL, ["log", "log", "log"])


def test_scaling_leaves_its_input_and_linear_columns_as_they_are() -> None:
    rows = np.array([[np.e - 1, 3.0], [1 - np.e, -0.5], [0.0, 1e39]])
    before = rows.copy()
    got = scaled(rows, ["log", "linear"])
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [[1.0, 3.0], [-1.0, -0.5], [0.0, np.inf]], rtol=1e-7)
    np.testing.assert_array_equal(rows, before)
