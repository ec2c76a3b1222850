"""Overview: is anything wrong right now, and is the monitor itself healthy?"""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Panel

from dashboards import objectives as limit
from dashboards.frame import View
from dashboards.look import BAD, GOOD, KINDS, SEVERITIES
from dashboards.panels import (
    Column,
    Query,
    bars,
    columns,
    lines,
    number,
    rows,
    states,
    too_little,
    too_much,
)
from dashboards.query import by_range, of, prom, recorded, share
from dashboards.rules.recording import DEAD_LETTERS, EVENTS, event_delay_misses

__all__ = ["overview"]

_LIVE = 'mode="live"'
_FIRING = 'alertname=~"Floodwatch.+", alertstate="firing"'
_FAST = limit.BURN_RATES[0]
_SMALL = (3, 4)


def overview() -> View:
    """The first page of whoever is on call."""
    return View(
        uid="floodwatch-overview",
        title="Floodwatch / Overview",
        says="Is anything wrong right now, and is the monitor itself healthy?",
        sections=(
            ("Right now", (*_counts(), *_times(), *_health())),
            ("Misuse", _misuse()),
            ("The monitor", _monitor()),
        ),
    )


def _counts() -> tuple[Panel, ...]:
    return (
        number(
            "Pages",
            "Alerts about the monitor that page somebody. Above 0: the table below names them; "
            "open the runbook of each.",
            prom(f'count(ALERTS{{{_FIRING}, severity="page"}}) or vector(0)'),
            unit="none",
            steps=too_much(bad=1),
            size=_SMALL,
        ),
        number(
            "Incidents that page",
            "Causes for which somebody is woken: a campaign is one. Above 0: open Incidents, and "
            "acknowledge what you take.",
            prom(f"sum({of('floodwatch_pages_firing')}) or vector(0)"),
            unit="none",
            steps=too_much(bad=1),
            size=_SMALL,
        ),
        number(
            "Tickets",
            "Alerts about the monitor that wait for the day. Above 0: the table below names them.",
            prom(f'count(ALERTS{{{_FIRING}, severity="ticket"}}) or vector(0)'),
            unit="none",
            steps=too_much(worse=1),
            size=_SMALL,
        ),
        number(
            "Critical, high alerts",
            "Live alerts of the time range that should not wait. Above 0: open Incidents and "
            "begin with the critical ones.",
            prom(
                "sum(increase("
                + of("floodwatch_alerts_total", 'severity=~"critical|high"', _LIVE)
                + "[$__range]))",
                instant=True,
            ),
            unit="none",
            decimals=0,
            steps=too_much(worse=1),
            size=_SMALL,
        ),
        number(
            "Open incidents",
            "Incidents that the detection holds open. Rising without end: one rule is too loud "
            "(Detection, table of rules) or a raid goes on.",
            prom(f"sum({of('floodwatch_open_incidents')})"),
            unit="none",
            size=_SMALL,
        ),
    )


def _times() -> tuple[Panel, ...]:
    budget = f"1 - min({recorded(event_delay_misses('3d'))}) / {1 - limit.EVENT_DELAY_OBJECTIVE:g}"
    return (
        number(
            "Processes",
            "Workers and store services that answer. 0: nothing is watched. Fewer than you run: "
            "look at the log of the missing one.",
            prom('count(up{job=~"$job", instance=~"$instance"} == 1) or vector(0)'),
            unit="none",
            steps=((None, BAD), (1, GOOD)),
            size=_SMALL,
        ),
        number(
            "99 % of events within",
            f"From the log to the acknowledged result. Above {limit.EVENT_DELAY_MAX_S:g} s the "
            "budget beside burns: open Pipeline.",
            prom(share(0.99, "floodwatch_event_delay_seconds")),
            unit="s",
            steps=too_much(limit.EVENT_DELAY_MAX_S / 2, limit.EVENT_DELAY_MAX_S),
            size=_SMALL,
        ),
        number(
            "Delay budget left",
            f"Of what may be late in three days if {limit.EVENT_DELAY_OBJECTIVE:.1%} of the "
            f"events are to be processed within {limit.EVENT_DELAY_MAX_S:g} s. Below 0: the "
            "objective is missed; Pipeline shows where the time goes.",
            prom(budget),
            unit="percentunit",
            decimals=0,
            steps=too_little(0, 0.5),
            size=_SMALL,
        ),
    )


def _health() -> tuple[Panel, ...]:
    return (
        states(
            "Is the monitor healthy?",
            "One row a promise, red while it is broken (the thresholds are those of the alerts). "
            "Red: open Pipeline, same time range, and the runbook of the alert beside.",
            _promises(),
            {"0": ("kept", GOOD), "1": ("broken", BAD)},
            size=(14, 8),
        ),
        rows(
            "Firing",
            "Alerts about the monitor that fire at the end of the time range. Empty is good. "
            "Otherwise: runbook docs/runbooks/monitor/, by the name of the alert; pages first.",
            [prom(f'ALERTS{{{_FIRING}, severity!="none"}}', instant=True, rows=True)],
            (
                Column("severity", "tell", width=70, colours={"page": BAD, "ticket": "#F2CC0C"}),
                Column("alertname", "alert", width=230),
                Column("partition", "partition", width=80),
                Column("rule", "rule", width=140),
                Column("feature", "feature"),
                *(
                    Column(name, hidden=True)
                    for name in (
                        "__name__",
                        "alertstate",
                        "group",
                        "service",
                        "job",
                        "instance",
                        "Value",
                    )
                ),
            ),
            size=(10, 8),
            nothing="Nothing fires",
        ),
    )


def _promises() -> list[Query]:
    burning = recorded(event_delay_misses(_FAST.short))
    failures = of("floodwatch_publish_failures_total")
    return [
        prom('1 - min(up{job=~"$job", instance=~"$instance"})', "every process answers"),
        prom(f"max({recorded(EVENTS)}) == bool 0", "events arrive"),
        prom(f"max({burning}) > bool {_FAST.most:g}", "events are on time"),
        prom(
            f"max({of('floodwatch_partition_stalled_seconds')}) > bool {limit.STALLED_MAX_S:g}",
            "partitions move",
        ),
        prom(
            f"max({of('floodwatch_oldest_unsaved_seconds')}) > bool {limit.CHECKPOINT_AGE_MAX_S:g}",
            "checkpoints are fresh",
        ),
        prom(
            f"sum(increase({failures}[5m])) > bool {limit.PUBLISH_FAILURES_MAX}",
            "findings get out",
        ),
        prom(
            f"(max({recorded(DEAD_LETTERS)}) > bool {limit.DEAD_LETTER_SHARE_TICKET:g}) "
            "or vector(0)",
            "records can be used",
        ),
        prom(
            f"(1 - min({of('floodwatch_store_up')})) * "
            f"(sum(increase({of('floodwatch_store_failures_total')}[5m])) > bool 0)",
            "the store writes",
        ),
    ]


def _misuse() -> tuple[Panel, ...]:
    per_minute = "60 * sum by ({label}) (rate({series}[$__rate_interval]))"
    alerts = of("floodwatch_alerts_total", _LIVE)
    return (
        columns(
            "Alerts a minute, by severity",
            "What was found. A step up of high or critical: open Incidents. A step up of one "
            "colour only is mostly one rule: see the list beside.",
            [prom(per_minute.format(label="severity", series=alerts), "{{severity}}")],
            unit="cpm",
            colours=SEVERITIES,
            size=(10, 8),
        ),
        bars(
            "Loudest rules",
            "Live alerts of the time range. One rule far ahead of the others: read its runbook, "
            "then decide whether it is a raid or too loud (mode: shadow stops its decisions).",
            [
                prom(
                    f"topk(10, {by_range('rule', 'floodwatch_alerts_total', _LIVE)} > 0)",
                    "{{rule}}",
                    instant=True,
                )
            ],
            unit="none",
            decimals=0,
            size=(7, 8),
        ),
        columns(
            "Decisions a minute, by kind",
            "Warnings, throttles and blocks, by rules and limits. Far more than usual: open "
            "Enforcement before users complain.",
            [
                prom(
                    per_minute.format(label="kind", series=of("floodwatch_decisions_total")),
                    "{{kind}}",
                )
            ],
            unit="cpm",
            colours=KINDS,
            size=(7, 8),
        ),
    )


def _monitor() -> tuple[Panel, ...]:
    delay = "floodwatch_event_delay_seconds"
    return (
        lines(
            "Events a second",
            "What is watched. A fall to 0 with workers up: producers or the broker. A fall by "
            "half: one topic stopped; Pipeline shows the types.",
            [prom(f"sum(rate({of('floodwatch_events_total')}[$__rate_interval]))", "events")],
            unit="cps",
        ),
        lines(
            "Delay of events",
            "From the log to the acknowledged result. Above the line for more than minutes: the "
            "budget burns; look at lag and at processing time in Pipeline.",
            [prom(share(q, delay), f"{q:.0%} within") for q in (0.5, 0.99)],
            unit="s",
            steps=too_much(bad=limit.EVENT_DELAY_MAX_S),
        ),
        lines(
            "Records that wait",
            "Consumer lag of all inputs. Growing for minutes: workers are too few or one stands "
            "still (Pipeline, partitions).",
            [
                prom(f"sum by (topic) ({of('floodwatch_consumer_lag_records')})", "{{topic}}"),
            ],
            unit="short",
        ),
    )
