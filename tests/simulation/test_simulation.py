"""A few seeds of the simulation; ``make chaos`` runs hundreds."""

from __future__ import annotations

import pytest

from tests.simulation.run import simulate


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_lost(seed: int) -> None:
    verdict = simulate(seed)
    assert not verdict.problems, f"python -m tests.simulation --seed {seed}: {verdict.problems}"
    assert verdict.points > 100
    assert verdict.checkpoints
