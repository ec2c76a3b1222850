"""Recording rules: what several alerts and dashboards ask, computed once.

Sums are by job, so that installations that share a Prometheus stay apart; the worker's metrics
have one job, those of the store service another.
"""

from __future__ import annotations

from typing import Final

from dashboards.objectives import BURN_RATES, EVENT_DELAY_MAX_S
from dashboards.rules.model import Group, Record

__all__ = [
    "DEAD_LETTERS",
    "DECISIONS",
    "EVENTS",
    "LATE",
    "PARTITIONS",
    "RECORDING",
    "event_delay_misses",
]

EVENTS: Final = "floodwatch:events:rate5m"
PARTITIONS: Final = "floodwatch:partitions_read:count"
DEAD_LETTERS: Final = "floodwatch:dead_letters:ratio_rate15m"
LATE: Final = "floodwatch:late_events:ratio_rate15m"
DECISIONS: Final = "floodwatch:decisions:ratio_rate10m"


def event_delay_misses(window: str) -> str:
    """The name of the share of events that were not on time, over a window."""
    return f"floodwatch:event_delay_misses:ratio_rate{window}"


def _misses(window: str) -> Record:
    name = "floodwatch_event_delay_seconds"
    on_time = f'sum by (job) (rate({name}_bucket{{le="{EVENT_DELAY_MAX_S}"}}[{window}]))'
    return Record(
        event_delay_misses(window),
        f"1 - {on_time}\n  / sum by (job) (rate({name}_count[{window}]))",
    )


def _share(name: str, part: str, window: str) -> Record:
    """Of all records of a window, those counted by the metric ``part``."""
    metrics = ("floodwatch_events_total", "floodwatch_late_events_total")
    whole = "\n    + ".join(f"sum by (job) (rate({metric}[{window}]))" for metric in metrics)
    return Record(name, f"sum by (job) (rate({part}[{window}]))\n  / (\n    {whole}\n  )")


_WINDOWS: Final = tuple(dict.fromkeys(w for burn in BURN_RATES for w in (burn.short, burn.long)))

RECORDING: Final = Group(
    "floodwatch-recording",
    (
        Record(EVENTS, "sum by (job) (rate(floodwatch_events_total[5m]))"),
        *map(_misses, _WINDOWS),
        Record(
            PARTITIONS,
            "count by (job) (\n  count by (job, topic, partition) "
            "(floodwatch_consumer_lag_records)\n)",
        ),
        _share(DEAD_LETTERS, "floodwatch_dead_letters_total", "15m"),
        _share(LATE, "floodwatch_late_events_total", "15m"),
        Record(
            DECISIONS,
            'sum by (job) (rate(floodwatch_decisions_total{kind=~"throttle|block"}[10m]))\n'
            "  / sum by (job) (rate(floodwatch_events_total[10m]))",
        ),
    ),
)
