"""Probabilities are those of scipy and of counting, down to the smallest."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, poisson  # type: ignore[import-untyped]

from detectors.chance import false_discovery_rates, meeting_chance, poisson_tail, poisson_tails


@pytest.mark.parametrize(("most_count", "least_mean", "most_mean"), [(60, -9, 2), (10_000, 0, 4)])
def test_poisson_tails_are_those_of_scipy(
    most_count: int, least_mean: float, most_mean: float
) -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(0, most_count, 20_000)
    means = 10 ** rng.uniform(least_mean, most_mean, 20_000)
    expected = poisson.sf(counts - 1, means)
    told = expected > 1e-300
    assert told.sum() > 2_000
    # scipy itself is 5e-12 off at 1e-240.
    np.testing.assert_allclose(poisson_tails(counts, means)[told], expected[told], rtol=2e-11)


@pytest.mark.parametrize(
    ("count", "mean"),
    [(1, 1e-290), (3, 0.024), (15, 1e-12), (16, 1e-12), (28, 1e-9), (500, 60.0), (9_840, 8_233.0)],
)
def test_the_smallest_tails_are_exact(count: int, mean: float) -> None:
    """By sixty digits."""
    with localcontext(prec=60):
        term = (-Decimal(mean)).exp()
        for at in range(1, count + 1):
            term = term * Decimal(mean) / at
        total, at = term, count
        while term > total * Decimal("1e-30"):
            at += 1
            term = term * Decimal(mean) / at
            total += term
        assert abs(Decimal(poisson_tail(count, mean)) / total - 1) < Decimal("1e-12")


def test_poisson_tails_at_the_ends() -> None:
    counts = np.array([0, 0, 1, 1_000_000, 5])
    means = np.array([0.0, 7.0, 0.0, 1_000_000.0, 1e9])
    tails = poisson_tails(counts, means)
    assert tails[:3].tolist() == [1.0, 1.0, 0.0]
    assert tails[3] == pytest.approx(poisson.sf(999_999, 1e6), rel=1e-9)
    assert tails[4] == 1.0


def test_meeting_chance_is_that_of_shuffled_accounts() -> None:
    """Exact for one action each, an upper bound for more, 1 where everybody is within."""
    times = np.array([0, 1, 2, 10, 20, 21, 40, 70])
    window = 5
    gaps = np.abs(times[:, None] - times)
    close_share = float((gaps[np.triu_indices(8, 1)] <= window).mean())
    rng = np.random.default_rng(2)
    for first, second in ((1, 1), (2, 1), (1, 3), (2, 3)):
        met = 0
        for _ in range(20_000):
            places = rng.permutation(8)
            a, b = places[:first], places[first : first + second]
            met += bool((gaps[np.ix_(a, b)] <= window).any())
        chance = meeting_chance(close_share, first, second)
        assert met / 20_000 <= chance + 0.01
        if first * second == 1:
            assert chance == pytest.approx(met / 20_000, abs=0.01)
    assert meeting_chance(1.0, 1, 1) == 1.0
    assert meeting_chance(0.0, 3, 4) == 0.0
    assert meeting_chance(1e-18, 1, 2) == pytest.approx(2e-18)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=30),
    st.integers(0, 100),
)
def test_false_discovery_rates_are_those_of_scipy(probabilities: list[float], others: int) -> None:
    """The tests that are only counted are as good as probabilities of 1."""
    given_ones = np.array(probabilities)
    found = false_discovery_rates(given_ones, len(given_ones) + others)
    expected = false_discovery_control(np.append(given_ones, np.ones(others)))
    np.testing.assert_allclose(found, expected[: len(given_ones)], rtol=1e-12)


def test_no_test_has_no_rate() -> None:
    assert false_discovery_rates(np.empty(0), 0).tolist() == []
