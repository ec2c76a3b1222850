"""Outputs as CloudEvents 1.0 in structured JSON form.

The format: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
Ids are stable: the same log gives the same ids, so a receiver may drop what it has seen.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from monitor.ocsf import OCSF_SCHEMA, detection_finding

if TYPE_CHECKING:
    from detectors.incidents import Alert, Decision, IncidentUpdate

__all__ = [
    "ALERT_TYPE",
    "CONTENT_TYPE",
    "DECISION_TYPE",
    "FINDING_TYPE",
    "INCIDENT_TYPE",
    "CloudEvent",
    "alert_event",
    "decision_event",
    "decode_event",
    "encode_event",
    "finding_event",
    "incident_event",
]

ALERT_TYPE: Final = "io.floodwatch.alert.v1"
DECISION_TYPE: Final = "io.floodwatch.decision.v1"
INCIDENT_TYPE: Final = "io.floodwatch.incident.v1"
FINDING_TYPE: Final = "io.floodwatch.ocsf.detection_finding.v1"
CONTENT_TYPE: Final = "application/cloudevents+json; charset=UTF-8"

_SPEC_VERSION: Final = "1.0"


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope. ``time`` is the event time (RFC 3339, UTC, milliseconds), not the sender's."""

    specversion: str = _SPEC_VERSION
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str = "application/json"
    dataschema: str | msgspec.UnsetType = msgspec.UNSET
    data: object


def alert_event(alert: Alert, source: str) -> CloudEvent:
    """An alert; its subject is the key that it is about."""
    return CloudEvent(
        id=alert.alert_id,
        source=source,
        type=ALERT_TYPE,
        subject=alert.key,
        time=rfc3339(alert.time_ms),
        data=alert,
    )


def finding_event(alert: Alert, source: str) -> CloudEvent:
    """An alert as an OCSF Detection Finding; otherwise like ``alert_event``."""
    return CloudEvent(
        id=alert.alert_id,
        source=source,
        type=FINDING_TYPE,
        subject=alert.key,
        time=rfc3339(alert.time_ms),
        dataschema=OCSF_SCHEMA,
        data=detection_finding(alert),
    )


def incident_event(update: IncidentUpdate, source: str) -> CloudEvent:
    """An incident as it stands after a change; the id names the incident and the change."""
    return CloudEvent(
        id=f"{update.incident_id}:{update.state}:{update.alerts}:{update.time_ms}",
        source=source,
        type=INCIDENT_TYPE,
        subject=update.key,
        time=rfc3339(update.time_ms),
        data=update,
    )


def decision_event(decision: Decision, source: str) -> CloudEvent:
    """A decision; its subject is the user."""
    return CloudEvent(
        id=decision.decision_id,
        source=source,
        type=DECISION_TYPE,
        subject=decision.user_id,
        time=rfc3339(decision.time_ms),
        data=decision,
    )


def encode_event(event: CloudEvent) -> bytes:
    """UTF-8 JSON."""
    return msgspec.json.encode(event)


def decode_event(message: bytes) -> CloudEvent:
    """The inverse of ``encode_event``; ``data`` as plain JSON values.

    Raises msgspec.DecodeError for what is not JSON, msgspec.ValidationError for another shape.
    """
    return msgspec.json.decode(message, type=CloudEvent)


def rfc3339(time_ms: int) -> str:
    """Milliseconds since the Unix epoch as ``2026-01-31T23:59:59.123Z``."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
