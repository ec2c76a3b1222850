"""Alerts as Detection Findings of the Open Cybersecurity Schema Framework, for a SIEM.

Class 2004 of OCSF 1.5.0: https://schema.ocsf.io/1.5.0/classes/detection_finding. A finding is what
we call an incident: its first alert creates it, the next ones update it. What OCSF has no field
for is in ``unmapped``, as we write it everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from monitor.version import program_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from detectors.incidents import Alert

__all__ = ["OCSF_SCHEMA", "OCSF_VERSION", "detection_finding"]

OCSF_VERSION: Final = "1.5.0"
OCSF_SCHEMA: Final = f"https://schema.ocsf.io/{OCSF_VERSION}/classes/detection_finding"

_CATEGORY: Final = 2
_CLASS: Final = 2004
_ACTIVITIES: Final = {1: "Create", 2: "Update"}
_SEVERITIES: Final[Mapping[str, tuple[int, str]]] = {
    "info": (1, "Informational"),
    "low": (2, "Low"),
    "medium": (3, "Medium"),
    "high": (4, "High"),
    "critical": (5, "Critical"),
}
_ANALYTIC_RULE: Final = 1
_STATUS_NEW: Final = 1
_OBSERVABLE_RESOURCE: Final = 10
_UNMAPPED: Final = ("mode", "pack_version", "suppressed", "context", "anomaly", "group", "action")
_MEMBERS_MAX: Final = 100


def detection_finding(alert: Alert) -> dict[str, Any]:
    """The finding as it stands with this alert, as JSON values."""
    content: dict[str, Any] = msgspec.to_builtins(alert)
    activity = 1 if alert.sequence == 1 else 2
    severity_id, severity = _SEVERITIES[alert.severity]
    users = _users(alert)
    return {
        "activity_id": activity,
        "activity_name": _ACTIVITIES[activity],
        "category_uid": _CATEGORY,
        "category_name": "Findings",
        "class_uid": _CLASS,
        "class_name": "Detection Finding",
        "type_uid": 100 * _CLASS + activity,
        "type_name": f"Detection Finding: {_ACTIVITIES[activity]}",
        "time": alert.time_ms,
        "timezone_offset": 0,
        "severity_id": severity_id,
        "severity": severity,
        "status_id": _STATUS_NEW,
        "status": "New",
        "count": alert.suppressed + 1,
        "message": alert.summary,
        "metadata": _metadata(alert),
        "finding_info": _finding_info(alert),
        "evidences": [{"data": condition} for condition in content["evidence"]],
        "resources": [{"uid": user, "type": kind} for kind, user in users],
        "observables": [
            {
                "name": "resources.uid",
                "type_id": _OBSERVABLE_RESOURCE,
                "type": "Resource UID",
                "value": user,
            }
            for _, user in users
        ],
        "remediation": {"desc": f"The runbook of the rule: {alert.runbook}"},
        "unmapped": {name: content[name] for name in _UNMAPPED if content[name] is not None},
    }


def _metadata(alert: Alert) -> dict[str, Any]:
    return {
        "version": OCSF_VERSION,
        "uid": alert.alert_id,
        "correlation_uid": alert.incident_id,
        "product": {
            "name": "Floodwatch",
            "vendor_name": "Floodwatch",
            "version": program_version(),
        },
        "labels": list(alert.tags),
    }


def _finding_info(alert: Alert) -> dict[str, Any]:
    return {
        "uid": alert.incident_id,
        "title": alert.title,
        "desc": alert.summary,
        "created_time": alert.time_ms,
        "analytic": {
            "uid": alert.rule_id,
            "name": alert.title,
            "type_id": _ANALYTIC_RULE,
            "type": "Rule",
            "version": alert.rule_version,
        },
        "related_events": [{"uid": event_id} for event_id in _events(alert)],
        "types": list(alert.tags),
    }


def _users(alert: Alert) -> list[tuple[str, str]]:
    """What it is about, by its kind: a key, or the members of a group."""
    if alert.group is None:
        return [(alert.key_space, alert.key)]
    return [("user", member.user_id) for member in alert.group.members[:_MEMBERS_MAX]]


def _events(alert: Alert) -> tuple[str, ...]:
    return alert.group.event_ids if alert.group is not None else (alert.event_id,)
