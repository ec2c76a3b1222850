"""What is good enough, and from where on somebody is told: of the dashboards and the alert rules.

Both take their thresholds from here, so that a panel turns red when the alert about it fires.
Shares are of 1, times in the unit of their name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from detectors.drift import MAX_PSI

__all__ = [
    "BURN_RATES",
    "CHECKPOINT_AGE_MAX_S",
    "DEAD_LETTER_SHARE_PAGE",
    "DEAD_LETTER_SHARE_TICKET",
    "DECISION_SHARE_MAX",
    "DRIFT_PSI_MAX",
    "EVENT_DELAY_MAX_S",
    "EVENT_DELAY_OBJECTIVE",
    "EVICTED_SHARE_MAX",
    "KEYS_SHARE_NEARLY_FULL",
    "LATE_SHARE_MAX",
    "MEMORY_BYTES_MAX",
    "PAGING_FAILURES_MAX",
    "PUBLISH_FAILURES_MAX",
    "STALLED_MAX_S",
    "Audience",
    "BurnRate",
]

Audience = Literal["page", "ticket", "none"]
"""Who is told: somebody at once, somebody by day, nobody (the watchdog)."""

EVENT_DELAY_MAX_S: Final = 5.0
"""An event is on time if what came of it is acknowledged so soon after the log received it."""

EVENT_DELAY_OBJECTIVE: Final = 0.999
"""Of the events of 30 days, so many are on time. The rest is the error budget."""


@dataclass(frozen=True, slots=True)
class BurnRate:
    """Tell ``audience`` when the budget burns ``factor`` times too fast over both windows.

    The long window says that it matters, the short one that it is still going on.
    """

    factor: float
    long: str
    short: str
    audience: Audience

    @property
    def most(self) -> float:
        """The share of late events from which on that is so."""
        return self.factor * (1 - EVENT_DELAY_OBJECTIVE)


# Google's Site Reliability Workbook, chapter 5: 2 % of a month's budget in an hour, 5 % in six,
# 10 % in a day; and 10 % in three days.
BURN_RATES: Final = (
    BurnRate(14.4, "1h", "5m", "page"),
    BurnRate(6.0, "6h", "30m", "page"),
    BurnRate(3.0, "1d", "2h", "ticket"),
    BurnRate(1.0, "3d", "6h", "ticket"),
)

STALLED_MAX_S: Final = 60.0
"""A partition with records waiting moves several times a second; a rebalance takes seconds."""

CHECKPOINT_AGE_MAX_S: Final = 300.0
"""After a crash as much is read again; an interval is 10 s unless states are very large."""

DEAD_LETTER_SHARE_TICKET: Final = 0.001
DEAD_LETTER_SHARE_PAGE: Final = 0.05
"""A producer that sends rubbish is a ticket, until so much is missing that we are half blind."""

LATE_SHARE_MAX: Final = 0.01
"""Of events or traces, too old for every window: they change nothing."""

PUBLISH_FAILURES_MAX: Final = 5
"""Attempts in five minutes; single ones are repeated and go well."""

PAGING_FAILURES_MAX: Final = 5
"""Looks of the pager in five minutes that failed; it looks every few seconds."""

EVICTED_SHARE_MAX: Final = 0.05
"""Of the room for keys, in ten minutes: as in ``floodwatch.user-table-pressure``."""

KEYS_SHARE_NEARLY_FULL: Final = 0.9
"""A full table is no failure, it forgets; but somebody should know before."""

MEMORY_BYTES_MAX: Final = 2 * 1024**3 * 0.9
"""Of the 2 GiB that docker-compose.yml gives to a worker; beyond them it is killed."""

DRIFT_PSI_MAX: Final = MAX_PSI
"""Beyond it the built-in rule ``floodwatch.model-drift`` calls a feature drifted."""

DECISION_SHARE_MAX: Final = 0.05
"""Throttles and blocks per event. Of honest people one in a thousand actions meets a limit: at
fifty times that we act against our users, or a raid is on. Either is for a human to see."""
