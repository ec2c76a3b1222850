"""The limiter against a model with exact fractions."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.keys import KeyTable
from detectors.limits import Limiter, plan_limits
from detectors.pack import LimitSpec, LimitsSpec

# Limits whose emission interval is a whole number of nanoseconds, so that both are exact.
SPEC = LimitsSpec(
    actions={"make": "type = 'make'", "share": "type = 'share'"},
    limits=(
        LimitSpec("makes_per_minute", "make", 60_000, {"free": 4, "pro": 12}),
        LimitSpec("makes_per_hour", "make", 3_600_000, {"free": 20}),
        LimitSpec("credits_per_minute", "make", 60_000, {"free": 10, "pro": 100}, "cost"),
        LimitSpec("shares_per_minute", "share", 60_000, {"free": 0, "pro": 5}),
    ),
    default_tier="free",
    tiers=("free", "pro"),
)
SCHEMA = {"type": pl.String(), "tier": pl.String(), "cost": pl.Float64()}


class Model:
    """GCRA as its definition reads: virtual scheduling over exact times, for one key."""

    def __init__(self) -> None:
        self.arrival: defaultdict[str, Fraction] = defaultdict(Fraction)
        self.newest = Fraction(0)

    def over(self, time_ms: int, kind: str, tier: str, cost: float) -> list[bool]:
        now = self.newest = max(self.newest, Fraction(time_ms))
        over, ahead = [], {}
        for limit in SPEC.limits:
            allowed = limit.allow.get(tier)
            quantity = Fraction(cost) if limit.quantity == "cost" else Fraction(1)
            if limit.action != kind or allowed is None or quantity <= 0:
                over.append(False)
                continue
            if allowed == 0:
                over.append(True)
                continue
            interval = Fraction(limit.period_ms) / Fraction(allowed)
            ahead[limit.name] = max(self.arrival[limit.name], now) + quantity * interval
            over.append(ahead[limit.name] - now > limit.period_ms)
        if not any(over):
            self.arrival |= ahead
        return over


EVENTS = st.lists(
    st.tuples(
        st.integers(-5_000, 20_000),  # time since the event before, ms; some are late
        st.sampled_from(["make", "share", "other"]),
        st.sampled_from(["free", "pro", "gold"]),
        st.sampled_from([0.0, 0.5, 1.0, 2.5, 200.0]),
        st.integers(1, 3),  # key
    ),
    max_size=120,
)


@given(EVENTS)
@settings(max_examples=150, deadline=None)
def test_the_limiter_is_exactly_gcra(events: list[tuple[int, str, str, float, int]]) -> None:
    """Every event, every limit: over or not; an unknown tier is the default one."""
    times = 1_780_000_000_000 + np.cumsum([event[0] for event in events], dtype=np.int64)
    frame = pl.DataFrame([event[1:4] for event in events], schema=SCHEMA, orient="row")
    keys = np.array([event[4] for event in events], dtype=np.uint64)
    rows, fresh = KeyTable(3).rows(keys)
    limiter = Limiter(plan_limits(SPEC, SCHEMA), 3)
    got = limiter.apply(frame, times, rows, fresh)
    models: defaultdict[int, Model] = defaultdict(Model)
    for index, (_, kind, tier, cost, key) in enumerate(events):
        known = tier if tier in SPEC.tiers else "free"
        expected = models[key].over(int(times[index]), kind, known, cost)
        assert got.over[:, index].tolist() == expected, index
        assert got.frame["limited"][index] == any(expected)
        if any(expected):
            assert got.retry_ms[index] > times[index] or got.retry_ms[index] > 0


def test_a_user_who_keeps_to_the_limit_is_never_limited() -> None:
    """Four a minute, evenly, for a day: none is over; a fifth at any moment is."""
    times = np.arange(0, 86_400_000, 15_000, dtype=np.int64) + 1_780_000_000_000
    frame = pl.DataFrame({"type": ["make"] * len(times), "tier": "pro", "cost": 0.0})
    rows, fresh = KeyTable(1).rows(np.ones(len(times), dtype=np.uint64))
    limiter = Limiter(plan_limits(SPEC, SCHEMA), 1)
    assert not limiter.apply(frame, times, rows, fresh).frame["limited"].any()
