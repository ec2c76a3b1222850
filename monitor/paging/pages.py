"""From open incidents to pages: one for each cause, however many rules and users it has.

- All incidents of a campaign are one page.
- The incident of a user who belongs to a campaign that has a page makes none of its own.
- Every other incident is a page; those of one rule have the same ``group``, by which Alertmanager
  puts them into one notification: a rule that many users break at once wakes people once.

Labels say which page it is and stay the same until it is over; annotations may change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin

from detectors.pack import CAMPAIGN_SPACE, SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from monitor.paging.open_incidents import OpenIncident

__all__ = ["ALERT_NAME", "Links", "Page", "pages_of"]

ALERT_NAME: Final = "FloodwatchIncident"
_MEMBERS_TOLD: Final = 10
_USER_SPACE: Final = "user"


@dataclass(frozen=True, slots=True)
class Links:
    """Where people find more: the base of runbooks, and a dashboard; empty: not known.

    In ``dashboard`` the text ``{incident}`` stands for an incident's id.
    """

    runbooks: str = ""
    dashboard: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """One alert of Alertmanager: what it is (labels), what it says (annotations), since when."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_ms: int
    url: str

    @property
    def identity(self) -> tuple[tuple[str, str], ...]:
        """What Alertmanager goes by: the labels."""
        return tuple(sorted(self.labels.items()))


def pages_of(incidents: Iterable[OpenIncident], links: Links) -> list[Page]:
    """The pages for all that is open, the gravest first."""
    by_cause: dict[tuple[str, str], list[OpenIncident]] = {}
    members: set[str] = set()
    for incident in incidents:
        if incident.key_space == CAMPAIGN_SPACE:
            by_cause.setdefault((CAMPAIGN_SPACE, incident.key), []).append(incident)
            members.update(_members(incident.record))
        else:
            by_cause.setdefault(("incident", incident.incident_id), []).append(incident)
    return [
        _page(of_cause, links)
        for of_cause in by_cause.values()
        if of_cause[0].key_space != _USER_SPACE or of_cause[0].key not in members
    ]


def _page(incidents: Sequence[OpenIncident], links: Links) -> Page:
    """The page about incidents of one cause: the gravest speaks for all."""
    gravest = max(incidents, key=lambda incident: SEVERITIES.index(incident.severity))
    together = gravest.key_space == CAMPAIGN_SPACE
    labels = {
        "alertname": ALERT_NAME,
        "severity": "page",
        "service": "floodwatch",
        "group": f"campaign/{gravest.key}" if together else f"rule/{gravest.rule_id}",
        "key_space": gravest.key_space,
        "incident": gravest.key if together else gravest.incident_id,
    }
    if not together:
        labels |= {"rule": gravest.rule_id, "key": gravest.key}
    url = links.dashboard.replace("{incident}", gravest.incident_id)
    annotations = {
        "summary": gravest.summary,
        "description": _description(gravest),
        "incident_severity": gravest.severity,
        "rules": ", ".join(dict.fromkeys(incident.rule_id for incident in incidents)),
        "command": f"floodwatch incidents show {gravest.incident_id}",
        "runbook_url": _runbook(gravest.record, links.runbooks),
        "dashboard_url": url,
    }
    return Page(
        labels,
        {name: text for name, text in annotations.items() if text},
        min(incident.opened_ms for incident in incidents),
        url,
    )


def _description(incident: OpenIncident) -> str:
    """Why it fired, in lines that fit on a phone."""
    record = incident.record
    lines = [f"{incident.key_space} {incident.key}: {incident.title}"]
    lines += [
        f"- {condition['column']} = {_number(condition['value'])} "
        f"(rule: {condition['operator']} {_number(condition['threshold'])})"
        for condition in record.get("evidence", ())
        if condition["holds"]
    ]
    group = record.get("group")
    if group:
        users = [member["user_id"] for member in group["members"]]
        told = users[:_MEMBERS_TOLD]
        more = len(users) - len(told) + group["members_left_out"]
        lines += [f"- members: {', '.join(told)}" + (f" and {more:,} more" if more else "")]
    action = record.get("action")
    if action:
        lines += [f"- done: {action['kind']} of {action['scope']}"]
    return "\n".join(lines)


def _members(record: Mapping[str, Any]) -> set[str]:
    group = record.get("group") or {"members": ()}
    return {member["user_id"] for member in group["members"]}


def _runbook(record: Mapping[str, Any], base: str) -> str:
    runbook: str = record.get("runbook", "")
    return urljoin(base, runbook) if base and runbook else runbook


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
