"""Alerts about what was put aside, forgotten or left out: nothing is lost in silence."""

from __future__ import annotations

from typing import Final

from dashboards.objectives import (
    DEAD_LETTER_SHARE_PAGE,
    DEAD_LETTER_SHARE_TICKET,
    EVICTED_SHARE_MAX,
    LATE_SHARE_MAX,
    MEMORY_BYTES_MAX,
)
from dashboards.rules.liveness import WORKER_JOB
from dashboards.rules.model import Alert, Case, Group
from dashboards.rules.recording import DEAD_LETTERS, LATE

__all__ = ["LOSS"]

_JOB: Final = {"job": WORKER_JOB}
_OF: Final = f'job="{WORKER_JOB}", instance="a"'
_EVENTS: Final = f'floodwatch_events_total{{{_OF}, type="share.created"}}'
_LATE: Final = f"floodwatch_late_events_total{{{_OF}}}"
_DEAD: Final = f'floodwatch_dead_letters_total{{{_OF}, source="sharing-events", reason="not_json"}}'


def _dead_letters(per_minute: int) -> dict[str, str]:
    """Dead letters beside 10,000 events a minute."""
    return {_EVENTS: "0+10000x40", _LATE: "0x40", _DEAD: f"0+{per_minute}x40"}


_DEAD_LETTERS: Final = Alert(
    name="FloodwatchDeadLetters",
    expr=f"{DEAD_LETTERS} > {DEAD_LETTER_SHARE_TICKET:g}",
    audience="ticket",
    summary="Records are put aside as dead letters",
    description="{{ $value | humanizePercentage }} of the records of the last 15 minutes could "
    "not be used.",
    dashboard="floodwatch-pipeline",
    pending="5m",
    topic="dead-letters",
    cases=(
        Case(
            _dead_letters(20),
            "30m",
            _JOB,
            "0.2% of the records of the last 15 minutes could not be used.",
        ),
        Case(_dead_letters(5), "30m"),
    ),
)

_DEAD_LETTER_FLOOD: Final = Alert(
    name="FloodwatchDeadLetterFlood",
    expr=f"{DEAD_LETTERS} > {DEAD_LETTER_SHARE_PAGE:g}",
    audience="page",
    summary="A large part of all records cannot be used",
    description="{{ $value | humanizePercentage }} of the records of the last 15 minutes could "
    "not be used: whoever sent them is not watched.",
    dashboard="floodwatch-pipeline",
    pending="5m",
    topic="dead-letters",
    cases=(
        Case(
            _dead_letters(1_000),
            "30m",
            _JOB,
            "10% of the records of the last 15 minutes could not be used: whoever sent them"
            " is not watched.",
        ),
        Case(_dead_letters(400), "30m"),
    ),
)

_LATE_EVENTS: Final = Alert(
    name="FloodwatchLateEvents",
    expr=f"{LATE} > {LATE_SHARE_MAX:g}",
    audience="ticket",
    summary="Events come too late to count",
    description="{{ $value | humanizePercentage }} of the events of the last 15 minutes were "
    "older than every window of their key: they changed nothing.",
    dashboard="floodwatch-pipeline",
    pending="10m",
    topic="late",
    cases=(
        Case(
            {_EVENTS: "0+980x40", _LATE: "0+20x40"},
            "35m",
            _JOB,
            "2% of the events of the last 15 minutes were older than every window of their "
            "key: they changed nothing.",
        ),
        Case({_EVENTS: "0+1000x40", _LATE: "0+5x40"}, "35m"),
    ),
)

_TRACES: Final = f'floodwatch_traces_total{{{_OF}, key_space="asset"}}'
_LATE_TRACES: Final = f"floodwatch_late_traces_total{{{_OF}}}"

_LATE_TRACE_SHARE: Final = Alert(
    name="FloodwatchLateTraces",
    expr="sum by (job) (rate(floodwatch_late_traces_total[15m]))\n"
    f"  / sum by (job) (rate(floodwatch_traces_total[15m])) > {LATE_SHARE_MAX:g}",
    audience="ticket",
    summary="Traces between stages come too late to count",
    description="{{ $value | humanizePercentage }} of the traces of the last 15 minutes were too "
    "old: users who act together there are not seen.",
    dashboard="floodwatch-pipeline",
    pending="10m",
    topic="late",
    cases=(
        Case(
            {_TRACES: "0+1000x40", _LATE_TRACES: "0+20x40"},
            "35m",
            _JOB,
            "2% of the traces of the last 15 minutes were too old: users who act together "
            "there are not seen.",
        ),
        Case({_TRACES: "0+1000x40", _LATE_TRACES: "0+5x40"}, "35m"),
    ),
)

_MISSING: Final = f"floodwatch_missing_traces_total{{{_OF}}}"

_TRACES_MISSING: Final = Alert(
    name="FloodwatchTracesMissing",
    expr="sum by (job) (increase(floodwatch_missing_traces_total[15m])) > 0",
    audience="page",
    summary="What one stage told the next was lost",
    description="{{ $value | humanize }} traces or meetings never came in 15 minutes: their "
    "numbers leave a hole. Users who act together there are not seen.",
    dashboard="floodwatch-pipeline",
    topic="missing-traces",
    cases=(
        Case(
            {_MISSING: "0x5 0+10x20"},
            "20m",
            _JOB,
            "140 traces or meetings never came in 15 minutes: their numbers leave a hole. "
            "Users who act together there are not seen.",
        ),
        Case({_MISSING: "7x40"}, "20m"),
    ),
)

_EVICTIONS: Final = f'floodwatch_key_evictions_total{{{_OF}, key_space="shared"}}'
_CAPACITY: Final = f'floodwatch_key_rows_capacity{{{_OF}, key_space="shared"}}'

_KEYS_EVICTED: Final = Alert(
    name="FloodwatchKeysEvicted",
    expr="sum by (job, key_space) (increase(floodwatch_key_evictions_total[10m]))\n"
    "  / sum by (job, key_space) (floodwatch_key_rows_capacity) "
    f"> {EVICTED_SHARE_MAX:g}",
    audience="ticket",
    summary="Keys are forgotten for lack of room",
    description="{{ $value | humanizePercentage }} of the table of {{ $labels.key_space }} keys "
    "was replaced in ten minutes: long windows no longer say the truth.",
    dashboard="floodwatch-pipeline",
    pending="5m",
    topic="evictions",
    cases=(
        Case(
            {_EVICTIONS: "0+10x40", _CAPACITY: "1000x40"},
            "30m",
            {**_JOB, "key_space": "shared"},
            "10% of the table of shared keys was replaced in ten minutes: long windows no "
            "longer say the truth.",
        ),
        Case({_EVICTIONS: "0+1x40", _CAPACITY: "1000x40"}, "30m"),
    ),
)

_CLOSED_EARLY: Final = f"floodwatch_incident_evictions_total{{{_OF}}}"

_INCIDENTS_EVICTED: Final = Alert(
    name="FloodwatchIncidentsEvicted",
    expr="sum by (job) (increase(floodwatch_incident_evictions_total[15m])) > 0",
    audience="ticket",
    summary="Incidents are closed early for lack of room",
    description="{{ $value | humanize }} incidents were closed in 15 minutes although they go on: "
    "they open, and alert, anew.",
    dashboard="floodwatch-detection",
    topic="incident-evictions",
    cases=(
        Case(
            {_CLOSED_EARLY: "0x5 0+10x20"},
            "20m",
            _JOB,
            "140 incidents were closed in 15 minutes although they go on: they open, and "
            "alert, anew.",
        ),
        Case({_CLOSED_EARLY: "7x40"}, "20m"),
    ),
)

_MEMORY: Final = f"floodwatch_process_resident_memory_bytes{{{_OF}}}"

_MEMORY_HIGH: Final = Alert(
    name="FloodwatchMemoryHigh",
    expr=f'floodwatch_process_resident_memory_bytes{{job="{WORKER_JOB}"}} > {MEMORY_BYTES_MAX:.0f}',
    audience="ticket",
    summary="A worker is about to run out of memory",
    description="{{ $labels.instance }} uses {{ $value | humanize1024 }}B of memory.",
    dashboard="floodwatch-pipeline",
    pending="10m",
    topic="memory",
    cases=(
        Case(
            {_MEMORY: "2040109466x40"}, "30m", {**_JOB, "instance": "a"}, "a uses 1.9GiB of memory."
        ),
        Case({_MEMORY: "1000000000x40"}, "30m"),
    ),
)

LOSS: Final = Group(
    "floodwatch-loss",
    (
        _DEAD_LETTERS,
        _DEAD_LETTER_FLOOD,
        _LATE_EVENTS,
        _LATE_TRACE_SHARE,
        _TRACES_MISSING,
        _KEYS_EVICTED,
        _INCIDENTS_EVICTED,
        _MEMORY_HIGH,
    ),
)
