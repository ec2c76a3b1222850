"""From findings to alerts, incidents and decisions.

A *finding* is a rule that held at an event. The first finding for a rule and key opens an incident
and is an alert; findings within the rule's cooldown are counted, the next one after it is another
alert of the same incident; an incident without findings for ``close_after_ms`` closes. All of it
in event time, so that the same log gives the same ids and the same content every time.
"""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from detectors.pack import Action, ActionKind, Mode, Severity
    from detectors.rules import Condition, Rule

__all__ = [
    "Alert",
    "Decision",
    "Incident",
    "IncidentState",
    "IncidentTracker",
    "IncidentUpdate",
    "Output",
    "stable_id",
]

IncidentState: TypeAlias = Literal["opened", "updated", "closed"]

_MIN_CLOSE_AFTER_MS: Final = 1_800_000


def stable_id(prefix: str, *parts: object) -> str:
    """A deterministic id: ``prefix_`` and 20 hexadecimal digits over the parts."""
    digest = hashlib.blake2b(digest_size=10)
    for part in parts:
        encoded = str(part).encode()
        digest.update(len(encoded).to_bytes(4, "little"))
        digest.update(encoded)
    return f"{prefix}_{digest.hexdigest()}"


@dataclass(frozen=True, slots=True)
class Alert:
    """A finding that passed cooldown. ``context`` holds columns of the event that fired it."""

    alert_id: str
    incident_id: str
    rule_id: str
    rule_version: str
    pack_version: str
    title: str
    severity: Severity
    mode: Mode
    key_space: str
    key: str
    time_ms: int
    event_id: str
    sequence: int
    suppressed: int
    summary: str
    evidence: tuple[Condition, ...]
    context: Mapping[str, Any]
    runbook: str
    tags: tuple[str, ...] = ()
    action: Action | None = None


@dataclass(frozen=True, slots=True)
class IncidentUpdate:
    """An incident as it stands after a change; the newest one is the incident."""

    incident_id: str
    state: IncidentState
    rule_id: str
    rule_version: str
    title: str
    severity: Severity
    mode: Mode
    key_space: str
    key: str
    opened_ms: int
    last_finding_ms: int
    time_ms: int
    alerts: int
    findings: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What should happen to a user, until when, and why (``rule:ID`` or ``limit:NAME``)."""

    decision_id: str
    user_id: str
    kind: ActionKind
    scope: str
    reason: str
    time_ms: int
    expires_ms: int
    alert_id: str | None = None


Output: TypeAlias = Alert | IncidentUpdate | Decision


@dataclass(slots=True)
class Incident:
    """An open incident: the alerts of one rule and one key."""

    incident_id: str
    rule: Rule
    key: str
    opened_ms: int
    last_finding_ms: int
    last_alert_ms: int
    alerts: int = 0
    findings: int = 0
    suppressed: int = 0

    def update(self, state: IncidentState, time_ms: int) -> IncidentUpdate:
        return IncidentUpdate(
            incident_id=self.incident_id,
            state=state,
            rule_id=self.rule.spec.id,
            rule_version=self.rule.version,
            title=self.rule.spec.title,
            severity=self.rule.spec.severity,
            mode=self.rule.spec.mode,
            key_space=self.rule.spec.key,
            key=self.key,
            opened_ms=self.opened_ms,
            last_finding_ms=self.last_finding_ms,
            time_ms=time_ms,
            alerts=self.alerts,
            findings=self.findings,
        )


@dataclass(slots=True)
class IncidentTracker:
    """Open incidents of one partition, at most ``capacity``; beyond that the longest idle closes.

    Feed findings in log order; call ``close_due`` with the watermark before each finding and
    after each batch, so that outputs come in the same order however the log is cut.
    """

    capacity: int = 100_000
    evicted: int = 0
    _open: dict[tuple[str, str], Incident] = field(default_factory=dict)
    _closing: list[tuple[int, str, tuple[str, str]]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._open)

    def suppress(self, rule: Rule, key: str, time_ms: int) -> bool:
        """Count a finding if its incident is in cooldown; False if it is an alert."""
        incident = self._open.get((rule.spec.id, key))
        if incident is None or time_ms - incident.last_alert_ms >= rule.spec.cooldown_ms:
            return False
        incident.findings += 1
        incident.suppressed += 1
        if time_ms > incident.last_finding_ms:
            incident.last_finding_ms = time_ms
        return True

    def alert(self, rule: Rule, key: str, time_ms: int, event_id: str) -> Incident:
        """Count a finding that is an alert; returns its incident, opened if need be.

        ``suppressed`` of the incident holds the findings that cooldown held back since the alert
        before; the caller resets it with the alert it makes.
        """
        spec = rule.spec
        identity = (spec.id, key)
        incident = self._open.get(identity)
        if incident is None:
            incident = Incident(
                stable_id("inc", spec.id, rule.version, spec.key, key, time_ms, event_id),
                rule,
                key,
                opened_ms=time_ms,
                last_finding_ms=time_ms,
                last_alert_ms=time_ms,
            )
            self._open[identity] = incident
            self._schedule(incident, identity)
        incident.findings += 1
        incident.alerts += 1
        incident.last_finding_ms = max(incident.last_finding_ms, time_ms)
        incident.last_alert_ms = max(incident.last_alert_ms, time_ms)
        return incident

    def close_due(self, watermark_ms: int) -> Iterator[IncidentUpdate]:
        """Close incidents whose time has come, in the order of their closing times."""
        while self._closing and self._closing[0][0] <= watermark_ms:
            due_ms, incident_id, identity = heapq.heappop(self._closing)
            incident = self._open.get(identity)
            if incident is None or incident.incident_id != incident_id:
                continue
            closes_ms = incident.last_finding_ms + _close_after_ms(incident.rule)
            if closes_ms > due_ms:
                self._schedule(incident, identity)
                continue
            del self._open[identity]
            yield incident.update("closed", due_ms)

    def evict_over_capacity(self) -> Iterator[IncidentUpdate]:
        """Close the incident that would close first while there are more than ``capacity``."""
        while len(self._open) > self.capacity:
            due_ms, incident_id, identity = heapq.heappop(self._closing)
            incident = self._open.get(identity)
            if incident is None or incident.incident_id != incident_id:
                continue
            del self._open[identity]
            self.evicted += 1
            yield incident.update("closed", min(due_ms, incident.last_finding_ms))

    def _schedule(self, incident: Incident, identity: tuple[str, str]) -> None:
        due_ms = incident.last_finding_ms + _close_after_ms(incident.rule)
        heapq.heappush(self._closing, (due_ms, incident.incident_id, identity))


def _close_after_ms(rule: Rule) -> int:
    return max(2 * rule.spec.cooldown_ms, _MIN_CLOSE_AFTER_MS)
