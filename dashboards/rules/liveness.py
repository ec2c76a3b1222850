"""Alerts about what does not run, does not move, or cannot say what it found."""

from __future__ import annotations

from typing import Final

from dashboards.objectives import CHECKPOINT_AGE_MAX_S, PUBLISH_FAILURES_MAX, STALLED_MAX_S
from dashboards.rules.model import Alert, Case, Group
from dashboards.rules.recording import EVENTS, PARTITIONS

__all__ = ["LIVENESS", "WATCHDOG", "WORKER_JOB"]

WORKER_JOB: Final = "floodwatch-worker"
_JOB: Final = {"job": WORKER_JOB}
_ONE: Final = f'{{job="{WORKER_JOB}", instance="a"}}'
_PARTITION: Final = f'{{job="{WORKER_JOB}", instance="a", partition="shared-1"}}'
_TYPE: Final = f'{{job="{WORKER_JOB}", instance="a", type="share.created"}}'


def _lag(partition: int) -> str:
    labels = f'job="{WORKER_JOB}", instance="a", topic="generation-events", partition="{partition}"'
    return f"floodwatch_consumer_lag_records{{{labels}}}"


WATCHDOG: Final = Alert(
    name="FloodwatchWatchdog",
    expr="vector(1)",
    audience="none",
    summary="Alerts get through",
    description="Always fires. Whoever stops receiving it has lost Prometheus or Alertmanager.",
    dashboard="floodwatch-overview",
    topic="watchdog",
    cases=(
        Case(
            {},
            "1m",
            {},
            "Always fires. Whoever stops receiving it has lost Prometheus or Alertmanager.",
        ),
    ),
)

_DOWN: Final = Alert(
    name="FloodwatchDown",
    expr=f'absent(up{{job="{WORKER_JOB}"}} == 1)',
    audience="page",
    summary="No worker runs: misuse is not seen",
    description="Prometheus reaches no worker at all since a minute or more.",
    dashboard="floodwatch-overview",
    pending="1m",
    topic="down",
    labels={"job": WORKER_JOB},
    cases=(
        Case(
            {f"up{_ONE}": "1x3 0x10"},
            "6m",
            _JOB,
            "Prometheus reaches no worker at all since a minute or more.",
        ),
        Case({}, "2m", _JOB, "Prometheus reaches no worker at all since a minute or more."),
        Case({f"up{_ONE}": "0x10", f'up{{job="{WORKER_JOB}", instance="b"}}': "1x10"}, "8m"),
    ),
)

_TARGET_DOWN: Final = Alert(
    name="FloodwatchTargetDown",
    expr='up{job=~"floodwatch-.+"} == 0',
    audience="ticket",
    summary="A process of Floodwatch does not answer",
    description="{{ $labels.job }} at {{ $labels.instance }} did not answer for five minutes.",
    dashboard="floodwatch-overview",
    pending="5m",
    topic="down",
    cases=(
        Case(
            {f"up{_ONE}": "0x10", f'up{{job="{WORKER_JOB}", instance="b"}}': "1x10"},
            "6m",
            {**_JOB, "instance": "a"},
            f"{WORKER_JOB} at a did not answer for five minutes.",
        ),
        Case({f"up{_ONE}": "1 0 0 1 0 0 1 1 1", 'up{job="other", instance="c"}': "0x10"}, "8m"),
    ),
)

_NO_EVENTS: Final = Alert(
    name="FloodwatchNoEvents",
    expr=f"{EVENTS} == 0\nand\nmax_over_time({EVENTS}[1d]) > 0",
    audience="page",
    summary="No events arrive",
    description="Workers run, but for ten minutes no event was processed. Nothing would be found.",
    dashboard="floodwatch-pipeline",
    pending="5m",
    topic="no-events",
    cases=(
        Case(
            {f"floodwatch_events_total{_TYPE}": "0+600x20 12000x30"},
            "35m",
            _JOB,
            "Workers run, but for ten minutes no event was processed. Nothing would be found.",
        ),
        Case({f"floodwatch_events_total{_TYPE}": "0x60"}, "50m"),
        Case({f"floodwatch_events_total{_TYPE}": "0+600x20 12000x7 12600+1x10"}, "31m"),
    ),
)

_STALLED: Final = Alert(
    name="FloodwatchPartitionStalled",
    expr=f"max by (job, partition) (floodwatch_partition_stalled_seconds) > {STALLED_MAX_S:g}",
    audience="page",
    summary="A partition stands still while events wait",
    description="Partition {{ $labels.partition }} has not moved for "
    "{{ $value | humanizeDuration }} although records wait: its users are not watched.",
    dashboard="floodwatch-pipeline",
    topic="stalled",
    cases=(
        Case(
            {f"floodwatch_partition_stalled_seconds{_PARTITION}": "0 0 60 120 180"},
            "3m",
            {**_JOB, "partition": "shared-1"},
            "Partition shared-1 has not moved for 2m 0s although records wait: its users "
            "are not watched.",
        ),
        Case({f"floodwatch_partition_stalled_seconds{_PARTITION}": "0 30 55 0 0"}, "2m"),
    ),
)

_UNREAD: Final = Alert(
    name="FloodwatchPartitionUnread",
    expr=f"{PARTITIONS} < max_over_time({PARTITIONS}[6h])",
    audience="page",
    summary="Some partitions are read by nobody",
    description="Only {{ $value }} partitions of all topics are read, less than within the last "
    "six hours.",
    dashboard="floodwatch-pipeline",
    pending="3m",
    topic="unread",
    cases=(
        Case(
            {_lag(0): "0x20", _lag(1): "0x5 stale"},
            "15m",
            _JOB,
            "Only 1 partitions of all topics are read, less than within the last six hours.",
        ),
        Case({_lag(0): "0x20", _lag(1): "0x20"}, "15m"),
        Case({_lag(0): "0x20", _lag(1): "0x5 _ _ 0x20"}, "15m"),
    ),
)

_CHECKPOINTS: Final = Alert(
    name="FloodwatchCheckpointsStale",
    expr=f"max by (job) (floodwatch_oldest_unsaved_seconds) > {CHECKPOINT_AGE_MAX_S:g}",
    audience="ticket",
    summary="Checkpoints are not written",
    description="A partition has work of {{ $value | humanizeDuration }} that no checkpoint "
    "covers: after a crash all of it is read again before anything new is seen.",
    dashboard="floodwatch-pipeline",
    pending="2m",
    topic="checkpoints",
    cases=(
        Case(
            {f"floodwatch_oldest_unsaved_seconds{_ONE}": "0+60x20"},
            "10m",
            _JOB,
            "A partition has work of 10m 0s that no checkpoint covers: after a crash all of"
            " it is read again before anything new is seen.",
        ),
        Case({f"floodwatch_oldest_unsaved_seconds{_ONE}": "0+60x6 0x10"}, "8m"),
    ),
)

_PUBLISHING: Final = Alert(
    name="FloodwatchPublishFailing",
    expr=f"sum by (job) (increase(floodwatch_publish_failures_total[5m])) > {PUBLISH_FAILURES_MAX}",
    audience="page",
    summary="Alerts and decisions do not get out",
    description="{{ $value | humanize }} attempts to publish failed in five minutes. Reading "
    "waits until the broker takes what was found.",
    dashboard="floodwatch-pipeline",
    pending="1m",
    topic="publishing",
    cases=(
        Case(
            {f"floodwatch_publish_failures_total{_ONE}": "0+2x20"},
            "10m",
            _JOB,
            "10 attempts to publish failed in five minutes. Reading waits until the broker "
            "takes what was found.",
        ),
        Case({f"floodwatch_publish_failures_total{_ONE}": "0x5 4x20"}, "8m"),
    ),
)

LIVENESS: Final = Group(
    "floodwatch-liveness",
    (WATCHDOG, _DOWN, _TARGET_DOWN, _NO_EVENTS, _STALLED, _UNREAD, _CHECKPOINTS, _PUBLISHING),
)
