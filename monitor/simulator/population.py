"""The honest accounts: who they are, where they live, what they use.

All arrays have one entry per account; an account's number is its index. Attackers are not in
here: every attack brings its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from monitor.simulator.choices import Floats, choose, choose_by, cumulative, heavy_tailed
from monitor.simulator.identifiers import ADDRESS_V6
from monitor.simulator.roles import ROLES
from monitor.simulator.rows import Integers
from monitor.simulator.settings import BaselineSettings
from monitor.simulator.vocabulary import APP_VERSIONS, COUNTRIES, REGIONS, TIERS, code_of

__all__ = ["DAY_MS", "PUBLIC_PLACE", "STAFF", "Population", "build_population"]

Codes: TypeAlias = NDArray[np.int8]

DAY_MS: Final = 86_400_000
STAFF: Final = 1 << 40
"""The first account number of the platform's own moderators."""

_HOME: Final = 1 << 41
_CARRIER: Final = 2 << 41
_OFFICE: Final = 3 << 41
PUBLIC_PLACE: Final = 4 << 41
"""Numbers of addresses, by what is there; PUBLIC_PLACE begins those that anybody may use."""
_HOME_V6_SHARE: Final = 0.35
_TEAM_SIZE: Final = 14
_AGE_MEDIAN_DAYS: Final = np.array([160.0, 260.0, 330.0, 400.0, 6.0])
_AGE_SIGMA: Final = np.array([1.2, 1.0, 0.9, 0.8, 1.4])
_AGE_MAX_DAYS: Final = 1800.0
_VERIFIED_SHARES: Final = np.array([0.62, 0.88, 0.96, 1.0, 0.0])


@dataclass(frozen=True, slots=True)
class Population:
    """Accounts as columns. Times are ms since the epoch, addresses numbers of addresses.

    ``weight`` is how active an account is next to others. ``office`` is the address of the
    account's team, -1 for none. ``last_active_ms`` is the one column that changes: the end of
    the newest session.
    """

    created_ms: Integers
    last_active_ms: Integers
    tier: Codes
    verified: NDArray[np.bool_]
    region: Codes
    country: Codes
    role: Codes
    app_version: Codes
    device_count: Codes
    first_is_phone: NDArray[np.bool_]
    home: Integers
    carrier: Integers
    office: Integers
    nat_share: Floats
    weight: Floats

    @property
    def size(self) -> int:
        """Number of accounts."""
        return len(self.tier)

    @property
    def staff_count(self) -> int:
        """Number of moderators: a few, more on a larger platform."""
        return 3 + self.size // 2000


def build_population(
    rng: np.random.Generator, settings: BaselineSettings, users: int, start_ms: int, end_ms: int
) -> Population:
    """Draw ``users`` accounts as they are at ``start_ms``; some sign up before ``end_ms``."""
    role = choose(rng, cumulative(np.array([role.share for role in ROLES])), users).astype(np.int8)
    tiers_by_role = cumulative(np.array([role.tiers for role in ROLES]))
    tier = choose_by(rng, tiers_by_role, role).astype(np.int8)
    home, region, carrier = _places(rng, settings, users)
    office, region = _offices(rng, role, region)
    created_ms, last_active_ms = _ages(rng, settings, tier, start_ms, end_ms)
    countries = np.array([code_of(region.country, COUNTRIES) for region in REGIONS], dtype=np.int8)
    first_is_phone = (rng.random(users) < 0.6) & (office < 0)
    return Population(
        created_ms=created_ms,
        last_active_ms=last_active_ms,
        tier=tier,
        verified=rng.random(users) < _VERIFIED_SHARES[tier],
        region=region,
        country=countries[region],
        role=role,
        app_version=_app_versions(rng, role, first_is_phone),
        device_count=(1 + choose(rng, np.array([0.46, 0.84, 0.97, 1.0]), users)).astype(np.int8),
        first_is_phone=first_is_phone,
        home=home,
        carrier=carrier,
        office=office,
        nat_share=np.array([region.nat_share for region in REGIONS])[region],
        weight=_weights(rng, settings, role),
    )


def _weights(rng: np.random.Generator, settings: BaselineSettings, role: Codes) -> Floats:
    """Zipf: the account of rank r comes back r**-skew times as often as the first."""
    ranks = rng.permutation(len(role)) + 1.0
    activity = np.array([role.activity for role in ROLES])
    weights: Floats = ranks**-settings.user_skew * activity[role]
    return weights


def _places(
    rng: np.random.Generator, settings: BaselineSettings, users: int
) -> tuple[Integers, Codes, Integers]:
    """Homes (some people share one), regions, and the carrier NAT address of everyone's phone."""
    homes = max(1, int(users * 0.75))
    household = rng.integers(0, homes, users)
    region_shares = cumulative(np.array([region.weight for region in REGIONS]))
    region = choose(rng, region_shares, homes)[household].astype(np.int8)
    is_v6 = (rng.random(homes) < _HOME_V6_SHARE)[household]
    home = (household | _HOME) + np.where(is_v6, ADDRESS_V6, 0)

    people = np.bincount(region, minlength=len(REGIONS))
    pools = np.maximum(1, people // settings.people_per_nat_address)
    slot = (rng.random(users) * pools[region]).astype(np.int64)
    carrier = _CARRIER | (region.astype(np.int64) << 24) | slot
    return home, region, carrier


def _offices(rng: np.random.Generator, role: Codes, region: Codes) -> tuple[Integers, Codes]:
    """Teams of people in the same office, hence on one address and in one region."""
    at_office = np.array([role.at_office for role in ROLES])[role]
    members = np.flatnonzero(at_office)
    teams = max(1, len(members) // _TEAM_SIZE)
    # Squaring makes a few teams large and many small.
    team = (teams * rng.random(len(members)) ** 2).astype(np.int64)
    office = np.full(len(role), -1, dtype=np.int64)
    office[members] = _OFFICE | team
    region = region.copy()
    if len(members):
        team_region = region[members[rng.integers(0, len(members), teams)]]
        region[members] = team_region[team]
    return office, region


def _ages(
    rng: np.random.Generator,
    settings: BaselineSettings,
    tier: Codes,
    start_ms: int,
    end_ms: int,
) -> tuple[Integers, Integers]:
    """When accounts were made, and last used before ``start_ms`` (-1: never)."""
    count = len(tier)
    age_days = heavy_tailed(rng, _AGE_MEDIAN_DAYS[tier], _AGE_SIGMA[tier], count)
    age_days = np.clip(age_days, 0.02, _AGE_MAX_DAYS)
    age_ms = (age_days * DAY_MS).astype(np.int64)
    created_ms = start_ms - age_ms

    # Newcomers: as many in the day before the start as in a day of the run.
    can_be_new = (tier == code_of("free", TIERS)) | (tier == code_of("unverified", TIERS))
    window_ms = end_ms - (start_ms - DAY_MS)
    candidates = max(1, int(can_be_new.sum()))
    new_share = min(0.5, settings.newcomers_per_day * window_ms / DAY_MS * count / candidates)
    is_new = can_be_new & (rng.random(count) < new_share)
    joined_ms = start_ms - DAY_MS + (rng.random(count) * window_ms).astype(np.int64)
    created_ms[is_new] = joined_ms[is_new]

    # Most were here in the last days; a few come back after months.
    away_days = np.clip(heavy_tailed(rng, 1.4, 1.3, count), 0.01, 700.0)
    last_active_ms = start_ms - (away_days * DAY_MS).astype(np.int64)
    last_active_ms[last_active_ms <= created_ms] = -1
    return created_ms, last_active_ms


def _app_versions(
    rng: np.random.Generator, role: Codes, first_is_phone: NDArray[np.bool_]
) -> Codes:
    web = np.array([code_of(version, APP_VERSIONS) for version in ("web-5.14.2", "web-5.13.0")])
    phone_names = ("ios-5.14.1", "ios-5.12.3", "android-5.14.0", "android-5.11.7")
    phone = np.array([code_of(version, APP_VERSIONS) for version in phone_names])
    count = len(first_is_phone)
    web_choice = web[choose(rng, np.array([0.85, 1.0]), count)]
    phone_choice = phone[choose(rng, np.array([0.38, 0.48, 0.88, 1.0]), count)]
    versions = np.where(first_is_phone, phone_choice, web_choice)
    versions[np.array([role.uses_api for role in ROLES])[role]] = code_of("api-2.4.0", APP_VERSIONS)
    return versions.astype(np.int8)
