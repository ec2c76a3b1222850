"""Attacks of single accounts on what is shared and who sees it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from monitor.simulator.attacks.attack import Attack
from monitor.simulator.attacks.stage import Stage
from monitor.simulator.rows import Rows, join_rows
from monitor.simulator.vocabulary import APP_VERSIONS, TYPE_CODES, code_of

__all__ = ["ProvenanceStripping", "Scrape", "ShareAndDelete", "ShareFlood"]


class ShareFlood(Attack):
    """One account sends a few videos to hundreds of strangers within minutes."""

    kind: Literal["share-flood"]
    shares_per_minute: float = Field(default=60.0, gt=0, le=6000)
    duration_minutes: float = Field(default=4.0, gt=0, le=240)
    assets: int = Field(default=4, ge=1, le=10_000)

    def plan(self, stage: Stage) -> Rows:
        flooder = stage.accounts(1, tiers=["free", "unverified"], age_days=(0.1, 30.0))
        count = max(2, int(self.shares_per_minute * self.duration_minutes))
        times_ms = stage.irregular(count, 60.0 * self.duration_minutes)
        assets = stage.numbers(self.assets)[np.arange(count) % self.assets]
        return stage.shares(np.repeat(flooder, count), times_ms, assets)


class ProvenanceStripping(Attack):
    """Videos go out to other sites without content credentials and watermark."""

    kind: Literal["provenance-stripping"]
    shares: int = Field(default=40, ge=2, le=10_000)
    duration_minutes: float = Field(default=12.0, gt=0, le=1440)
    thoroughness: float = Field(default=0.95, ge=0, le=1)

    def plan(self, stage: Stage) -> Rows:
        actor = stage.accounts(1, tiers=["plus", "pro"], age_days=(10.0, 300.0), verified=0.7)
        times_ms = stage.irregular(self.shares, 60.0 * self.duration_minutes)
        return stage.shares(
            np.repeat(actor, self.shares),
            times_ms,
            stage.numbers(self.shares),
            channels=("external", "link"),
            stripped=self.thoroughness,
        )


class ShareAndDelete(Attack):
    """A video is shown to somebody and taken down within a minute, over and over."""

    kind: Literal["share-and-delete"]
    cycles: int = Field(default=25, ge=2, le=10_000)
    duration_minutes: float = Field(default=20.0, gt=0, le=1440)
    visible_s: float = Field(default=40.0, gt=0, le=3600)

    def plan(self, stage: Stage) -> Rows:
        actor = stage.accounts(1, tiers=["free", "plus"], age_days=(3.0, 120.0))
        times_ms = stage.irregular(self.cycles, 60.0 * self.duration_minutes)
        shared = stage.shares(
            np.repeat(actor, self.cycles),
            times_ms,
            stage.numbers(self.cycles),
            channels=("message", "group", "link"),
        )
        removed = shared.copy()
        removed["type"] = TYPE_CODES["share.removed"]
        visible_s = self.visible_s * stage.rng.uniform(0.5, 1.5, self.cycles)
        removed["time_ms"] += (1000.0 * visible_s).astype(np.int64)
        return join_rows([shared, removed])


class Scrape(Attack):
    """A client downloads the catalogue: one large burst of views after the other."""

    kind: Literal["scrape"]
    bursts: int = Field(default=60, ge=2, le=10_000)
    gap_s: float = Field(default=8.0, ge=0.1, le=3600)
    views_per_burst: int = Field(default=600, ge=10, le=1_000_000)
    jitter: float = Field(default=0.3, ge=0, le=5)

    def plan(self, stage: Stage) -> Rows:
        scraper = stage.accounts(1, tiers=["free", "plus"], age_days=(0.2, 60.0))
        scraper["app_version"] = code_of("api-2.4.0", APP_VERSIONS)
        times_ms = stage.steady(self.bursts, self.gap_s, self.jitter)
        rows = stage.rows(np.repeat(scraper, self.bursts), times_ms, "share.viewed_burst")
        rows["asset"] = stage.numbers(self.bursts)
        views = self.views_per_burst * stage.rng.uniform(0.6, 1.8, self.bursts)
        rows["view_count"] = views.astype(np.int32)
        return rows
