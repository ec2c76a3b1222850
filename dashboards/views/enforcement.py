"""Enforcement: limits, decisions, who is throttled by tier and reason, brakes."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models.dashboard import Panel

from dashboards import objectives as limit
from dashboards.frame import View
from dashboards.look import KINDS
from dashboards.panels import Column, bars, columns, lines, number, rows, too_much
from dashboards.query import SqlQuery, by_range, of, prom, recorded
from dashboards.rules.recording import DECISIONS

__all__ = ["enforcement"]

_STANDING: Final = "time_ms <= $__to AND expires_ms > $__to AND kind IN ('throttle', 'block')"

_BY_TIER: Final = f"""\
SELECT coalesce(alerts.record->'context'->>'tier', 'by a limit') AS tier,
       count(DISTINCT decisions.user_id) AS users
FROM (SELECT * FROM decisions WHERE {_STANDING}) AS decisions
LEFT JOIN alerts ON alerts.alert_id = decisions.alert_id
GROUP BY 1 ORDER BY 2 DESC"""

_BY_REASON: Final = f"""\
SELECT reason, count(DISTINCT user_id) AS users
FROM decisions WHERE {_STANDING}
GROUP BY reason ORDER BY users DESC LIMIT 10"""

_MOST: Final = """\
SELECT user_id AS "user", count(*) AS decisions, count(DISTINCT reason) AS reasons,
       min(reason) AS "first reason", max(time_ms) AS newest, max(expires_ms) AS until
FROM decisions
WHERE time_ms BETWEEN $__from AND $__to AND kind IN ('throttle', 'block')
GROUP BY user_id ORDER BY decisions DESC, newest DESC LIMIT 15"""


def enforcement() -> View:
    """For whoever answers for what is done to users."""
    return View(
        uid="floodwatch-enforcement",
        title="Floodwatch / Enforcement",
        says="What is decided about users, why, about whom, and how near we are to the brakes.",
        store=True,
        sections=(
            ("Decisions", _decisions()),
            ("Who is throttled", (*_who(), *_most())),
            ("Brakes", _brakes()),
        ),
    )


def _per_minute(label: str, *matchers: str) -> str:
    series = of("floodwatch_decisions_total", *matchers)
    return f"60 * sum by ({label}) (rate({series}[$__rate_interval]))"


def _decisions() -> tuple[Panel, ...]:
    return (
        columns(
            "Decisions a minute, by kind",
            "A step up: see by reason beside whether a limit or a rule makes it. All kinds at "
            "once: a raid, or a producer that sends wrong values.",
            [prom(_per_minute("kind"), "{{kind}}")],
            unit="cpm",
            colours=KINDS,
            size=(8, 8),
        ),
        columns(
            "Throttles a minute, by what is throttled",
            "Generation, share, or everything of a user. “all” far above the rest: severe rules "
            "fire; check that they are right before users write in.",
            [prom(_per_minute("scope", 'kind=~"throttle|block"'), "{{scope}}")],
            unit="cpm",
            size=(8, 8),
        ),
        bars(
            "Limits that were met",
            "Decisions of the time range by limit. The first far ahead: either that plan is too "
            "tight for honest work or somebody hammers (rule limit-hammering).",
            [
                prom(
                    f"topk(8, {by_range('reason', 'floodwatch_decisions_total', _LIMIT)} > 0)",
                    "{{reason}}",
                    instant=True,
                )
            ],
            unit="none",
            decimals=0,
            size=(8, 8),
        ),
    )


_LIMIT: Final = 'made_by="limit"'
_RULE: Final = 'made_by="rule"'


def _who() -> tuple[Panel, ...]:
    return (
        number(
            "Users throttled now",
            "Users about whom a throttle or block stands at the end of the time range. Thousands "
            "within minutes: open Brakes below and think of shadowing the rule.",
            SqlQuery(f"SELECT count(DISTINCT user_id) AS users FROM decisions WHERE {_STANDING}"),
            unit="none",
            size=(4, 8),
        ),
        bars(
            "Users throttled now, by plan",
            "Paying plans far ahead: tell support, and look for a limit that is too tight. Those "
            "throttled by a limit alone are one bar: a limit makes no alert that knows the plan.",
            [SqlQuery(_BY_TIER)],
            unit="none",
            size=(6, 8),
        ),
        bars(
            "Users throttled now, by reason",
            "Rules and limits behind what stands. One rule with most users: read its runbook, "
            "sample five of them in Incidents before trusting it.",
            [SqlQuery(_BY_REASON)],
            unit="none",
            size=(7, 8),
        ),
        bars(
            "Rules that decide",
            "Decisions of the time range by rule. A rule you did not expect: set it to shadow, "
            "then ask why.",
            [
                prom(
                    f"topk(8, {by_range('reason', 'floodwatch_decisions_total', _RULE)} > 0)",
                    "{{reason}}",
                    instant=True,
                )
            ],
            unit="none",
            decimals=0,
            size=(7, 8),
        ),
    )


def _most() -> tuple[Panel, ...]:
    return (
        rows(
            "Most throttled users",
            "Users with most throttles and blocks in the time range. Many reasons: abuse on "
            "several fronts, open their incidents. One limit, all day: a customer who needs "
            "another plan.",
            [SqlQuery(_MOST)],
            (
                Column(
                    "user",
                    width=200,
                    link="/d/floodwatch-incidents?${__url_time_range}&var-key=${__value.raw}",
                ),
                Column("decisions", unit="none", width=100),
                Column("reasons", unit="none", width=90),
                Column("first reason", width=260),
                Column("newest", unit="dateTimeAsIso", width=190),
                Column("until", unit="dateTimeAsIso"),
            ),
            size=(24, 9),
        ),
    )


def _brakes() -> tuple[Panel, ...]:
    return (
        number(
            "Share of events throttled",
            f"Throttles and blocks per event, ten minutes. At {limit.DECISION_SHARE_MAX:.0%} "
            "somebody is paged: decide whether it is a raid or we are wrong; if wrong, shadow the "
            "loudest rule.",
            prom(f"max({recorded(DECISIONS)})"),
            unit="percentunit",
            decimals=2,
            steps=too_much(limit.DECISION_SHARE_MAX / 2, limit.DECISION_SHARE_MAX),
            size=(5, 8),
        ),
        lines(
            "Share of events throttled, over time",
            "The line is the cap. Slowly rising for days: limits no longer fit how people work.",
            [prom(f"max({recorded(DECISIONS)})", "throttled or blocked")],
            unit="percentunit",
            steps=too_much(bad=limit.DECISION_SHARE_MAX),
            size=(10, 8),
        ),
        columns(
            "Findings beyond the bound, a minute",
            "Rules that reached their bound on alerts: what is here made neither alert nor "
            "decision. Above 0: runbook floodwatch.alert-storm; replay afterwards.",
            [
                prom(
                    "topk(5, 60 * sum by (rule) "
                    f"(rate({of('floodwatch_shed_findings_total')}[$__rate_interval])))",
                    "{{rule}}",
                )
            ],
            unit="cpm",
            steps=too_much(bad=1),
            size=(9, 8),
        ),
    )
