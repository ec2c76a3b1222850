"""The isolation forest against scikit-learn, over forests and rows of every kind it can train."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from sklearn.ensemble import IsolationForest

from detectors.forest import LEAF, Forest, ForestError
from monitor.models.scales import Floats, Scale, scaled, unscaled_thresholds
from monitor.models.sklearn_forest import flatten

_BOUND: Final = 1e-12

_COLUMNS: Final[Mapping[str, Callable[[np.random.Generator, int], Floats]]] = MappingProxyType(
    {
        "normal": lambda rng, n: rng.normal(size=n),
        "heavy": lambda rng, n: rng.choice([-1.0, 1.0], size=n) * np.exp(4.0 * rng.normal(size=n)),
        "count": lambda rng, n: np.floor(rng.exponential(3.0, size=n)),
        "flag": lambda rng, n: rng.integers(0, 2, size=n).astype(np.float64),
        "constant": lambda rng, n: np.full(n, rng.normal()),
        "tiny": lambda rng, n: rng.normal(size=n) * 1e-39,  # float32 is less precise there
        "huge": lambda rng, n: rng.uniform(-1.0, 1.0, size=n) * 3.4e38,
        "neighbours": lambda rng, n: 1e6 + rng.integers(0, 4, size=n) / 16.0,  # one bit apart
    }
)
_SCALES: Final[tuple[Scale, ...]] = ("linear", "log")


@dataclass(frozen=True, slots=True)
class Case:
    """A forest of scikit-learn's, the same as arrays, and rows to score with both."""

    reference: IsolationForest
    forest: Forest
    scales: list[Scale]
    rows: Floats

    def expected(self) -> Floats:
        """What scikit-learn says of the rows, with the sign of an anomaly score."""
        scores: Floats = -self.reference.score_samples(scaled(self.rows, self.scales))
        return scores


def _parameters(n: int, k: int) -> SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "n_estimators": st.integers(1, 30),
            "max_samples": st.one_of(
                st.just("auto"), st.integers(1, n), st.floats(min(1.0, 1.01 / n), 1.0)
            ),
            "max_features": st.one_of(st.just(1.0), st.integers(1, k), st.floats(0.01, 1.0)),
            "bootstrap": st.booleans(),
            "random_state": st.integers(0, 2**32 - 1),
        }
    )


@st.composite
def cases(draw: DrawFn) -> Case:
    """Rows of many kinds of columns, some twice; a forest; the rows and others that are near."""
    kinds = draw(st.lists(st.sampled_from(sorted(_COLUMNS)), min_size=1, max_size=8))
    scales = draw(st.lists(st.sampled_from(_SCALES), min_size=len(kinds), max_size=len(kinds)))
    n, rng = draw(st.integers(2, 300)), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    training = np.column_stack([_COLUMNS[kind](rng, n) for kind in kinds])
    if draw(st.booleans()):
        training = training[rng.integers(0, n, size=n)]
    reference = IsolationForest(**draw(_parameters(n, len(kinds))))
    reference.fit(scaled(training, scales))
    names = [f"feature_{column}" for column in range(len(kinds))]
    forest = flatten(reference, names, np.zeros(len(kinds)), scales)
    rows = np.concatenate([training, _on_thresholds(forest, training, rng), _extremes(len(kinds))])
    return Case(reference, forest, scales, rows)


def _on_thresholds(forest: Forest, training: Floats, rng: np.random.Generator) -> Floats:
    """A row for nodes that compare: it has the very threshold, or the float32 before or after."""
    nodes = np.flatnonzero(forest.feature != LEAF)[:500]
    rows = training[rng.integers(0, len(training), size=len(nodes))]
    exact = forest.threshold[nodes]
    rows[np.arange(len(nodes)), forest.feature[nodes]] = np.choose(
        rng.integers(0, 3, size=len(nodes)), [exact, _next(exact, 1), _next(exact, -1)]
    )
    return rows


def _next(values: npt.NDArray[np.float32], sign: int) -> npt.NDArray[np.float32]:
    """The float32 after each value, or the one before."""
    with np.errstate(over="ignore"):  # After the greatest comes infinity.
        return np.nextafter(values, np.float32(sign * np.inf))


def _extremes(k: int) -> Floats:
    values = [0.0, -0.0, 1e300, -1e300, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-45, -1e-45, 5e-324]
    return np.repeat(np.array(values)[:, None], k, axis=1)


def test_scores_are_those_of_scikit_learn(capsys: pytest.CaptureFixture[str]) -> None:
    """Any forest, any row without NaN: on thresholds, beside them, and beyond float32."""
    differences = []

    @given(cases())
    @settings(max_examples=120)
    def check(case: Case) -> None:
        got = case.forest.score(case.rows)
        assert got.min() >= 0.0
        assert got.max() <= 1.0
        differences.append(float(np.abs(got - case.expected()).max()))
        assert differences[-1] < _BOUND

    check()
    with capsys.disabled():
        sys.stdout.write(
            f"\nworst difference to scikit-learn in {len(differences)} forests:"
            f" {max(differences):.1e}\n"
        )


@given(cases(), st.data())
@settings(max_examples=40)
def test_a_score_depends_on_its_row_alone(case: Case, data: st.DataObject) -> None:
    """To the last bit: alone, in batches cut anywhere, in any order, with gaps in memory."""
    whole = case.forest.score(case.rows)
    n = len(case.rows)
    cuts = sorted(data.draw(st.sets(st.integers(0, n), max_size=6)))
    parts = [case.forest.score(part) for part in np.split(case.rows, cuts)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    order = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(n)
    assert case.forest.score(case.rows[order]).tobytes() == whole[order].tobytes()
    assert case.forest.score(np.asfortranarray(case.rows)).tobytes() == whole.tobytes()
    assert case.forest.score(np.repeat(case.rows, 2, axis=0)[::2]).tobytes() == whole.tobytes()
    alone = [case.forest.score(case.rows[i : i + 1])[0] for i in range(0, n, 7)]
    assert np.array(alone).tobytes() == whole[::7].tobytes()


@given(cases())
@settings(max_examples=40)
def test_contributions_add_up_to_the_score(case: Case) -> None:
    scores = case.forest.score(case.rows)
    for i in range(0, len(case.rows), 5):
        baseline, contributions = case.forest.explain(case.rows[i])
        assert abs(baseline + contributions.sum() - scores[i]) < _BOUND


@given(
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=50),
    st.lists(st.floats(-89.0, 89.0, width=32), min_size=1, max_size=50),
)
@settings(max_examples=300)
def test_a_threshold_says_the_same_without_the_logarithm(
    values: list[float], thresholds: list[float]
) -> None:
    """For any values and, as they are the hardest, those on either side of the new threshold."""
    limits = np.array(thresholds, dtype=np.float32)
    raw = unscaled_thresholds(limits)
    x = np.concatenate([np.array(values, dtype=np.float32), raw, _next(raw, 1), _next(raw, -1)])
    logs = scaled(x[:, None], ["log"])
    np.testing.assert_array_equal(logs <= limits, x[:, None] <= raw)


@st.composite
def damaged(draw: DrawFn) -> tuple[Forest, dict[str, npt.NDArray[Any]]]:
    """A sound forest, and its arrays with some elements replaced or some bytes flipped."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    reference = IsolationForest(n_estimators=3, max_samples=16, random_state=0)
    rows = rng.normal(size=(40, 3))
    forest = flatten(reference.fit(rows.astype(np.float32)), ["a", "b", "c"], np.zeros(3))
    arrays = {name: np.copy(array) for name, array in forest.arrays().items()}
    for _ in range(draw(st.integers(1, 3))):
        array = arrays[draw(st.sampled_from(sorted(arrays)))]
        octets = array.reshape(-1).view(np.uint8)
        at = draw(st.integers(0, array.size - 1))
        if draw(st.booleans()):
            small = draw(st.integers(-2, 40))
            array.reshape(-1)[at] = small
        else:
            octets[draw(st.integers(0, len(octets) - 1))] ^= 1 << draw(st.integers(0, 7))
    return forest, arrays


@given(damaged())
@settings(max_examples=300)
def test_damaged_arrays_are_refused_or_are_a_forest(
    case: tuple[Forest, dict[str, npt.NDArray[Any]]],
) -> None:
    """Whatever is accepted can be scored: it neither crashes nor loops, and scores are scores."""
    forest, arrays = case
    try:
        accepted = Forest.from_arrays(forest.features, arrays)
    except ForestError:
        return
    rows = np.concatenate([np.random.default_rng(0).normal(size=(50, 3)), _extremes(3)])
    scores = accepted.score(rows)
    assert ((scores >= 0.0) & (scores <= 1.0)).all()
    baseline, contributions = accepted.explain(rows[0])
    assert abs(baseline + contributions.sum() - scores[0]) < _BOUND
