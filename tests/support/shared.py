"""A small pack with shared keys and segments, and traces made with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from detectors.batch import EventBatch
from detectors.compiled import CompiledPack
from detectors.pack import (
    Action,
    DerivedSpec,
    FeatureSpec,
    Pack,
    RuleSpec,
    SegmentSpec,
    SharedKeySpec,
    SharedSpec,
    TraitSpec,
    WindowSpec,
)
from detectors.stages import UserStage
from tests.support.events import START_MS, complete, random_events, small_pack

__all__ = ["shared_pack", "traces_of", "wave_events"]

_RULES = (
    RuleSpec(
        "crowd",
        "A crowd",
        "actors_1h >= 2",
        "medium",
        60_000,
        "docs/runbooks/crowd.md",
        key="asset",
    ),
    RuleSpec(
        "shared-device",
        "Many users of one device",
        "young_share_1h > 0.2 and actors_1h >= 3",
        "low",
        600_000,
        "docs/runbooks/device.md",
        key="device",
    ),
    RuleSpec(
        "together",
        "Users act together",
        "campaign_members >= 3",
        "high",
        60_000,
        "docs/runbooks/together.md",
        key="campaign",
        action=Action("throttle", "all", 600_000),
    ),
    RuleSpec(
        "surge",
        "More than usual",
        "volume_score >= 0.5",
        "low",
        60_000,
        "docs/runbooks/surge.md",
        key="segment",
    ),
)


def shared_pack() -> Pack:
    """The small pack with three key spaces, features and rules of theirs, and segments."""
    return replace(
        small_pack(),
        rules=(*small_pack().rules, *_RULES),
        shared=SharedSpec(
            keys=(
                SharedKeySpec("asset", "asset_id", "type = 'share.created'"),
                SharedKeySpec("device", "device_id"),
                SharedKeySpec("network", "ip", form="network"),
            ),
            windows=(WindowSpec("1m", 60_000, 6), WindowSpec("1h", 3_600_000, 4)),
            features=(
                FeatureSpec("actors", "distinct", ("1m", "1h"), of="user_id", capacity=8),
                FeatureSpec("young_actions", "count", ("1h",), "account_age_days < 3"),
                FeatureSpec("actions", "count", ("1m", "1h")),
            ),
            derived=(DerivedSpec("young_share_1h", "young_actions_1h / greatest(actions_1h, 1)"),),
            segments=(
                SegmentSpec("all"),
                SegmentSpec("tier", "tier", "type = 'generation.requested'"),
            ),
            traits=(
                TraitSpec("limited", "limited_1m > 0", "were over a limit"),
                TraitSpec("young", "account_age_days < 3", "are new"),
            ),
        ),
    )


def traces_of(
    pack: CompiledPack, batches: list[EventBatch], max_users: int = 1_000
) -> pl.DataFrame:
    """The traces that a stage of users makes of batches."""
    stage = UserStage(pack, max_users)
    made = [stage.process(batch).traces for batch in batches]
    return pl.concat([traces for traces in made if traces is not None])


def wave_events(seed: int, *, waves: int = 12, users: int = 15) -> pl.DataFrame:
    """Random traffic of many users; in it the same ``users`` share a new video, wave after wave."""
    calm = random_events(seed, 3_000, 400, spacing_ms=3_000, late_share=0.02)
    rng = np.random.default_rng(seed)
    start_ms, end_ms = calm["time_ms"].quantile(0.3), calm["time_ms"].max()
    assert isinstance(start_ms, float)
    assert isinstance(end_ms, int)
    rows = [
        {
            "event_id": f"wave-{seed}-{wave}-{user}",
            "type": "share.created",
            "time_ms": int(at_ms + rng.integers(0, 20_000)),
            "user_id": f"crew-{user}",
            "account_created_ms": START_MS - 86_400_000,
            "tier": "free",
            "asset_id": f"wave-asset-{wave}",
        }
        for wave, at_ms in enumerate(np.linspace(start_ms, end_ms - 30_000, waves))
        for user in range(users)
        if rng.random() < 0.85
    ]
    waves_of = complete(pl.DataFrame(rows))
    return pl.concat([calm, waves_of]).sort("time_ms", maintain_order=True)
