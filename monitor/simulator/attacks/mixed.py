"""Misuse that is remarkable in no single respect."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from monitor.simulator.attacks.attack import Attack
from monitor.simulator.attacks.stage import Stage
from monitor.simulator.generation import GuardMix
from monitor.simulator.rows import Integers, Rows, join_rows
from monitor.simulator.sharing import strip_provenance
from monitor.simulator.vocabulary import TYPE_CODES

__all__ = ["NovelMix"]

_CATEGORIES: Final = (0.2, 0.15, 0.05, 0.05, 0.35, 0.1, 0.1)
_CLIENTS: Final = 3


class NovelMix(Attack):
    """One account does a little of everything that is suspicious, and not much of anything.

    It probes the guard, asks for real people, strips provenance, takes shares down again, looks
    through the catalogue and changes devices: each below what a rule would look at.
    """

    kind: Literal["novel-mix"]
    generations: int = Field(default=16, ge=2, le=1000)
    shares: int = Field(default=12, ge=3, le=1000)
    view_bursts: int = Field(default=3, ge=0, le=1000)
    duration_minutes: float = Field(default=25.0, gt=0, le=1440)
    blocked: float = Field(default=0.3, ge=0, le=1)
    likeness: float = Field(default=0.25, ge=0, le=1)
    stripped: float = Field(default=0.25, ge=0, le=1)
    removed: float = Field(default=0.4, ge=0, le=1)

    def plan(self, stage: Stage) -> Rows:
        rng, duration_s = stage.rng, 60.0 * self.duration_minutes
        account = stage.accounts(1, tiers=["free", "plus"], age_days=(10.0, 200.0), verified=0.7)
        devices, addresses = stage.numbers(_CLIENTS), stage.numbers(_CLIENTS)

        def moving(times_ms: Integers) -> Rows:
            """The account at each time, from one client after the other."""
            origins = np.repeat(account, len(times_ms))
            client = (times_ms - stage.start_ms) * _CLIENTS // int(1000.0 * duration_s + 1)
            origins["device"], origins["address"] = devices[client], addresses[client]
            return origins

        generated_ms = stage.irregular(self.generations, duration_s)
        guard = GuardMix(blocked=self.blocked, flagged=0.4, categories=_CATEGORIES)
        requested, results = stage.generations(moving(generated_ms), generated_ms, guard=guard)
        asked_for = _some(rng, self.generations, self.likeness)
        for rows in (requested, results):
            rows["likeness"] = np.where(asked_for, rng.integers(50, 300), rows["likeness"])
        shared_ms = stage.irregular(self.shares, duration_s)
        shared = stage.shares(moving(shared_ms), shared_ms, stage.numbers(self.shares))
        stripped = _some(rng, self.shares, self.stripped)
        bare = shared[stripped]
        strip_provenance(rng, bare, 1.0)
        shared[stripped] = bare
        removed = shared[_some(rng, self.shares, self.removed)].copy()
        removed["type"] = TYPE_CODES["share.removed"]
        removed["time_ms"] += rng.integers(20_000, 90_000, len(removed))
        viewed_ms = stage.irregular(self.view_bursts, duration_s)
        viewed = stage.rows(moving(viewed_ms), viewed_ms, "share.viewed_burst")
        viewed["asset"] = stage.numbers(self.view_bursts)
        viewed["view_count"] = rng.integers(200, 600, self.view_bursts)
        return join_rows([requested, results, shared, removed, viewed])


def _some(rng: np.random.Generator, count: int, share: float) -> npt.NDArray[np.bool_]:
    """So many of ``count``, to the nearest one: which is left to chance, how many is not."""
    return rng.permutation(count) < round(share * count)
