"""Attacks of many accounts that act together."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from monitor.simulator.attacks.attack import Attack
from monitor.simulator.attacks.stage import Stage
from monitor.simulator.rows import Rows, join_rows
from monitor.simulator.vocabulary import REASONS, code_of

__all__ = ["ReportBombing", "SharingSwarm", "TemplateCampaign"]


class SharingSwarm(Attack):
    """Many accounts share the same video and link within seconds, wave after wave."""

    kind: Literal["sharing-swarm"]
    actors: int = Field(default=25, ge=2, le=10_000)
    waves: int = Field(default=4, ge=1, le=100)
    wave_gap_s: float = Field(default=150.0, gt=0, le=86_400)
    width_s: float = Field(default=20.0, gt=0, le=3600)
    participation: float = Field(default=0.85, gt=0, le=1)

    def plan(self, stage: Stage) -> Rows:
        rng = stage.rng
        actors = stage.accounts(
            self.actors, tiers=["free", "plus", "unverified"], age_days=(2.0, 400.0)
        )
        waves: list[Rows] = []
        for wave, asset in enumerate(stage.numbers(self.waves)):
            taking_part = actors[rng.random(self.actors) < self.participation]
            start_ms = stage.start_ms + int(1000.0 * self.wave_gap_s * wave)
            delays_ms = (1000.0 * self.width_s * rng.random(len(taking_part))).astype(np.int64)
            waves.append(
                stage.shares(
                    taking_part,
                    start_ms + delays_ms,
                    np.full(len(taking_part), asset),
                    channels=("link", "external", "group"),
                )
            )
        return join_rows(waves)


class TemplateCampaign(Attack):
    """A script fills in one template and takes turns between accounts.

    The prompts are nearly, not exactly, the same: ``drift_percent`` of the wording changes.
    """

    kind: Literal["template-campaign"]
    actors: int = Field(default=12, ge=1, le=10_000)
    requests_per_actor: int = Field(default=12, ge=1, le=1000)
    duration_minutes: float = Field(default=25.0, gt=0, le=1440)
    drift_percent: int = Field(default=12, ge=0, le=90)
    jitter: float = Field(default=0.8, ge=0, le=5)

    def plan(self, stage: Stage) -> Rows:
        actors = stage.accounts(self.actors, tiers=["free", "plus"], age_days=(0.5, 150.0))
        count = self.actors * self.requests_per_actor
        times_ms = stage.steady(count, 60.0 * self.duration_minutes / count, self.jitter)
        origins = actors[np.arange(count) % self.actors]
        requested, results = stage.generations(origins, times_ms)
        for rows in (requested, results):
            rows["prompt"] = requested["prompt"][0]
            rows["edit"] = 1 + np.arange(count)
            rows["drift_percent"] = self.drift_percent
        return join_rows([requested, results])


class ReportBombing(Attack):
    """A crowd reports one honest user within minutes, all for the same reason."""

    kind: Literal["report-bombing"]
    reporters: int = Field(default=40, ge=2, le=10_000)
    duration_minutes: float = Field(default=8.0, gt=0, le=1440)

    def plan(self, stage: Stage) -> Rows:
        rng = stage.rng
        reporters = stage.accounts(
            self.reporters, tiers=["free", "unverified"], age_days=(0.1, 200.0)
        )
        times_ms = stage.irregular(self.reporters, 60.0 * self.duration_minutes)
        rows = stage.rows(reporters, times_ms, "report.filed")
        rows["subject"] = rng.integers(0, stage.users)
        rows["asset"] = stage.numbers(2)[rng.integers(0, 2, self.reporters)]
        reason = ("impersonation", "harassment", "copyright")[rng.integers(0, 3)]
        rows["reason"] = code_of(reason, REASONS)
        return rows
