"""The kinds of people on the platform, and the pace at which people act.

Pauses between the actions of a person are heavy-tailed (log-normal, never below what hands can
do), unlike those of a machine. Most plans let one generation run at a time, so most people wait
for the video before they act again: that, not their patience, bounds how many they make.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from statistics import NormalDist
from typing import Final

import numpy as np

from monitor.simulator.choices import Floats

__all__ = [
    "DAILY_QUOTAS",
    "LENGTH_FACTORS",
    "PAUSE_MAX_S",
    "ROLES",
    "SESSIONS_MAX",
    "WAIT_SHARES",
    "Action",
    "Role",
    "mean_clipped",
]

PAUSE_MAX_S: Final = 900.0
"""After a pause longer than this a person is gone: the session is over."""


class Action(IntEnum):
    """What a person does next in a session."""

    GENERATE = 0
    SHARE_OWN = 1
    SHARE_FOUND = 2
    VIEW = 3
    REPORT = 4


@dataclass(frozen=True, slots=True)
class Role:
    """A kind of person: how often, how long, how fast and what they do.

    ``share`` is their share of the population, ``activity`` how many times as often as a casual
    user they come back, ``actions`` the weights of the ``Action`` codes, ``tiers`` those of the
    plans (free, plus, pro, enterprise, unverified). A session has ``length_median`` actions.
    """

    name: str
    share: float
    activity: float
    tiers: tuple[float, float, float, float, float]
    actions: tuple[float, float, float, float, float]
    pause_median_s: float
    pause_sigma: float
    pause_min_s: float
    length_median: float
    length_sigma: float
    length_max: int
    at_office: bool = False
    uses_api: bool = False

    def mean_length(self, factor: float) -> float:
        """Mean number of actions in a session whose median length is ``factor`` times as long."""
        return mean_clipped(
            self.length_median * factor, self.length_sigma, 1.0, float(self.length_max)
        )

    @property
    def mean_pause_s(self) -> float:
        """Mean pause between actions, without the waiting for videos."""
        return mean_clipped(self.pause_median_s, self.pause_sigma, self.pause_min_s, PAUSE_MAX_S)

    @property
    def generating(self) -> float:
        """Share of the actions that are generations, 0 to 1."""
        return self.actions[Action.GENERATE] / sum(self.actions)


def mean_clipped(median: float, sigma: float, low: float, high: float) -> float:
    """Mean of a log-normal value clipped to [``low``, ``high``], by its quantiles."""
    normal = NormalDist()
    quantiles = [normal.inv_cdf((step + 0.5) / 2000) for step in range(2000)]
    values: Floats = median * np.exp(sigma * np.array(quantiles))
    return float(np.clip(values, low, high).mean())


ROLES: Final = (
    Role(
        name="casual",
        share=0.789,
        activity=1.0,
        tiers=(0.72, 0.15, 0.03, 0.005, 0.095),
        actions=(0.52, 0.14, 0.18, 0.1588, 0.0012),
        pause_median_s=24.0,
        pause_sigma=0.95,
        pause_min_s=4.0,
        length_median=5.0,
        length_sigma=0.85,
        length_max=60,
    ),
    Role(
        name="creator",
        share=0.15,
        activity=2.0,
        tiers=(0.35, 0.36, 0.24, 0.03, 0.02),
        actions=(0.70, 0.16, 0.06, 0.0793, 0.0007),
        pause_median_s=28.0,
        pause_sigma=0.85,
        pause_min_s=4.0,
        length_median=10.0,
        length_sigma=0.75,
        length_max=120,
    ),
    Role(
        name="power",
        share=0.015,
        activity=3.0,
        tiers=(0.0, 0.0, 0.72, 0.28, 0.0),
        actions=(0.90, 0.07, 0.01, 0.02, 0.0),
        pause_median_s=15.0,
        pause_sigma=0.75,
        pause_min_s=4.0,
        length_median=40.0,
        length_sigma=0.65,
        length_max=300,
    ),
    Role(
        name="marketing",
        share=0.006,
        activity=2.0,
        tiers=(0.0, 0.0, 0.5, 0.5, 0.0),
        actions=(0.26, 0.64, 0.05, 0.05, 0.0),
        pause_median_s=16.0,
        pause_sigma=0.75,
        pause_min_s=4.0,
        length_median=25.0,
        length_sigma=0.6,
        length_max=150,
        at_office=True,
    ),
    Role(
        name="studio",
        share=0.02,
        activity=2.5,
        tiers=(0.0, 0.0, 0.2, 0.8, 0.0),
        actions=(0.80, 0.14, 0.02, 0.04, 0.0),
        pause_median_s=26.0,
        pause_sigma=0.8,
        pause_min_s=4.0,
        length_median=16.0,
        length_sigma=0.7,
        length_max=150,
        at_office=True,
    ),
    Role(
        name="browser",
        share=0.019,
        activity=1.5,
        tiers=(0.8, 0.1, 0.0, 0.0, 0.1),
        actions=(0.10, 0.04, 0.42, 0.435, 0.005),
        pause_median_s=20.0,
        pause_sigma=0.9,
        pause_min_s=4.0,
        length_median=10.0,
        length_sigma=0.8,
        length_max=90,
    ),
    Role(
        # A company's own software: as regular as a machine, and meant to be.
        name="pipeline",
        share=0.001,
        activity=2.0,
        tiers=(0.0, 0.0, 0.0, 1.0, 0.0),
        actions=(1.0, 0.0, 0.0, 0.0, 0.0),
        pause_median_s=10.0,
        pause_sigma=0.2,
        pause_min_s=4.0,
        length_median=60.0,
        length_sigma=0.4,
        length_max=200,
        at_office=True,
        uses_api=True,
    ),
)

WAIT_SHARES: Final[Floats] = np.array([0.97, 0.75, 0.40, 0.40, 1.0])
"""How often people on each plan wait for a video before they do anything else."""

LENGTH_FACTORS: Final[Floats] = np.array([0.85, 1.0, 1.1, 1.1, 0.6])
"""How much longer sessions are on each plan than a role's own."""

SESSIONS_MAX: Final[Floats] = np.array([9.0, 12.0, 14.0, 14.0, 4.0])
"""Mean sessions in a day of the most active accounts of each plan."""

DAILY_QUOTAS: Final = np.array([60, 250, 1000, 6000, 20])
"""Generations that the platform allows on each plan from midnight to midnight, UTC.

Whoever has used them up looks at videos instead.
"""
