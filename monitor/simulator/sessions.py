"""People in sessions: one honest person after the other decides what to do next.

A session is a row: who, how many actions are left, when the next one is due, what was made last.
All sessions with an action due are moved on together, again and again until none is due before
the end of the block. Nothing of a session is planned ahead, so memory holds only the sessions in
progress.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from monitor.simulator.choices import Floats, choose_by, cumulative, heavy_tailed
from monitor.simulator.generation import mean_latency_s
from monitor.simulator.population import PUBLIC_PLACE, Population
from monitor.simulator.roles import (
    DAILY_QUOTAS,
    LENGTH_FACTORS,
    PAUSE_MAX_S,
    ROLES,
    WAIT_SHARES,
    Action,
)
from monitor.simulator.rows import ORIGIN, Integers, Rows

__all__ = ["SESSION", "advance", "choose_actions", "collect_finished", "open_sessions"]

SESSION: Final = np.dtype(
    [
        ("origin", ORIGIN),
        ("role", np.int8),
        ("left", np.int32),
        ("next_ms", np.int64),
        ("asset", np.int64),
        ("coming_asset", np.int64),
        ("coming_ms", np.int64),
        ("prompt", np.int64),
        ("edit", np.int32),
        ("was_blocked", np.bool_),
    ]
)
"""A session in progress. ``asset`` is the newest finished video made in it, ``coming_asset`` the
one that is finished at ``coming_ms``, ``prompt`` the newest prompt and ``edit`` which edit of it;
-1 for none yet."""

_PUBLIC_PLACE_SHARE: Final = 0.03
"""Sessions from a café, a library, a hotel."""
_PEOPLE_PER_PUBLIC_PLACE: Final = 2_000

_ACTIONS_BY_ROLE: Final = cumulative(np.array([role.actions for role in ROLES]))
_PAUSE_MEDIAN_S: Final = np.array([role.pause_median_s for role in ROLES])
_PAUSE_SIGMA: Final = np.array([role.pause_sigma for role in ROLES])
_PAUSE_MIN_S: Final = np.array([role.pause_min_s for role in ROLES])
_LENGTH_MEDIAN: Final = np.array([role.length_median for role in ROLES])
_LENGTH_SIGMA: Final = np.array([role.length_sigma for role in ROLES])
_LENGTH_MAX: Final = np.array([role.length_max for role in ROLES])


def open_sessions(
    rng: np.random.Generator,
    population: Population,
    accounts: Integers,
    times_ms: Integers,
    first_session: int,
    pace: float,
    *,
    under_way: bool = False,
) -> Rows:
    """New sessions (dtype ``SESSION``) of ``accounts`` that start at ``times_ms``.

    With ``under_way`` the sessions are met in the middle at ``times_ms``: long ones are met more
    often than short ones, and only what is left of them is still to come.
    """
    count = len(accounts)
    sessions = np.zeros(count, dtype=SESSION)
    role = population.role[accounts]
    tier = population.tier[accounts]
    median, sigma = _LENGTH_MEDIAN[role] * LENGTH_FACTORS[tier], _LENGTH_SIGMA[role]
    pause_median_s, pause_sigma = _PAUSE_MEDIAN_S[role], _PAUSE_SIGMA[role]
    if under_way:
        # The log-normal seen by a random moment has the same sigma and a larger median.
        median = median * np.exp(sigma**2)
        pause_median_s = pause_median_s * np.exp(pause_sigma**2)
    length = np.clip(np.rint(heavy_tailed(rng, median, sigma, count)), 1, _LENGTH_MAX[role])
    first_pause_s = np.zeros(count)
    if under_way:
        length = np.ceil((length - 1) * rng.random(count))
        pause_s = np.minimum(heavy_tailed(rng, pause_median_s, pause_sigma, count), PAUSE_MAX_S)
        generates = rng.random(count) < _ACTIONS_BY_ROLE[role, Action.GENERATE]
        waits = generates & (rng.random(count) < WAIT_SHARES[tier])
        pause_s += np.where(waits, mean_latency_s()[tier], 0.0)
        first_pause_s = pause_s * rng.random(count) / pace
    sessions["origin"] = _origins(rng, population, accounts)
    sessions["origin"]["session"] = first_session + np.arange(count)
    sessions["role"] = role
    sessions["left"] = np.maximum(length, 1).astype(np.int32)
    sessions["next_ms"] = times_ms + (1000.0 * first_pause_s).astype(np.int64)
    for name in ("asset", "coming_asset", "coming_ms", "prompt", "edit"):
        sessions[name] = -1
    return sessions


def collect_finished(sessions: Rows) -> None:
    """Give sessions the videos that are finished by the time of their next action."""
    finished = (sessions["coming_asset"] >= 0) & (sessions["coming_ms"] <= sessions["next_ms"])
    sessions["asset"][finished] = sessions["coming_asset"][finished]


def choose_actions(rng: np.random.Generator, sessions: Rows, made_today: Integers) -> Integers:
    """What each session does next: codes of ``Action``.

    Who has made nothing yet cannot share it, and shares what others made. ``made_today`` is how
    many generations each of the accounts has had today.
    """
    actions = choose_by(rng, _ACTIONS_BY_ROLE, sessions["role"])
    nothing_made = (actions == Action.SHARE_OWN) & (sessions["asset"] < 0)
    actions[nothing_made] = Action.SHARE_FOUND
    used_up = made_today >= DAILY_QUOTAS[sessions["origin"]["tier"]]
    actions[used_up & (actions == Action.GENERATE)] = Action.VIEW
    return actions


def advance(rng: np.random.Generator, sessions: Rows, latency_s: Floats, pace: float) -> None:
    """Move sessions on to their next action, after a pause.

    ``latency_s`` is how long the video just asked for takes (0 for other actions); most people
    wait for it first. Of a session that is over the time stays that of its last action.
    """
    count = len(sessions)
    role = sessions["role"]
    pause_s = heavy_tailed(rng, _PAUSE_MEDIAN_S[role], _PAUSE_SIGMA[role], count)
    pause_s = np.clip(pause_s, _PAUSE_MIN_S[role] * (1.0 + 0.3 * rng.random(count)), PAUSE_MAX_S)
    waits = rng.random(count) < WAIT_SHARES[sessions["origin"]["tier"]]
    pause_s += np.where(waits, latency_s, 0.0)
    sessions["left"] -= 1
    pause_ms = np.maximum(1, (1000.0 * pause_s / pace).astype(np.int64))
    sessions["next_ms"] += np.where(sessions["left"] > 0, pause_ms, 0)


def _origins(rng: np.random.Generator, population: Population, accounts: Integers) -> Rows:
    """The device and address that each account uses in a new session."""
    count = len(accounts)
    origins = np.zeros(count, dtype=ORIGIN)
    origins["user"] = accounts
    for name in ("created_ms", "last_active_ms", "tier", "verified", "country", "app_version"):
        origins[name] = getattr(population, name)[accounts]
    extra = population.device_count[accounts].astype(np.int64)
    other = (rng.random(count) * extra).astype(np.int64)
    device = np.where(rng.random(count) < 0.7, 0, other)
    origins["device"] = accounts * 8 + device
    is_phone = population.first_is_phone[accounts] ^ (device % 2 == 1)
    roams = is_phone & (rng.random(count) < population.nat_share[accounts])
    # A phone gets one of the neighbouring addresses of its carrier, another one each time.
    carrier = population.carrier[accounts] ^ rng.integers(0, 4, count)
    address = np.where(roams, carrier, population.home[accounts])
    region = population.region[accounts].astype(np.int64)
    places = 1 + population.size // _PEOPLE_PER_PUBLIC_PLACE
    public = PUBLIC_PLACE | (region << 24) | rng.integers(0, places, count)
    address = np.where(rng.random(count) < _PUBLIC_PLACE_SHARE, public, address)
    office = population.office[accounts]
    at_office = (office >= 0) & (rng.random(count) < 0.85)
    origins["address"] = np.where(at_office, office, address)
    return origins
