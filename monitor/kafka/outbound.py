"""Messages on their way out: what the worker publishes for a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitor.cloudevents import (
    CONTENT_TYPE,
    CloudEvent,
    alert_event,
    decision_event,
    encode_event,
    finding_event,
    incident_event,
)
from monitor.trace_messages import encode_traces

if TYPE_CHECKING:
    from monitor.kafka.topics import TopicNames
    from monitor.pipeline import PipelineResult
    from monitor.trace_messages import Outgoing

__all__ = ["OutboundMessage", "finding_messages", "trace_messages"]


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """A message to publish (a tombstone, if it has no value).

    Without a ``partition`` that follows from the key.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None


def finding_messages(
    result: PipelineResult, names: TopicNames, source: str
) -> list[OutboundMessage]:
    """Alerts keyed by what they are about, decisions by user, incidents by incident id.

    With a topic of findings, alerts go there too, as OCSF has them.

    ``source`` is the CloudEvents source. Within a topic the order is the result's.
    """
    messages = [
        _message(names.alerts, alert.key, alert_event(alert, source)) for alert in result.alerts
    ]
    if names.findings:
        messages += [
            _message(names.findings, alert.key, finding_event(alert, source))
            for alert in result.alerts
        ]
    messages += [
        _message(names.incidents, update.incident_id, incident_event(update, source))
        for update in result.incidents
    ]
    messages += [
        _message(names.decisions, decision.user_id, decision_event(decision, source))
        for decision in result.decisions
    ]
    return messages


def trace_messages(
    outgoing: Outgoing, *, topic: str, partition: int, partitions: int, lineage: str, targets: int
) -> list[OutboundMessage]:
    """The rows of a step of one of ``partitions``: a message for each of ``targets`` partitions."""
    return [
        OutboundMessage(topic, None, value, partition=target)
        for piece in outgoing.pieces()
        for target, value in enumerate(
            encode_traces(piece, partition, partitions, lineage, targets)
        )
    ]


def _message(topic: str, key: str, event: CloudEvent) -> OutboundMessage:
    headers = (("content-type", CONTENT_TYPE.encode()),)
    return OutboundMessage(topic, key.encode(), encode_event(event), headers)
