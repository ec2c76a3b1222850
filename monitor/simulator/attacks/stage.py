"""What an attack is given to work with: accounts, addresses, devices, prompts and targets.

Every instance of an attack has its own random generator and its own stretch of numbers, so what
it does depends neither on other attacks nor on the honest traffic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from monitor.simulator.choices import choose, cumulative, log_uniform
from monitor.simulator.generation import GuardMix, choose_videos, outcomes
from monitor.simulator.population import DAY_MS
from monitor.simulator.rows import ORIGIN, Integers, Rows, rows_from
from monitor.simulator.sharing import keep_provenance, set_destination, strip_provenance
from monitor.simulator.vocabulary import (
    APP_VERSIONS,
    CHANNELS,
    COUNTRIES,
    REGIONS,
    TIERS,
    code_of,
)

__all__ = ["HONEST_NUMBERS", "INSTANCES_MAX", "Stage"]

_NUMBER_BITS: Final = 44
HONEST_NUMBERS: Final = 16 << _NUMBER_BITS
"""Numbers below this belong to the honest traffic."""
INSTANCES_MAX: Final = 60_000

_HOUR_DAYS: Final = 1.0 / 24.0


@dataclass(slots=True)
class Stage:
    """One instance of an attack: when it starts, who the honest people are, what is still unused.

    ``attack`` is its index among all instances of the simulation. Times are ms since the epoch.
    """

    rng: np.random.Generator
    attack: int
    start_ms: int
    users: int
    _used: int = 0

    def numbers(self, count: int) -> Integers:
        """``count`` numbers that nothing else uses."""
        first = HONEST_NUMBERS + (self.attack << _NUMBER_BITS) + self._used
        self._used += count
        return first + np.arange(count, dtype=np.int64)

    def accounts(
        self,
        count: int,
        *,
        tiers: Sequence[str] = ("free",),
        age_days: tuple[float, float] = (1.0, 90.0),
        away_days: tuple[float, float] | None = None,
        verified: float = 0.3,
    ) -> Rows:
        """New accounts (dtype ``ORIGIN``), each with its own device, address and session.

        ``age_days`` and ``away_days`` (since the last activity; None: hours) are ranges, drawn
        log-uniformly, ``verified`` the share of verified accounts.
        """
        rng = self.rng
        origins = np.zeros(count, dtype=ORIGIN)
        origins["user"] = self.numbers(count)
        age_ms = log_uniform(rng, *age_days, count) * DAY_MS
        origins["created_ms"] = self.start_ms - age_ms.astype(np.int64)
        away = (_HOUR_DAYS, 1.0) if away_days is None else away_days
        away_ms = log_uniform(rng, *away, count) * DAY_MS
        last_active_ms = self.start_ms - away_ms.astype(np.int64)
        never = last_active_ms <= origins["created_ms"]
        origins["last_active_ms"] = np.where(never, -1, last_active_ms)
        codes = np.array([code_of(tier, TIERS) for tier in tiers])
        origins["tier"] = codes[rng.integers(0, len(codes), count)]
        origins["verified"] = rng.random(count) < verified
        origins["verified"] &= origins["tier"] != code_of("unverified", TIERS)
        weights = cumulative(np.array([region.weight for region in REGIONS]))
        countries = np.array([code_of(region.country, COUNTRIES) for region in REGIONS])
        origins["country"] = countries[choose(rng, weights, count)]
        origins["app_version"] = code_of("web-5.14.2", APP_VERSIONS)
        for name in ("device", "address", "session"):
            origins[name] = self.numbers(count)
        return origins

    def steady(self, count: int, gap_s: float, jitter: float) -> Integers:
        """``count`` times ``gap_s`` apart from the start on, each moved by up to ``jitter`` gaps.

        A jitter of 0.05 is a machine, one of 1 and more nobody could tell from chance.
        """
        moved = np.arange(count) + jitter * self.rng.random(count)
        return self.start_ms + (1000.0 * gap_s * moved).astype(np.int64)

    def irregular(self, count: int, duration_s: float) -> Integers:
        """``count`` sorted times at random within ``duration_s`` from the start on."""
        moments_s = np.sort(self.rng.random(count)) * duration_s
        return self.start_ms + (1000.0 * moments_s).astype(np.int64)

    def rows(self, origins: Rows, times_ms: Integers, type_name: str) -> Rows:
        """Events of this attack: account i of ``origins`` acts at ``times_ms[i]``."""
        return rows_from(origins, times_ms, type_name, self.attack)

    def new_prompts(self, rows: Rows) -> None:
        """A prompt of its own for each row."""
        rows["prompt"] = self.numbers(len(rows))
        rows["edit"] = 0

    def generations(
        self,
        origins: Rows,
        times_ms: Integers,
        *,
        guard: GuardMix | None = None,
        model: int | None = None,
        resolution: int | None = None,
        duration_s: int | None = None,
    ) -> tuple[Rows, Rows]:
        """Requests at ``times_ms`` with prompts of their own, and (row by row) their outcomes.

        What is None is chosen as people on the account's plan do.
        """
        requested = self.rows(origins, times_ms, "generation.requested")
        requested["request"] = self.numbers(len(requested))
        requested["drift_percent"] = 0
        self.new_prompts(requested)
        choose_videos(self.rng, requested)
        for name, value in (
            ("model", model),
            ("resolution", resolution),
            ("duration_s", duration_s),
        ):
            if value is not None:
                requested[name] = value
        return requested, outcomes(self.rng, requested, guard or GuardMix())

    def shares(
        self,
        origins: Rows,
        times_ms: Integers,
        assets: Integers,
        *,
        channels: Sequence[str] = ("message", "group"),
        targets: Integers | None = None,
        stripped: float = 0.0,
    ) -> Rows:
        """Shares of ``assets``; with ``stripped`` the share that has lost its provenance.

        ``targets`` None is a new target for each.
        """
        rows = self.rows(origins, times_ms, "share.created")
        rows["asset"] = assets
        codes = np.array([code_of(channel, CHANNELS) for channel in channels])
        chosen = codes[self.rng.integers(0, len(codes), len(rows))]
        set_destination(
            self.rng, rows, chosen, self.numbers(len(rows)) if targets is None else targets
        )
        if stripped > 0:
            strip_provenance(self.rng, rows, stripped)
        else:
            keep_provenance(self.rng, rows)
        return rows
