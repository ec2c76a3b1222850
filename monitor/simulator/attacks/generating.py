"""Attacks of single accounts that ask for videos."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from pydantic import Field

from monitor.simulator.attacks.attack import Attack
from monitor.simulator.attacks.stage import Stage
from monitor.simulator.generation import GuardMix
from monitor.simulator.rows import Rows, join_rows
from monitor.simulator.vocabulary import APP_VERSIONS, MODELS, RESOLUTIONS, code_of

__all__ = ["BurstBot", "CostAbuse", "GuardProbing", "LikenessCampaign", "SlowDrip"]

_LIKENESS_CATEGORIES: Final = (0.1, 0.02, 0.03, 0.0, 0.7, 0.02, 0.13)
_PROBING_CATEGORIES: Final = (0.45, 0.2, 0.05, 0.02, 0.1, 0.08, 0.1)
_API: Final = code_of("api-2.4.0", APP_VERSIONS)


class BurstBot(Attack):
    """A script that asks for far more videos in a minute than hands can."""

    kind: Literal["burst-bot"]
    generations_per_minute: float = Field(default=40.0, gt=0, le=600)
    duration_minutes: float = Field(default=5.0, gt=0, le=120)
    jitter: float = Field(default=0.15, ge=0, le=5)
    tier: Literal["free", "plus", "pro", "enterprise", "unverified"] = "free"

    def plan(self, stage: Stage) -> Rows:
        bot = stage.accounts(1, tiers=[self.tier], age_days=(0.5, 40.0))
        bot["app_version"] = _API
        count = max(1, int(self.generations_per_minute * self.duration_minutes))
        times_ms = stage.steady(count, 60.0 / self.generations_per_minute, self.jitter)
        return join_rows([*stage.generations(np.repeat(bot, count), times_ms)])


class SlowDrip(Attack):
    """A script that stays below every limit and never rests: its clock gives it away."""

    kind: Literal["slow-drip"]
    gap_s: float = Field(default=40.0, ge=1, le=3600)
    jitter: float = Field(default=0.06, ge=0, le=5)
    duration_minutes: float = Field(default=55.0, gt=0, le=1440)

    def plan(self, stage: Stage) -> Rows:
        bot = stage.accounts(1, tiers=["plus", "free"], age_days=(20.0, 300.0), verified=0.8)
        count = max(2, int(60.0 * self.duration_minutes / self.gap_s))
        times_ms = stage.steady(count, self.gap_s, self.jitter)
        return join_rows([*stage.generations(np.repeat(bot, count), times_ms)])


class GuardProbing(Attack):
    """Somebody tries prompt after prompt to find what the guard lets through."""

    kind: Literal["guard-probing"]
    attempts: int = Field(default=60, ge=2, le=10_000)
    duration_minutes: float = Field(default=12.0, gt=0, le=1440)
    blocked: float = Field(default=0.75, ge=0, le=1)

    def plan(self, stage: Stage) -> Rows:
        prober = stage.accounts(1, tiers=["free", "plus", "unverified"], age_days=(0.2, 60.0))
        times_ms = stage.irregular(self.attempts, 60.0 * self.duration_minutes)
        guard = GuardMix(blocked=self.blocked, flagged=0.4, categories=_PROBING_CATEGORIES)
        origins = np.repeat(prober, self.attempts)
        return join_rows([*stage.generations(origins, times_ms, guard=guard)])


class LikenessCampaign(Attack):
    """A few accounts ask again and again for videos of the same real people."""

    kind: Literal["likeness-campaign"]
    actors: int = Field(default=3, ge=1, le=1000)
    people: int = Field(default=2, ge=1, le=300)
    requests_per_actor: int = Field(default=25, ge=2, le=10_000)
    duration_minutes: float = Field(default=15.0, gt=0, le=1440)
    blocked: float = Field(default=0.35, ge=0, le=1)

    def plan(self, stage: Stage) -> Rows:
        actors = stage.accounts(self.actors, tiers=["free", "plus"], age_days=(1.0, 200.0))
        count = self.actors * self.requests_per_actor
        times_ms = stage.irregular(count, 60.0 * self.duration_minutes)
        origins = actors[stage.rng.permutation(count) % self.actors]
        guard = GuardMix(blocked=self.blocked, flagged=0.3, categories=_LIKENESS_CATEGORIES)
        requested, results = stage.generations(origins, times_ms, guard=guard)
        # Not the most popular people, who are asked for by everybody.
        victims = stage.rng.integers(50, 300, self.people)
        requested["likeness"] = victims[stage.rng.integers(0, self.people, count)]
        results["likeness"] = requested["likeness"]
        return join_rows([requested, results])


class CostAbuse(Attack):
    """The dearest model, the highest resolution and the longest videos, without end."""

    kind: Literal["cost-abuse"]
    generations: int = Field(default=60, ge=2, le=10_000)
    duration_minutes: float = Field(default=15.0, gt=0, le=1440)
    tier: Literal["free", "plus", "pro", "enterprise", "unverified"] = "pro"

    def plan(self, stage: Stage) -> Rows:
        actor = stage.accounts(1, tiers=[self.tier], age_days=(0.5, 20.0), verified=0.5)
        dearest = max(range(len(MODELS)), key=lambda code: MODELS[code].price)
        requested, results = stage.generations(
            np.repeat(actor, self.generations),
            stage.irregular(self.generations, 60.0 * self.duration_minutes),
            model=dearest,
            resolution=len(RESOLUTIONS) - 1,
            duration_s=20,
        )
        return join_rows([requested, results])
