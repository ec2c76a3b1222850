"""The short version of ``python -m tests.simulation``, which ``make chaos`` runs in full.

And that it is worth something: it replays, and it notices what is wrong.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.faults import Fault, GivenFaults
from tests.simulation.knobs import Knobs
from tests.simulation.mutants import MUTANTS
from tests.simulation.run import simulate

_FIRST_SEED = 28
_SEEDS = 8
"""Worlds with one, two and three stages; models are swapped in most."""
_MOST_MUTANT_SEEDS = 40


def small(seed: int) -> Knobs:
    """A world that is over soon."""
    knobs = Knobs.drawn(random.Random(f"small {seed}"))
    return replace(knobs, partitions=1, events=60, span_s=20.0, stop_every_s=1e9)


def test_whatever_strikes_the_outcome_is_that_of_a_single_pass() -> None:
    """A few seeds of the full run, in the environment in which they replay to the letter."""
    seeds = ["--first-seed", str(_FIRST_SEED), "--seeds", str(_SEEDS)]
    command = [sys.executable, "-m", "tests.simulation", *seeds, "--jobs", "2"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["sim_seeds"] == _SEEDS
    assert figures["sim_crash_points"] > 20 * _SEEDS
    for name in ("failed_seeds", "events_lost", "rows_wrong", "state_mismatches"):
        assert figures[f"sim_{name}"] == 0
    for name in ("missing", "unexpected", "differing"):
        assert figures[f"sim_{name}_alerts"] == 0
    for name in ("messages", "duplicates", "checkpoints", "forced_orders", "rebalances"):
        assert figures[f"sim_{name}"] > 0, f"these seeds say nothing about {name}"
    for name in ("swaps", "rows"):
        assert figures[f"sim_{name}"] > 100, f"these seeds say nothing about {name}"


def test_a_seed_gives_the_same_run_again() -> None:
    def told(seed: int) -> list[str]:
        lines: list[str] = []
        simulate(seed, knobs=small(seed), tell=lines.append)
        return lines

    assert told(3) == told(3)
    assert told(3) != told(4)


def test_a_crash_at_any_point_of_a_run_does_no_harm() -> None:
    """Points all along one run, one after the other, and soon after the restart again."""
    knobs = replace(small(5), nodes=1, events=40, stages=2, swap_every_s=2.0)
    points = simulate(5, GivenFaults({}), knobs).points
    crashes = 0
    for point in range(1, points, max(1, points // 17)):
        plan = GivenFaults({point: Fault("kill"), point + 9: Fault("kill")})
        verdict = simulate(5, plan, knobs)
        assert not verdict.wrong, (point, verdict.problems)
        crashes += sum(verdict.crashes.values())
    assert crashes >= 30


@given(
    seed=st.integers(0, 1_000_000),
    faults=st.lists(
        st.tuples(
            st.integers(1, 60),
            st.one_of(
                st.just(Fault("kill")),
                st.just(Fault("rebalance")),
                st.builds(Fault, st.just("pause"), st.floats(0.01, 60.0)),
            ),
        ),
        max_size=12,
    ),
)
@settings(max_examples=12, deadline=None)
def test_any_schedule_of_faults_does_no_harm(seed: int, faults: list[tuple[int, Fault]]) -> None:
    """Each fault so many points after the one before it; Hypothesis shrinks what fails."""
    at, schedule = 0, {}
    for distance, fault in faults:
        at += distance
        schedule[at] = fault
    verdict = simulate(seed, GivenFaults(schedule), small(seed))
    assert not verdict.wrong, verdict.problems


@pytest.mark.parametrize("name", MUTANTS)
def test_what_is_wrong_is_noticed(name: str) -> None:
    """Else the zeros of the full run would say nothing."""
    mutant = MUTANTS[name]
    seeds = iter(range(mutant.first_seed, mutant.first_seed + _MOST_MUTANT_SEEDS))
    with mutant.in_place():
        noticed = next((seed for seed in seeds if mutant.simulate(seed).wrong), None)
    assert noticed is not None, f"{_MOST_MUTANT_SEEDS} seeds do not notice what {name}"
    assert not mutant.simulate(noticed).wrong, "without the mutation there is nothing wrong"
