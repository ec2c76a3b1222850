"""A small pack with shared keys and segments, and traces made with it."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from detectors.batch import EventBatch
from detectors.compiled import CompiledPack
from detectors.pack import (
    DerivedSpec,
    FeatureSpec,
    Pack,
    RuleSpec,
    SegmentSpec,
    SharedKeySpec,
    SharedSpec,
    WindowSpec,
)
from detectors.stages import UserStage
from tests.support.events import small_pack

__all__ = ["shared_pack", "traces_of"]

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
        ),
    )


def traces_of(
    pack: CompiledPack, batches: list[EventBatch], max_users: int = 1_000
) -> pl.DataFrame:
    """The traces that a stage of users makes of batches."""
    stage = UserStage(pack, max_users)
    made = [stage.process(batch).traces for batch in batches]
    return pl.concat([traces for traces in made if traces is not None])
