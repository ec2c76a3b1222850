"""Alerts as OCSF findings: what the schema's own models take, and all that an alert says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from py_ocsf_models import OCSF_VERSION as MODELS_VERSION
from py_ocsf_models.events.findings.detection_finding import DetectionFinding

from detectors.group_alerts import Group, GroupKey, GroupMember, GroupTrait
from detectors.incidents import Alert
from detectors.pack import SEVERITIES, Action
from monitor.cloudevents import alert_event, decode_event, encode_event, finding_event
from monitor.kafka.outbound import finding_messages
from monitor.kafka.topics import TopicNames, declare_topics
from monitor.ocsf import OCSF_SCHEMA, OCSF_VERSION, detection_finding
from monitor.pipeline import PipelineResult
from monitor.sinks import FindingSink
from tests.support.outputs import a_decision, an_alert, an_incident

GROUP = Group(
    version=2,
    statement="6 users at once on one key, expected 1.2: as rare as once in 400 days",
    members=(GroupMember("u1", 2.0, core=True), GroupMember("u2", 1.0, core=False)),
    members_left_out=1,
    keys=(GroupKey("asset", "v1", 2, 3, 0.99, 7),),
    keys_left_out=0,
    key_spaces=("asset",),
    median_gap_s=1.0,
    p90_gap_s=2.0,
    actions=3,
    first_ms=1,
    newest_ms=2,
    event_ids=("e1", "e2"),
    timeline=((0, 3),),
    left_out=0,
    traits=(GroupTrait("blocked", "were blocked by the guard in the last day", 0.5, 0.01),),
)


def alerts() -> list[Alert]:
    plain = an_alert(1)
    again = replace(
        plain, sequence=3, suppressed=4, tags=("automation",), action=Action("throttle", "all", 60)
    )
    group = replace(plain, key_space="campaign", key="cmp_1", group=GROUP)
    graded = [replace(plain, severity=severity) for severity in SEVERITIES]
    return [plain, again, group, *graded]


@pytest.mark.parametrize("alert", alerts(), ids=("plain", "again", "group", *SEVERITIES))
def test_a_finding_is_what_the_schema_says(alert: Alert) -> None:
    """Every value is of its type, required ones are there, and no field is of our invention."""
    finding = json.loads(json.dumps(detection_finding(alert)))
    parsed = DetectionFinding.model_validate(finding)
    assert parsed.model_dump(mode="json", exclude_unset=True) == finding
    assert OCSF_VERSION == MODELS_VERSION


def test_alerts_of_an_incident_are_one_finding() -> None:
    first, again, *_ = (detection_finding(alert) for alert in alerts())
    assert first["finding_info"]["uid"] == again["finding_info"]["uid"] == "inc_1"
    assert (first["activity_name"], again["activity_name"]) == ("Create", "Update")
    assert (first["type_uid"], again["type_uid"]) == (200401, 200402)
    assert again["count"] == 5


def test_nothing_that_an_alert_says_is_lost() -> None:
    group = detection_finding(alerts()[2])
    assert [resource["uid"] for resource in group["resources"]] == ["u1", "u2"]
    assert [event["uid"] for event in group["finding_info"]["related_events"]] == ["e1", "e2"]
    assert group["unmapped"]["group"]["statement"] == GROUP.statement
    plain = detection_finding(an_alert(1))
    assert plain["resources"] == [{"uid": "user-1", "type": "user"}]
    assert plain["evidences"][0]["data"]["column"] == "generations_1m"
    assert plain["unmapped"]["context"] == {"tier": "free", "verified": False}
    assert "docs/runbooks/burst.md" in plain["remediation"]["desc"]


def test_a_finding_travels_like_an_alert() -> None:
    """Same id, subject and time, so that a receiver can drop repeats; and its schema is named."""
    alert = an_alert(4)
    event = decode_event(encode_event(finding_event(alert, "/here")))
    native = decode_event(encode_event(alert_event(alert, "/here")))
    assert (event.id, event.subject, event.time) == (native.id, native.subject, native.time)
    assert event.dataschema == OCSF_SCHEMA
    assert "dataschema" not in json.loads(encode_event(alert_event(alert, "/here")))


def test_findings_are_published_where_a_topic_is_named_for_them() -> None:
    result = PipelineResult(outputs=[an_alert(1), an_incident(1), a_decision(1)])
    without = finding_messages(result, TopicNames(), "/here")
    names = TopicNames(findings="siem")
    messages = finding_messages(result, names, "/here")
    (finding,) = (message for message in messages if message.topic == "siem")
    assert [message for message in messages if message.topic != "siem"] == without
    assert (finding.key, finding.value is not None) == (b"user-1", True)
    declared = {spec.name for spec in declare_topics(names)}
    assert declared - {spec.name for spec in declare_topics(TopicNames())} == {"siem"}


def test_the_sink_writes_alerts_only_one_a_line(tmp_path: Path) -> None:
    sink = FindingSink(tmp_path / "out", "/replay")
    sink.write([an_alert(1), an_incident(1), a_decision(1)])
    sink.write([an_alert(2)])
    sink.close()
    lines = (tmp_path / "out" / "findings.ndjson").read_bytes().splitlines()
    assert [decode_event(line).id for line in lines] == ["alr_1", "alr_2"]
