"""Attacks that use accounts made, bought or stolen for it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from monitor.simulator.attacks.attack import Attack
from monitor.simulator.attacks.stage import Stage
from monitor.simulator.population import DAY_MS
from monitor.simulator.rows import Rows, join_rows
from monitor.simulator.vocabulary import APP_VERSIONS, code_of

__all__ = ["AccountTakeover", "LimitEvasion", "SybilFarm"]


class AccountTakeover(Attack):
    """An old account that slept for months wakes up on strange devices and floods.

    ``country`` of an event is that of the account, so it stays; device and address are new, and
    change while the thief hides.
    """

    kind: Literal["account-takeover"]
    dormant_days: float = Field(default=200.0, ge=30, le=1500)
    generations_per_minute: float = Field(default=14.0, gt=0, le=600)
    shares_per_minute: float = Field(default=18.0, gt=0, le=600)
    duration_minutes: float = Field(default=6.0, gt=0, le=240)
    addresses: int = Field(default=4, ge=1, le=100)
    devices: int = Field(default=2, ge=1, le=100)

    def plan(self, stage: Stage) -> Rows:
        days = self.dormant_days
        stolen = stage.accounts(
            1,
            tiers=["plus", "pro"],
            age_days=(1.5 * days + 100.0, 1.6 * days + 900.0),
            away_days=(days, 1.3 * days),
            verified=1.0,
        )
        duration_s = 60.0 * self.duration_minutes
        generations = max(2, int(self.generations_per_minute * self.duration_minutes))
        shares = max(2, int(self.shares_per_minute * self.duration_minutes))
        addresses = stage.numbers(self.addresses)
        devices = stage.numbers(self.devices)

        def wandering(times_ms: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Rows:
            """The stolen account at each time, from one address and device after the other."""
            origins = np.repeat(stolen, len(times_ms))
            passed = (times_ms - stage.start_ms) / (1000.0 * duration_s)
            origins["address"] = addresses[
                (passed * 3 * self.addresses).astype(int) % self.addresses
            ]
            origins["device"] = devices[(passed * 2 * self.devices).astype(int) % self.devices]
            return origins

        generated_ms = stage.irregular(generations, duration_s)
        shared_ms = stage.irregular(shares, duration_s)
        assets = stage.numbers(6)[stage.rng.integers(0, 6, shares)]
        return join_rows(
            [
                *stage.generations(wandering(generated_ms), generated_ms),
                stage.shares(wandering(shared_ms), shared_ms, assets),
            ]
        )


class SybilFarm(Attack):
    """Many accounts made within minutes of each other work from one device or address."""

    kind: Literal["sybil-farm"]
    actors: int = Field(default=40, ge=2, le=10_000)
    shared: Literal["device", "address", "both"] = "device"
    generations_per_actor: int = Field(default=5, ge=1, le=1000)
    shares_per_actor: int = Field(default=2, ge=0, le=1000)
    duration_minutes: float = Field(default=20.0, gt=0, le=1440)

    def plan(self, stage: Stage) -> Rows:
        rng = stage.rng
        actors = stage.accounts(self.actors, tiers=["free", "unverified"], verified=0.1)
        first_created_ms = stage.start_ms - int(rng.uniform(0.02, 0.15) * DAY_MS)
        gaps_ms = rng.uniform(5_000, 25_000, self.actors)
        created_ms = first_created_ms + np.cumsum(gaps_ms).astype(np.int64)
        actors["created_ms"] = np.minimum(created_ms, stage.start_ms - 5_000)
        actors["last_active_ms"] = -1
        if self.shared in ("device", "both"):
            actors["device"] = actors["device"][0]
        if self.shared in ("address", "both"):
            actors["address"] = actors["address"][0]
        duration_s = 60.0 * self.duration_minutes
        generations = self.actors * self.generations_per_actor
        shares = self.actors * self.shares_per_actor
        generating = actors[rng.permutation(generations) % self.actors]
        sharing = actors[rng.permutation(shares) % self.actors]
        assets = stage.numbers(5)[rng.integers(0, 5, shares)]
        return join_rows(
            [
                *stage.generations(generating, stage.irregular(generations, duration_s)),
                stage.shares(sharing, stage.irregular(shares, duration_s), assets),
            ]
        )


class LimitEvasion(Attack):
    """One client takes turns between accounts, so that each stays below its limits."""

    kind: Literal["limit-evasion"]
    actors: int = Field(default=10, ge=2, le=1000)
    generations_per_turn: int = Field(default=4, ge=1, le=100)
    turns: int = Field(default=4, ge=1, le=1000)
    gap_s: float = Field(default=4.0, ge=0.1, le=600)

    def plan(self, stage: Stage) -> Rows:
        actors = stage.accounts(self.actors, tiers=["free"], age_days=(0.5, 20.0), verified=0.1)
        for name in ("device", "address"):
            actors[name] = actors[name][0]
        actors["app_version"] = code_of("api-2.4.0", APP_VERSIONS)
        count = self.actors * self.generations_per_turn * self.turns
        turn = np.arange(count) // self.generations_per_turn
        times_ms = stage.steady(count, self.gap_s, 0.4)
        return join_rows([*stage.generations(actors[turn % self.actors], times_ms)])
