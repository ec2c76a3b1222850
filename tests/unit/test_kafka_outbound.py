"""What is published for a result: CloudEvents with stable ids, keyed for their readers."""

from __future__ import annotations

import json
from dataclasses import replace

from detectors.incidents import Alert, Decision, IncidentUpdate
from detectors.rules import Condition
from monitor.cloudevents import decode_event
from monitor.kafka.outbound import finding_messages
from monitor.kafka.topics import TopicNames
from monitor.pipeline import PipelineResult

_ALERT = Alert(
    alert_id="alr_1",
    incident_id="inc_1",
    rule_id="burst",
    rule_version="v1",
    pack_version="p1",
    title="Burst",
    severity="high",
    mode="live",
    key_space="user",
    key="ünn",
    time_ms=1_700_000_000_007,
    event_id="e1",
    sequence=1,
    suppressed=0,
    summary="many",
    evidence=(Condition("generations_1m", ">", 20.0, 31.0, holds=True),),
    context={"ip": "10.0.0.1", "duration_s": None},
    runbook="burst.md",
)
_INCIDENT = IncidentUpdate(
    incident_id="inc_1",
    state="opened",
    rule_id="burst",
    rule_version="v1",
    title="Burst",
    severity="high",
    mode="live",
    key_space="user",
    key="ünn",
    opened_ms=1_700_000_000_007,
    last_finding_ms=1_700_000_000_007,
    time_ms=1_700_000_000_007,
    alerts=1,
    findings=1,
)
_DECISION = Decision("dec_1", "ünn", "throttle", "generation", "rule:burst", 1_700_000_000_007, 9)


def test_each_kind_goes_to_its_topic_under_its_key() -> None:
    result = PipelineResult(outputs=[_DECISION, _ALERT, _INCIDENT])
    messages = {m.topic: m for m in finding_messages(result, TopicNames(), "/floodwatch")}
    assert messages["alerts"].key == "ünn".encode()
    assert messages["incidents"].key == b"inc_1"
    assert messages["decisions"].key == "ünn".encode()


def test_an_alert_is_a_cloud_event_with_its_evidence() -> None:
    (message,) = finding_messages(PipelineResult(outputs=[_ALERT]), TopicNames(), "/here")
    event = json.loads(message.value or b"")
    data = event.pop("data")
    assert event == {
        "specversion": "1.0",
        "id": "alr_1",
        "source": "/here",
        "type": "io.floodwatch.alert.v1",
        "subject": "ünn",
        "time": "2023-11-14T22:13:20.007Z",
        "datacontenttype": "application/json",
    }
    assert data["rule_id"] == "burst"
    assert data["context"] == {"ip": "10.0.0.1", "duration_s": None}
    (evidence,) = data["evidence"]
    assert (evidence["column"], evidence["value"], evidence["threshold"]) == (
        "generations_1m",
        31.0,
        20.0,
    )


def test_the_id_of_an_incident_names_the_change() -> None:
    later = replace(_INCIDENT, state="closed", time_ms=1_700_000_900_000)
    messages = finding_messages(PipelineResult(outputs=[_INCIDENT, later]), TopicNames(), "/here")
    ids = [decode_event(message.value or b"").id for message in messages]
    assert len(set(ids)) == 2
    assert {message.key for message in messages} == {b"inc_1"}


def test_the_same_result_gives_the_same_bytes() -> None:
    results = [PipelineResult(outputs=[_ALERT, _INCIDENT, _DECISION]) for _ in range(2)]
    first, second = (finding_messages(result, TopicNames(), "/here") for result in results)
    assert first == second
