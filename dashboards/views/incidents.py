"""Incidents: tables and drill-down from the database (users must not be labels of metrics)."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models.dashboard import Panel

from dashboards.frame import View
from dashboards.look import BAD, GOOD, SEVERITIES, WORSE
from dashboards.panels import Column, bars, number, rows, too_much
from dashboards.query import SqlQuery

__all__ = ["incidents"]

_SELF: Final = "/d/floodwatch-incidents?${__url_time_range}&${store:queryparam}"
_TIME: Final = "dateTimeAsIso"
_MODES: Final = {"live": GOOD, "shadow": WORSE}

_ORDER: Final = (
    "CASE severity WHEN 'critical' THEN 0 WHEN 'high' THEN 1 WHEN 'medium' THEN 2 ELSE 3 END"
)
_OPEN: Final = "state <> 'closed' AND opened_ms <= $__to"
_NOBODY: Final = (
    "NOT EXISTS (SELECT 1 FROM acknowledgements "
    "WHERE acknowledgements.incident_id = incidents.incident_id)"
)
_CHOSEN: Final = "incident_id = ${incident:sqlstring}"

_OPEN_NOW: Final = f"""\
SELECT severity, title, key_space AS "about", key, opened_ms AS opened,
       last_finding_ms AS newest, alerts, findings,
       coalesce((SELECT author FROM acknowledgements
                 WHERE acknowledgements.incident_id = incidents.incident_id), '') AS "who is on it",
       incident_id AS incident
FROM incidents
WHERE {_OPEN} AND mode = 'live' AND last_finding_ms >= $__from
  AND ${{key:sqlstring}} IN ('', key)
ORDER BY {_ORDER}, last_finding_ms DESC LIMIT 50"""

_CHOICE: Final = f"""\
SELECT incident_id FROM incidents
WHERE {_OPEN} AND mode = 'live' AND last_finding_ms >= $__from
ORDER BY {_ORDER}, last_finding_ms DESC LIMIT 200"""

_BY_RULE: Final = """\
SELECT rule_id AS rule, count(*) AS incidents
FROM incidents WHERE opened_ms BETWEEN $__from AND $__to AND mode = 'live'
GROUP BY rule_id ORDER BY incidents DESC LIMIT 12"""

_BY_SEVERITY: Final = f"""\
SELECT severity, count(*) AS incidents
FROM incidents WHERE opened_ms BETWEEN $__from AND $__to AND mode = 'live'
GROUP BY severity ORDER BY {_ORDER}"""

_VERDICTS: Final = """\
SELECT rule_id AS rule,
       sum(CASE verdict WHEN 'abuse' THEN 1 ELSE 0 END) AS abuse,
       sum(CASE verdict WHEN 'benign' THEN 1 ELSE 0 END) AS benign,
       sum(CASE verdict WHEN 'unclear' THEN 1 ELSE 0 END) AS unclear,
       CAST(sum(CASE verdict WHEN 'abuse' THEN 1 ELSE 0 END) AS double precision)
         / count(*) AS "right"
FROM verdicts WHERE time_ms <= $__to
GROUP BY rule_id ORDER BY "right", benign DESC LIMIT 15"""

_ALERTS: Final = f"""\
SELECT time_ms AS time, severity, summary, key_space AS "about", key,
       record->'context'->>'tier' AS plan, anomaly_rank AS "anomaly rank", event_id AS event
FROM alerts WHERE {_CHOSEN} ORDER BY time_ms DESC LIMIT 50"""

_HISTORY: Final = f"""\
SELECT time_ms AS time, state, alerts, findings
FROM incident_updates WHERE {_CHOSEN} ORDER BY time_ms DESC, findings DESC LIMIT 50"""

_DECIDED: Final = f"""\
SELECT user_id AS "user", kind, scope, reason, expires_ms AS until
FROM decisions
WHERE alert_id IN (SELECT alert_id FROM alerts WHERE {_CHOSEN})
ORDER BY time_ms DESC LIMIT 50"""

_SEEN: Final = f"""\
SELECT time_ms AS time, author, 'verdict: ' || verdict AS what, reason AS text
FROM verdicts WHERE {_CHOSEN}
UNION ALL
SELECT time_ms, author, 'note', text FROM notes WHERE {_CHOSEN}
UNION ALL
SELECT time_ms, author, 'acknowledged', '' FROM acknowledgements WHERE {_CHOSEN}
ORDER BY 1 DESC LIMIT 50"""


def incidents() -> View:
    """For whoever works through what was found."""
    return View(
        uid="floodwatch-incidents",
        title="Floodwatch / Incidents",
        says="What was found, about whom, and what was made of it. Choose one in the table.",
        store=True,
        choices=(("incident", "Incident", _CHOICE),),
        texts=(("key", "User or key"),),
        sections=(
            ("Open", _open()),
            ("The time range", _range()),
            ("The chosen incident", (*_why(), *_since())),
        ),
    )


def _count(where: str) -> SqlQuery:
    return SqlQuery(f"SELECT count(*) AS incidents FROM incidents WHERE {where}")


def _open() -> tuple[Panel, ...]:
    severe = f"{_OPEN} AND mode = 'live' AND severity IN ('critical', 'high')"
    return (
        number(
            "Open, critical or high",
            "What should not wait. Above 0: take the first of the table beside.",
            _count(severe),
            unit="none",
            steps=too_much(worse=1, bad=10),
            size=(4, 4),
        ),
        rows(
            "Open incidents",
            "The most severe first; click one to see it below. Take what nobody is on: "
            "floodwatch incidents ack ID, then its runbook.",
            [SqlQuery(_OPEN_NOW)],
            (
                Column("severity", width=80, colours=SEVERITIES),
                Column("title", width=250),
                Column("about", width=80),
                Column("key", width=130, link=f"{_SELF}&var-key=${{__value.raw}}"),
                Column("opened", unit=_TIME, width=155),
                Column("newest", unit=_TIME, width=155),
                Column("alerts", unit="none", width=60),
                Column("findings", unit="none", width=70),
                Column("who is on it", width=90),
                Column("incident", width=180, link=f"{_SELF}&var-incident=${{__value.raw}}"),
            ),
            size=(20, 12),
        ),
        number(
            "Nobody is on them",
            "Critical or high, open, acknowledged by nobody. Above 0 for ten minutes: ask in the "
            "channel who takes them.",
            _count(f"{severe} AND {_NOBODY}"),
            unit="none",
            steps=too_much(worse=1, bad=10),
            size=(4, 4),
        ),
        number(
            "All open",
            "Live incidents of all severities. Hundreds: work by rule, not one by one.",
            _count(f"{_OPEN} AND mode = 'live'"),
            unit="none",
            size=(4, 4),
        ),
    )


def _range() -> tuple[Panel, ...]:
    return (
        bars(
            "Opened, by severity",
            "Incidents opened in the time range. Mostly low: raise thresholds; critical: see "
            "that each has an owner.",
            [SqlQuery(_BY_SEVERITY)],
            unit="none",
            size=(6, 9),
        ),
        bars(
            "Opened, by rule",
            "Incidents opened in the time range. One rule far ahead: raid or noise; sample five.",
            [SqlQuery(_BY_RULE)],
            unit="none",
            size=(9, 9),
        ),
        rows(
            "Was the rule right?",
            "Verdicts so far, the worst rules first. Below half right: tune the rule, its "
            "runbook says which threshold. None at all: record verdicts, they are what tuning "
            "goes by.",
            [SqlQuery(_VERDICTS)],
            (
                Column("rule", width=190),
                Column("abuse", unit="none", width=70),
                Column("benign", unit="none", width=70),
                Column("unclear", unit="none", width=70),
                Column("right", unit="percentunit", steps=((None, BAD), (0.5, WORSE), (0.8, GOOD))),
            ),
            size=(9, 9),
            nothing="No verdict yet: floodwatch incidents verdict ID",
        ),
    )


def _why() -> tuple[Panel, ...]:
    return (
        rows(
            "Its alerts",
            "Why it fired, each time. Values far beyond the threshold: act; just above: look at "
            "the plan and the history first.",
            [SqlQuery(_ALERTS)],
            (
                Column("time", unit=_TIME, width=155),
                Column("severity", width=80, colours=SEVERITIES),
                Column("summary"),
                Column("about", width=80),
                Column("key", width=130),
                Column("plan", width=80),
                Column("anomaly rank", unit="percentunit", width=100),
                Column("event", width=180),
            ),
            size=(24, 6),
        ),
    )


def _since() -> tuple[Panel, ...]:
    return (
        rows(
            "Its history",
            "Findings that grow fast: it is going on, so act before you read on.",
            [SqlQuery(_HISTORY)],
            (
                Column("time", unit=_TIME, width=140),
                Column("state", width=70),
                Column("alerts", unit="none", width=60),
                Column("findings", unit="none"),
            ),
            size=(6, 6),
        ),
        rows(
            "What was decided",
            "Throttles and blocks that its alerts made. Wrong about somebody: floodwatch "
            "incidents verdict ID benign, and tell support.",
            [SqlQuery(_DECIDED)],
            (
                Column("user", width=145),
                Column("kind", width=70),
                Column("scope", width=80),
                Column("reason", width=190),
                Column("until", unit=_TIME),
            ),
            size=(10, 6),
        ),
        rows(
            "What people said",
            "Acknowledgements, notes and verdicts. Nothing here: nobody has looked; you may be "
            "the first.",
            [SqlQuery(_SEEN)],
            (
                Column("time", unit=_TIME, width=140),
                Column("author", width=60),
                Column("what", width=110),
                Column("text"),
            ),
            size=(8, 6),
            nothing="Nobody has looked yet",
        ),
    )
