"""Alerts about the store: what was found must also be kept."""

from __future__ import annotations

from typing import Final

from dashboards.objectives import PAGING_FAILURES_MAX
from dashboards.rules.model import Alert, Case, Group

__all__ = ["STORE", "STORE_JOB"]

STORE_JOB: Final = "floodwatch-store"
_JOB: Final = {"job": STORE_JOB}
_OF: Final = f'{{job="{STORE_JOB}", instance="s"}}'

_UNREADABLE: Final = (
    f'floodwatch_store_unreadable_messages_total{{job="{STORE_JOB}", instance="s", topic="alerts"}}'
)

_NOT_WRITING: Final = Alert(
    name="FloodwatchStoreNotWriting",
    expr="min by (job) (floodwatch_store_up) == 0\n"
    "and\nsum by (job) (increase(floodwatch_store_failures_total[5m])) > 0",
    audience="page",
    summary="The database does not take what was found",
    description="For five minutes no write went well. Alerts wait in Kafka and in the spool; new "
    "incidents cannot be looked at.",
    dashboard="floodwatch-pipeline",
    pending="5m",
    topic="store",
    cases=(
        Case(
            {
                f"floodwatch_store_up{_OF}": "1 0x20",
                f"floodwatch_store_failures_total{_OF}": "0+4x20",
            },
            "10m",
            _JOB,
            "For five minutes no write went well. Alerts wait in Kafka and in the spool; new "
            "incidents cannot be looked at.",
        ),
        Case(
            {f"floodwatch_store_up{_OF}": "0x20", f"floodwatch_store_failures_total{_OF}": "0x20"},
            "15m",
        ),
        Case(
            {
                f"floodwatch_store_up{_OF}": "0 0 0 1x20",
                f"floodwatch_store_failures_total{_OF}": "0 4 8 8x20",
            },
            "8m",
        ),
    ),
)

_LOSING: Final = Alert(
    name="FloodwatchStoreLosing",
    expr="sum by (job) (increase(floodwatch_store_dropped_total[15m])) > 0",
    audience="page",
    summary="Alerts, incidents or decisions are lost to the store",
    description="{{ $value | humanize }} outputs were left out in 15 minutes, because the spool "
    "is full.",
    dashboard="floodwatch-pipeline",
    topic="store",
    cases=(
        Case(
            {f"floodwatch_store_dropped_total{_OF}": "0x5 0+10x20"},
            "20m",
            _JOB,
            "140 outputs were left out in 15 minutes, because the spool is full.",
        ),
        Case({f"floodwatch_store_dropped_total{_OF}": "5x40"}, "20m"),
    ),
)

_REJECTED: Final = Alert(
    name="FloodwatchStoreRejecting",
    expr="sum by (job) (increase(floodwatch_store_rejected_total[15m]))\n"
    "  + sum by (job) (increase(floodwatch_store_unreadable_messages_total[15m])) > 0",
    audience="ticket",
    summary="The store cannot keep some of what was found",
    description="{{ $value | humanize }} outputs of 15 minutes were refused by the database or "
    "could not be read: they are in no incident.",
    dashboard="floodwatch-pipeline",
    topic="store-rejects",
    cases=(
        Case(
            {
                f"floodwatch_store_rejected_total{_OF}": "0x5 0+1x20",
                _UNREADABLE: "0x40",
            },
            "20m",
            _JOB,
            "14 outputs of 15 minutes were refused by the database or could not be read: they are "
            "in no incident.",
        ),
        Case(
            {
                f"floodwatch_store_rejected_total{_OF}": "2x40",
                _UNREADABLE: "0x40",
            },
            "20m",
        ),
    ),
)

_PAGING_FAILS: Final = Alert(
    name="FloodwatchPagingFailing",
    expr=f"sum by (job) (increase(floodwatch_paging_failures_total[5m])) > {PAGING_FAILURES_MAX}",
    audience="page",
    summary="Incidents do not reach Alertmanager",
    description="{{ $value | humanize }} times in five minutes the pager reached neither the "
    "store nor an Alertmanager: nobody is woken by incidents.",
    dashboard="floodwatch-overview",
    topic="paging",
    pending="2m",
    cases=(
        Case(
            {f"floodwatch_paging_failures_total{_OF}": "0+4x20"},
            "12m",
            _JOB,
            "20 times in five minutes the pager reached neither the store nor an Alertmanager: "
            "nobody is woken by incidents.",
        ),
        Case({f"floodwatch_paging_failures_total{_OF}": "0x5 3x20"}, "8m"),
    ),
)

STORE: Final = Group("floodwatch-store", (_NOT_WRITING, _LOSING, _REJECTED, _PAGING_FAILS))
