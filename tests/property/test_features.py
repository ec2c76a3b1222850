"""Windowed features against a model that keeps every event."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.batch import EventBatch
from detectors.features import Features, plan_features
from detectors.keys import KeyTable, hash_strings
from detectors.pack import FeatureSpec, WindowSpec
from tests.support.events import REQUESTED, random_events

WINDOWS = (
    WindowSpec("10s", 10_000, 5),
    WindowSpec("1m", 60_000, 6),
    WindowSpec("1h", 3_600_000, 4),
)
SPECS = (
    FeatureSpec("made", "count", ("10s", "1m", "1h"), REQUESTED),
    FeatureSpec("cost", "sum", ("1m", "1h"), REQUESTED, of="cost"),
    FeatureSpec("prompts", "distinct", ("1m", "1h"), REQUESTED, "prompt_fingerprint", 64),
    FeatureSpec("gap", "gap", ("1h",), REQUESTED),
)


class Model:
    """One key, remembering everything; windows by panes as the definition says."""

    def __init__(self) -> None:
        self.newest_ms = -math.inf
        self.made: list[tuple[int, float, str]] = []
        self.gaps: list[tuple[int, float]] = []
        self.last_ms: int | None = None

    def apply(self, time_ms: int, requested: bool, cost: float, prompt: str) -> bool:
        """Whether the event is late."""
        if time_ms <= self.newest_ms - WINDOWS[-1].length_ms:
            return True
        if requested:
            if self.last_ms is not None and time_ms >= self.last_ms:
                self.gaps.append((time_ms, (time_ms - self.last_ms) / 1000))
            self.last_ms = max(time_ms, self.last_ms or time_ms)
            self.made.append((time_ms, cost, prompt))
        self.newest_ms = max(self.newest_ms, time_ms)
        return False

    def alive(self, window: WindowSpec, times: list[Any]) -> Iterator[Any]:
        newest = int(self.newest_ms) // window.pane_ms
        return (t for t in times if t[0] // window.pane_ms > newest - window.panes)

    def values(self) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for window in WINDOWS:
            alive = list(self.alive(window, self.made))
            found[f"made_{window.name}"] = len(alive)
            found[f"cost_{window.name}"] = sum(cost for _, cost, _ in alive)
            now_s = int(self.newest_ms) // 1000
            found[f"prompts_{window.name}"] = len(
                {p for t, _, p in self.made if t // 1000 > now_s - window.length_ms // 1000}
            )
        gaps = [gap for _, gap in self.alive(WINDOWS[-1], self.gaps)]
        found["gap_mean_s_1h"] = sum(gaps) / len(gaps) if gaps else None
        mean = sum(gaps) / max(1, len(gaps))
        varies = len(gaps) >= 5 and mean > 0
        found["gap_cv_1h"] = float(np.std(gaps)) / mean if varies else None
        found["gap_max_s_1h"] = max(gaps) if gaps and max(gaps) > 0 else None
        return found


@given(seed=st.integers(0, 10_000), users=st.sampled_from([1, 4]))
@settings(max_examples=25, deadline=None)
def test_values_at_each_event_equal_the_model(seed: int, users: int) -> None:
    """Counts, sums, exact distinct counts and gaps, with late events, at every single event."""
    frame = random_events(seed, 250, users, spacing_ms=3_000)
    batch = EventBatch.of(frame)
    plan = plan_features(SPECS, WINDOWS, frame.schema)
    rows, fresh = KeyTable(users).rows(hash_strings(frame["user_id"]))
    got = Features(plan, users).apply(frame, batch.times_ms, rows, fresh)
    models: defaultdict[str, Model] = defaultdict(Model)
    for index, event in enumerate(frame.iter_rows(named=True)):
        model = models[event["user_id"]]
        requested = event["type"] == "generation.requested"
        late = model.apply(event["time_ms"], requested, event["cost"], event["prompt_fingerprint"])
        assert bool(got.late[index]) == late
        if late:
            continue
        expected = model.values()
        for name, value in got.frame.row(index, named=True).items():
            if expected[name] is None:
                assert value is None, (index, name)
            else:
                assert value == pytest.approx(expected[name], rel=1e-3, abs=1e-3), (index, name)


@given(distinct=st.integers(1, 3_000), capacity=st.sampled_from([16, 64]))
@settings(max_examples=30, deadline=None)
def test_distinct_is_exact_up_to_its_capacity_and_near_beyond(distinct: int, capacity: int) -> None:
    """Beyond capacity the standard error is about 1/sqrt(capacity - 1): five of them allowed."""
    value = distinct_of([f"value-{index}" for index in range(distinct)], capacity, spacing_ms=1)
    if distinct <= capacity:
        assert value == distinct
    else:
        assert value == pytest.approx(distinct, rel=5 / math.sqrt(capacity - 1))


def test_an_overfull_sketch_is_exact_again_after_its_window() -> None:
    """What was dropped leaves the window, and with it the estimate's threshold."""
    crowded = [f"value-{index}" for index in range(500)]
    quiet = ["a", "b", "c"]
    assert distinct_of(crowded + quiet, 16, spacing_ms=1, pause_ms=61_000, pause_at=500) == 3


def distinct_of(
    values: list[str], capacity: int, *, spacing_ms: int, pause_ms: int = 0, pause_at: int = 0
) -> float:
    """The distinct count over a minute after one key had all of the values."""
    spec = FeatureSpec("values", "distinct", ("1m",), "true", "ip", capacity)
    times = 1_780_000_000_000 + np.arange(len(values)) * spacing_ms
    times[pause_at:] += pause_ms if pause_at else 0
    frame = pl.DataFrame({"ip": values})
    plan = plan_features((spec,), WINDOWS, {"ip": pl.String()})
    rows, fresh = KeyTable(1).rows(np.ones(len(values), dtype=np.uint64))
    got = Features(plan, 1).apply(frame, times, rows, fresh)
    return float(got.frame["values_1m"][-1])
