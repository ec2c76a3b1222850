"""Random but seeded events and a small pack, for tests of the core."""

from __future__ import annotations

import numpy as np
import polars as pl

from detectors.events import (
    COLUMNS,
    EVENT_TYPES,
    FEEDBACK_TYPES,
    GENERATION_TYPES,
    SHARE_TYPES,
    event_schema,
)
from detectors.pack import (
    Action,
    DerivedSpec,
    FeatureSpec,
    LimitSpec,
    LimitsSpec,
    Pack,
    RuleSpec,
    WindowSpec,
)

__all__ = ["START_MS", "complete", "random_events", "small_pack", "with_own_bodies"]

START_MS = 1_780_000_000_000
REQUESTED = "type = 'generation.requested'"


RULES = (
    RuleSpec(
        "burst",
        "Burst of generations",
        "generations_1m >= 8 and tier != 'pro'",
        "medium",
        60_000,
        "docs/runbooks/burst.md",
        action=Action("throttle", "generation", 600_000),
    ),
    RuleSpec(
        "varied",
        "Many different prompts",
        "half_prompt_share_1h > 0.3 and generations_1h >= 10 and not verified",
        "low",
        30_000,
        "docs/runbooks/varied.md",
    ),
    RuleSpec(
        "steady",
        "Machine-like rhythm",
        "generation_gap_cv_1h < 1.0 and cost_1m > 4.5",
        "high",
        0,
        "docs/runbooks/steady.md",
        mode="shadow",
        action=Action("block", "all", 600_000),
    ),
)


def complete(frame: pl.DataFrame) -> pl.DataFrame:
    """``frame`` with every event column, in order; those it lacks are null."""
    schema = event_schema()
    missing = [pl.lit(None, dtype=t).alias(n) for n, t in schema.items() if n not in frame.columns]
    columns = [pl.col(name).cast(dtype) for name, dtype in schema.items()]
    return frame.with_columns(missing).select(columns)


def random_events(
    seed: int, events: int, users: int, *, spacing_ms: int = 500, late_share: float = 0.1
) -> pl.DataFrame:
    """Events of every type from few users, so that windows fill; some are late, some very late."""
    rng = np.random.default_rng(seed)
    times_ms = START_MS + np.cumsum(rng.integers(0, 2 * spacing_ms, events))
    late = rng.random(events) < late_share
    times_ms -= late * rng.choice([3_000, 90_000, 7_200_000, 90_000_000], events)
    actors = rng.integers(0, users, events)
    frame = pl.DataFrame(
        {
            "event_id": [f"evt-{seed}-{index}" for index in range(events)],
            "type": rng.choice(EVENT_TYPES, events, p=[0.4] + [0.06] * 10),
            "time_ms": times_ms,
            "user_id": [f"user-{actor}" for actor in actors],
            "account_created_ms": START_MS - 86_400_000 * (1 + actors),
            "tier": rng.choice(["free", "pro", "mystery"], events),
            "verified": rng.random(events) < 0.5,
            "ip": [f"10.0.0.{address}" for address in rng.integers(0, 12, events)],
            "device_id": [f"dev-{device}" for device in rng.integers(0, 30, events)],
            "request_id": [f"req-{index}" for index in range(events)],
            "prompt_fingerprint": [f"prompt-{prompt}" for prompt in rng.integers(0, 60, events)],
            "cost": rng.random(events) * 3,
            "guard_decision": rng.choice(["allow", "block"], events),
            "asset_id": [f"asset-{asset}" for asset in rng.integers(0, 40, events)],
            "subject_user_id": [f"user-{subject}" for subject in rng.integers(0, users, events)],
        }
    )
    return with_own_bodies(complete(frame))


def with_own_bodies(events: pl.DataFrame) -> pl.DataFrame:
    """``events`` without values of bodies that their types do not have, as the wire gives them."""
    bodies = {"generation": GENERATION_TYPES, "share": SHARE_TYPES, "feedback": FEEDBACK_TYPES}
    keep = []
    for column in COLUMNS:
        types = bodies.get(column.path.split(".")[0])
        if column.name == "asset_id":
            types = SHARE_TYPES + FEEDBACK_TYPES
        if types is not None:
            keep.append(pl.when(pl.col("type").is_in(types)).then(column.name).alias(column.name))
    return events.with_columns(keep)


def small_pack() -> Pack:
    """A pack with every kind of feature, derived columns at two levels, limits and rules."""
    return Pack(
        name="small",
        windows=(
            WindowSpec("10s", 10_000, 5),
            WindowSpec("1m", 60_000, 6),
            WindowSpec("1h", 3_600_000, 4),
        ),
        features=(
            FeatureSpec("generations", "count", ("10s", "1m", "1h"), REQUESTED),
            FeatureSpec("limited", "count", ("1m",), "limited"),
            FeatureSpec("cost", "sum", ("1m", "1h"), REQUESTED, of="cost * 2"),
            FeatureSpec("prompts", "distinct", ("1m", "1h"), REQUESTED, "prompt_fingerprint", 8),
            FeatureSpec("addresses", "distinct", ("1h",), "true", "ip", 16),
            FeatureSpec("generation_gap", "gap", ("1m", "1h"), REQUESTED),
            FeatureSpec("young", "count", ("1h",), "account_age_days < 3"),
        ),
        derived=(
            DerivedSpec("prompt_share_1h", "prompts_1h / greatest(generations_1h, 1)"),
            DerivedSpec("half_prompt_share_1h", "prompt_share_1h / 2.0"),
            DerivedSpec("account_age_days", "(time_ms - account_created_ms) / 86400000.0"),
        ),
        rules=RULES,
        limits=LimitsSpec(
            actions={"generation": REQUESTED},
            limits=(
                LimitSpec("generations_per_minute", "generation", 60_000, {"free": 6, "pro": 12}),
                LimitSpec("credits_per_hour", "generation", 3_600_000, {"free": 40}, "cost"),
            ),
            default_tier="free",
            tiers=("free", "pro"),
            decision_ms=30_000,
        ),
    )
