"""Who comes to the platform when: the starts of sessions.

Each account has a rate of sessions. Accounts whose day has the same rhythm form a group, and the
starts in a short stretch of time are a Poisson number for the group, spread over its accounts by
their rates. An account that is still in a session does not start another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from monitor.simulator.choices import Floats
from monitor.simulator.errors import SimulationError
from monitor.simulator.generation import mean_latency_s
from monitor.simulator.population import DAY_MS, Population
from monitor.simulator.rhythm import activity_at, mean_activity
from monitor.simulator.roles import LENGTH_FACTORS, ROLES, SESSIONS_MAX, WAIT_SHARES
from monitor.simulator.rows import Integers
from monitor.simulator.settings import BaselineSettings
from monitor.simulator.vocabulary import REGIONS, TIERS

__all__ = ["Arrivals", "plan_arrivals"]

_BUSY_SHARE_MAX: Final = 0.5
"""The share of the time for which an account is in a session at most."""


@dataclass(frozen=True, slots=True)
class _Sessions:
    """Of each account: the mean length of a session in days, and the mean events in it."""

    days: Floats
    events: Floats


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Draws the starts of sessions.

    Groups have a clock (``utc_offsets_h``), a kind of day (``at_office``) and a number of sessions
    a day in all (``group_rates``). The other arrays have an entry for each account, sorted by
    group: ``accounts`` its number, ``group`` its group, ``cumulative_rates`` the sessions a day of
    all accounts up to it.
    """

    utc_offsets_h: Floats
    at_office: NDArray[np.bool_]
    group_rates: Floats
    accounts: Integers
    group: Integers
    cumulative_rates: Floats
    sessions: _Sessions
    strength: float

    def start(
        self, rng: np.random.Generator, begin_ms: int, end_ms: int
    ) -> tuple[Integers, Integers]:
        """Accounts that start a session in [begin, end), each once, and when."""
        level = self._level((begin_ms + end_ms) // 2)
        counts = rng.poisson(self.group_rates * level * ((end_ms - begin_ms) / DAY_MS))
        before = np.cumsum(self.group_rates) - self.group_rates
        drawn = np.repeat(before, counts)
        drawn += np.repeat(self.group_rates, counts) * rng.random(len(drawn))
        # Sorted, so that the search walks through memory only once.
        places = np.searchsorted(self.cumulative_rates, np.sort(drawn), side="right")
        distinct = self.accounts[np.unique(np.minimum(places, len(self.accounts) - 1))]
        times = begin_ms + (rng.random(len(distinct)) * (end_ms - begin_ms)).astype(np.int64)
        return distinct, times

    def in_progress(self, rng: np.random.Generator, time_ms: int) -> Integers:
        """Accounts that are in the middle of a session at ``time_ms``, sorted."""
        load = self._loads(time_ms)
        return np.sort(self.accounts[rng.random(len(load)) < load / (1.0 + load)])

    def expected_events_per_s(self, time_ms: int) -> float:
        """About how many events a second there are at ``time_ms``."""
        load = self._loads(time_ms)
        lengths_s = 0.001 * DAY_MS * np.maximum(self.sessions.days[self.accounts], 1e-9)
        rates = self.sessions.events[self.accounts] / lengths_s
        return float((load / (1.0 + load) * rates).sum())

    def _level(self, time_ms: int) -> Floats:
        return activity_at(time_ms, self.utc_offsets_h, self.at_office, self.strength)

    def _loads(self, time_ms: int) -> Floats:
        """Sessions started in the mean length of a session, of each account, by group."""
        rates = np.diff(self.cumulative_rates, prepend=0.0)
        return rates * self._level(time_ms)[self.group] * self.sessions.days[self.accounts]


def plan_arrivals(
    population: Population, settings: BaselineSettings, start_ms: int, end_ms: int
) -> Arrivals:
    """Rates of sessions such that the platform is as busy as ``settings`` ask.

    Raises SimulationError where so few accounts cannot be that busy and still be people.
    """
    offsets_h = np.array([region.utc_offset_h for region in REGIONS])
    at_office = np.array([role.at_office for role in ROLES])
    clocks = np.unique(offsets_h)
    group = 2 * np.searchsorted(clocks, offsets_h[population.region])
    group += at_office[population.role]
    group_offsets_h = np.repeat(clocks, 2)
    group_at_office = np.tile([False, True], len(clocks))

    level = np.ones(population.size)
    if settings.events_per_s is not None:
        strength = settings.day_night
        levels = mean_activity(start_ms, end_ms, group_offsets_h, group_at_office, strength)
        level = levels[group]
    sessions = _sessions(population, settings)
    rates = _session_rates(population, settings, sessions, level)
    # An account in a session cannot start one: ask a little more often to make up for that.
    rates = rates / (1.0 - rates * sessions.days * level)

    group_rates = np.bincount(group, weights=rates, minlength=len(group_offsets_h))
    accounts = np.argsort(group.astype(np.int16), kind="stable")
    return Arrivals(
        utc_offsets_h=group_offsets_h,
        at_office=group_at_office,
        group_rates=group_rates.astype(np.float64),
        accounts=accounts,
        group=group[accounts],
        cumulative_rates=np.cumsum(rates[accounts]),
        sessions=sessions,
        strength=settings.day_night,
    )


def _sessions(population: Population, settings: BaselineSettings) -> _Sessions:
    waiting_s = WAIT_SHARES * mean_latency_s()
    lengths_s = np.empty((len(ROLES), len(TIERS)))
    events = np.empty((len(ROLES), len(TIERS)))
    for code, role in enumerate(ROLES):
        actions = np.array([role.mean_length(factor) for factor in LENGTH_FACTORS])
        # No pause follows the last action. A generation is two events, everything else is one.
        lengths_s[code] = (actions - 1.0) * (role.mean_pause_s + role.generating * waiting_s)
        events[code] = actions * (1.0 + role.generating)
    days: Floats = lengths_s[population.role, population.tier] / settings.pace / 86_400.0
    return _Sessions(days, events[population.role, population.tier])


def _session_rates(
    population: Population, settings: BaselineSettings, sessions: _Sessions, level: Floats
) -> Floats:
    """Sessions a day of each account: its weight, scaled to the total asked for, capped."""
    caps = _BUSY_SHARE_MAX / (sessions.days * level)
    if settings.events_per_s is None:
        value = np.full(population.size, 1.0 / population.size)
        caps = np.minimum(SESSIONS_MAX[population.tier], caps)
        asked = min(settings.sessions_per_day, float((caps * value).sum()))
    else:
        value = sessions.events * level / 86_400.0
        asked = settings.events_per_s
        possible = float((caps * value).sum())
        if asked > possible:
            needed = int(population.size * asked / possible * 1.2) + 1
            raise SimulationError(
                f"{population.size} users cannot make {asked:g} events/s and still act like "
                f"people ({possible:.1f} at most): simulate at least {needed} users, or raise "
                "baseline.pace in the scenario"
            )
    low, high = 1e-12, 1e12
    for _ in range(48):  # leaves 2e-13 of the factor unknown
        scale = float(np.sqrt(low * high))
        if float(np.minimum(scale * population.weight, caps) @ value) < asked:
            low = scale
        else:
            high = scale
    return np.minimum(high * population.weight, caps)
