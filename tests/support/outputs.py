"""Alerts, incidents and decisions to feed to what comes after detection."""

from __future__ import annotations

from detectors.incidents import Alert, Decision, IncidentState, IncidentUpdate
from detectors.pack import Severity
from detectors.rules import Condition

__all__ = ["a_decision", "an_alert", "an_incident"]

TIME_MS = 1_772_442_000_000


def an_alert(
    number: int = 1,
    *,
    rule_id: str = "burst",
    severity: Severity = "high",
    key: str = "user-1",
    title: str = "Burst of generations",
    evidence: tuple[Condition, ...] = (Condition("generations_1m", ">=", 30, 45.0, holds=True),),
    time_ms: int = TIME_MS,
) -> Alert:
    """An alert with stable ids made from ``number``."""
    return Alert(
        alert_id=f"alr_{number}",
        incident_id=f"inc_{number}",
        rule_id=rule_id,
        rule_version="v1",
        pack_version="p1",
        title=title,
        severity=severity,
        mode="live",
        key_space="user",
        key=key,
        time_ms=time_ms,
        event_id=f"evt-{number}",
        sequence=1,
        suppressed=0,
        summary=f"{title}: generations_1m 45 >= 30",
        evidence=evidence,
        context={"tier": "free", "verified": False},
        runbook="docs/runbooks/burst.md",
    )


def an_incident(
    number: int = 1,
    state: IncidentState = "opened",
    *,
    findings: int = 1,
    severity: Severity = "high",
    key: str = "user-1",
) -> IncidentUpdate:
    """An incident as it stands after ``findings`` findings."""
    return IncidentUpdate(
        incident_id=f"inc_{number}",
        state=state,
        rule_id="burst",
        rule_version="v1",
        title="Burst of generations",
        severity=severity,
        mode="live",
        key_space="user",
        key=key,
        opened_ms=TIME_MS,
        last_finding_ms=TIME_MS + 1_000 * findings,
        time_ms=TIME_MS + 1_000 * findings,
        alerts=1,
        findings=findings,
    )


def a_decision(number: int = 1, *, user_id: str = "user-1", expires_ms: int = 60_000) -> Decision:
    """A decision that expires ``expires_ms`` after it was made."""
    return Decision(
        decision_id=f"dec_{number}",
        user_id=user_id,
        kind="throttle",
        scope="generation",
        reason="rule:burst",
        time_ms=TIME_MS,
        expires_ms=TIME_MS + expires_ms,
        alert_id=f"alr_{number}",
    )
