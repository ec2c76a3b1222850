"""Real arrival times of generation requests (Azure LLM inference traces) as benign events."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from tests.support.events import complete

__all__ = ["AZURE_TRACES", "azure_events"]

AZURE_TRACES: Final = ("code", "conv")
_USERS: Final = 400
_TIERS: Final = ("free", "plus", "pro", "enterprise", "unverified")


def azure_events(
    folder: Path, trace: str, *, seed: int = 1, tier: str | None = None
) -> pl.DataFrame:
    """One trace as generation requests of 400 users at their real times, prompts all different.

    Users are drawn evenly; ``tier`` is everybody's plan, or else the plans are drawn too.
    """
    path = folder / f"AzureLLMInferenceTrace_{trace}.csv"
    times = pl.read_csv(path).select(
        pl.col("TIMESTAMP").str.slice(0, 23).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ms")
    )
    times_ms = times.to_series().dt.timestamp("ms").sort().to_numpy()
    count = len(times_ms)
    rng = np.random.default_rng(seed)
    users = rng.integers(0, _USERS, count)
    tiers = rng.choice(_TIERS, _USERS) if tier is None else np.full(_USERS, tier)
    index = np.arange(count)
    frame = pl.DataFrame(
        {
            "event_id": [f"azure-{trace}-{number}" for number in index],
            "type": "generation.requested",
            "time_ms": times_ms,
            "user_id": [f"azure-{trace}-user-{user}" for user in users],
            "account_created_ms": times_ms - (30 + users) * 86_400_000,
            "tier": tiers[users],
            "verified": True,
            "country": "US",
            "ip": [f"198.51.{user // 200}.{user % 200}" for user in users],
            "device_id": [f"azure-device-{user}" for user in users],
            "session_id": [f"azure-session-{user}" for user in users],
            "request_id": [f"azure-{trace}-request-{number}" for number in index],
            "model": "video-1",
            "prompt_fingerprint": [f"azure-{trace}-prompt-{number}" for number in index],
            "duration_s": 5.0,
            "resolution": "720p",
            "cost": 1.0,
            "guard_decision": "allow",
        }
    )
    return complete(frame)
