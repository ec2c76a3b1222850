"""Generations: what is asked for on each plan, and what becomes of the request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from monitor.simulator.choices import Floats, choose, choose_by, cumulative, heavy_tailed
from monitor.simulator.rows import Rows
from monitor.simulator.vocabulary import (
    GUARD_CATEGORIES,
    GUARD_DECISIONS,
    MODELS,
    RESOLUTIONS,
    TYPE_CODES,
    code_of,
)

__all__ = ["GuardMix", "choose_videos", "costs", "mean_latency_s", "outcomes"]

_MODEL_BY_TIER: Final = cumulative(
    np.array(
        [
            [0.75, 0.20, 0.05, 0.00],
            [0.45, 0.38, 0.13, 0.04],
            [0.25, 0.42, 0.15, 0.18],
            [0.20, 0.42, 0.15, 0.23],
            [0.85, 0.12, 0.03, 0.00],
        ]
    )
)
_RESOLUTION_BY_TIER: Final = cumulative(
    np.array(
        [
            [0.65, 0.35, 0.00, 0.00],
            [0.15, 0.60, 0.25, 0.00],
            [0.05, 0.33, 0.57, 0.05],
            [0.05, 0.28, 0.57, 0.10],
            [0.80, 0.20, 0.00, 0.00],
        ]
    )
)
_DURATIONS_S: Final = np.array([4, 5, 6, 8, 10, 16, 20], dtype=np.int16)
_DURATION_BY_TIER: Final = cumulative(
    np.array(
        [
            [0.50, 0.30, 0.15, 0.05, 0.00, 0.00, 0.00],
            [0.25, 0.30, 0.20, 0.17, 0.08, 0.00, 0.00],
            [0.15, 0.25, 0.15, 0.22, 0.18, 0.03, 0.02],
            [0.12, 0.22, 0.16, 0.24, 0.18, 0.05, 0.03],
            [0.65, 0.25, 0.10, 0.00, 0.00, 0.00, 0.00],
        ]
    )
)
_BENIGN_CATEGORIES: Final = (0.34, 0.30, 0.06, 0.04, 0.12, 0.02, 0.12)
_LATENCIES_S: Final = np.array([model.latency_s for model in MODELS])
_PRICES: Final = np.array([model.price for model in MODELS])
_PRICE_FACTORS: Final = np.array([resolution.price_factor for resolution in RESOLUTIONS])

_LATENCY_SIGMA: Final = 0.4

_ALLOW: Final = code_of("allow", GUARD_DECISIONS)
_FLAG: Final = code_of("flag", GUARD_DECISIONS)
_BLOCK: Final = code_of("block", GUARD_DECISIONS)


@dataclass(frozen=True, slots=True)
class GuardMix:
    """How the prompt guard and the renderer treat requests: shares between 0 and 1.

    ``categories`` weighs the words of ``GUARD_CATEGORIES``; a flagged or blocked prompt gets one.
    """

    blocked: float = 0.015
    flagged: float = 0.03
    failed: float = 0.012
    categories: tuple[float, ...] = _BENIGN_CATEGORIES

    def __post_init__(self) -> None:
        if len(self.categories) != len(GUARD_CATEGORIES):
            raise ValueError(f"categories needs {len(GUARD_CATEGORIES)} weights")


def choose_videos(rng: np.random.Generator, rows: Rows) -> None:
    """Fill in model, duration and resolution as people on each plan choose them."""
    tiers = rows["origin"]["tier"]
    rows["model"] = choose_by(rng, _MODEL_BY_TIER, tiers)
    rows["resolution"] = choose_by(rng, _RESOLUTION_BY_TIER, tiers)
    rows["duration_s"] = _DURATIONS_S[choose_by(rng, _DURATION_BY_TIER, tiers)]


def costs(
    models: NDArray[np.int8], resolutions: NDArray[np.int8], durations_s: NDArray[np.int16]
) -> Floats:
    """Credits: seconds of video, priced by model and resolution. Without meaning for -1."""
    credits: Floats = durations_s * _PRICES[models] * _PRICE_FACTORS[resolutions]
    return np.round(credits, 2)


def mean_latency_s() -> Floats:
    """Mean time from a request to its video, by tier, s."""
    models = np.diff(_MODEL_BY_TIER, prepend=0.0, axis=1)
    durations = np.diff(_DURATION_BY_TIER, prepend=0.0, axis=1)
    median_s = (models @ _LATENCIES_S) * (0.6 + 0.05 * (durations @ _DURATIONS_S))
    latencies: Floats = median_s * np.exp(_LATENCY_SIGMA**2 / 2)
    return latencies


def outcomes(
    rng: np.random.Generator,
    requested: Rows,
    guard: GuardMix,
    *,
    blocked: Floats | None = None,
) -> Rows:
    """The event that follows each request: completed, blocked or failed.

    The guard answers within 2 s, the renderer after the model's latency. ``blocked`` overrides the
    guard's share of blocked prompts for each row. Row i of the result belongs to request i.
    """
    count = len(requested)
    rows = requested.copy()
    dice = rng.random(count)
    blocked_below = np.full(count, guard.blocked) if blocked is None else blocked
    is_blocked = dice < blocked_below
    is_flagged = ~is_blocked & (rng.random(count) < guard.flagged)
    is_failed = ~is_blocked & (rng.random(count) < guard.failed)

    rows["type"] = TYPE_CODES["generation.completed"]
    rows["type"][is_failed] = TYPE_CODES["generation.failed"]
    rows["type"][is_blocked] = TYPE_CODES["generation.blocked"]

    rows["guard_decision"] = _ALLOW
    rows["guard_decision"][is_flagged] = _FLAG
    rows["guard_decision"][is_blocked] = _BLOCK
    named = is_blocked | is_flagged
    categories = choose(rng, cumulative(np.array(guard.categories)), count)
    rows["guard_category"] = np.where(named, categories, -1)
    allowed_score = rng.beta(1.1, 14.0, count)
    named_score = rng.uniform(0.0, 0.24, count) + np.where(is_blocked, 0.75, 0.5)
    rows["guard_score"] = np.where(named, named_score, allowed_score)

    # Longer videos take longer; the renderer never answers before two seconds have passed.
    median_s = _LATENCIES_S[rows["model"]] * (0.6 + 0.05 * rows["duration_s"])
    render_s = np.clip(heavy_tailed(rng, median_s, _LATENCY_SIGMA, count), 2.0, 300.0)
    guard_s = rng.uniform(0.25, 1.8, count)
    rows["time_ms"] += (1000 * np.where(is_blocked, guard_s, render_s)).astype(np.int64)
    return rows
