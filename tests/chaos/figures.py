"""The figures of a run: what ``build/chaos.json`` holds, and which of them must be zero.

docs/chaos.md says how each is measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from monitor.failpoints import FAILPOINTS
from tests.chaos.judge import Verdict

__all__ = ["RESUME_WITHIN_S", "ZEROS", "broker_figures", "failures", "resumptions"]

ZEROS: Final = (
    "sim_events_lost",
    "sim_state_mismatches",
    "sim_missing_alerts",
    "sim_unexpected_alerts",
    "sim_differing_alerts",
    "sim_failed_seeds",
    "broker_events_lost",
    "broker_events_doubled",
    "broker_state_mismatches",
    "broker_missing_alerts",
    "broker_wrong_alerts",
    "broker_not_once_in_store",
)
"""What nothing may be lost, doubled or contradicted means."""

_LEAST: Final[Mapping[str, int]] = {
    "sim_crash_points": 20_000,
    "sim_seeds": 500,
    "broker_events": 2_000_000,
    "broker_kills": 30,
    "broker_rebalances": 10,
    "broker_zombies": 5,
    "broker_kills_per_failpoint": 5,
}
"""What a full run has to have gone through."""

RESUME_WITHIN_S: Final = 10.0
_KILLED: Final = ("restarted", "taken over")


def broker_figures(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The figures of the sections on a real broker, summed."""
    at_failpoint: Counter[str] = Counter()
    for verdict in verdicts:
        at_failpoint.update(verdict.outcome.journal.at_failpoint)
    journals = [verdict.outcome.journal for verdict in verdicts]
    figures: dict[str, Any] = {
        "broker_events": sum(v.records for v in verdicts),
        "broker_kills": sum(journal.kills for journal in journals),
        "broker_rebalances": sum(v.outcome.rebalances for v in verdicts),
        "broker_zombies": sum(journal.counts["zombie"] for journal in journals),
        "broker_restarts": sum(
            journal.counts["broker killed"] + journal.counts["broker restarted"]
            for journal in journals
        ),
        "broker_events_lost": sum(v.events_lost for v in verdicts),
        "broker_events_doubled": sum(v.events_doubled for v in verdicts),
        "broker_state_mismatches": sum(v.state_mismatches for v in verdicts),
        "broker_missing_alerts": sum(v.missing for v in verdicts),
        "broker_wrong_alerts": sum(v.wrong_messages for v in verdicts),
        "broker_not_once_in_store": sum(v.not_once_in_store for v in verdicts),
        "broker_alerts": sum(v.distinct["alerts"] for v in verdicts),
        "broker_duplicate_alerts_raw": sum(
            v.duplicates[v.outcome.place.names.alerts] for v in verdicts
        ),
        "broker_duplicate_messages_raw": sum(sum(v.duplicates.values()) for v in verdicts),
        "broker_workers_ended_by_themselves": sum(len(v.outcome.endings) for v in verdicts),
        "broker_kills_at_failpoint": {name: at_failpoint[name] for name in FAILPOINTS},
        "broker_kills_per_failpoint": min(at_failpoint[name] for name in FAILPOINTS),
        "broker_resume_s": {
            f"{how} ({membership})": [round(seconds, 1) for seconds in sorted(taken)]
            for (how, membership), taken in resumptions(verdicts).items()
        },
    }
    for verdict in verdicts:
        if verdict.control is not None:
            control = verdict.control
            figures |= {
                "control_events": control.events,
                "control_kills": verdict.outcome.control_kills,
                "control_events_counted": control.counted,
                "control_events_lost": control.lost,
                "control_events_doubled": control.doubled,
                "control_events_wrong": control.wrong,
                "control_ended_by_themselves": verdict.outcome.control_endings,
            }
    return figures


def resumptions(verdicts: Sequence[Verdict]) -> dict[tuple[str, str], list[float]]:
    """Seconds until everything moved on again, by fault and membership."""
    found: dict[tuple[str, str], list[float]] = {}
    for verdict in verdicts:
        for resumption in verdict.outcome.journal.resumptions:
            key = (resumption.how, resumption.membership)
            found.setdefault(key, []).append(resumption.seconds)
    return found


def failures(figures: Mapping[str, Any], verdicts: Sequence[Verdict], *, full: bool) -> list[str]:
    """Sentences: what is not as it must be. A short run need not have gone through as much."""
    resumed = [r for verdict in verdicts for r in verdict.outcome.journal.resumptions]
    found = [f"{name} is {figures[name]}, not 0" for name in ZEROS if figures.get(name)]
    found += [
        f"after a worker was killed ({r.how}, {r.membership} membership) it took {r.seconds:.1f} s "
        f"until all partitions moved on, more than {RESUME_WITHIN_S:.0f} s"
        for r in resumed
        if r.how in _KILLED and r.seconds > RESUME_WITHIN_S
    ]
    if full:
        found += [
            f"{name} is {figures[name]}, which is less than {least:,}"
            for name, least in _LEAST.items()
            if name in figures and figures[name] < least
        ]
    return found
