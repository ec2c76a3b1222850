"""The alerts that the workers' own final states say they have made.

An incident counts its alerts, and the id of an alert follows from its incident and its number. So
the incidents that are open in the end, and those that were closed, name every alert that must lie
on the topic, whatever the order in which events were taken; and no other may lie there: it would
come from a history that did not become the state.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from detectors.incidents import stable_id
from detectors.stages import UserStage
from tests.chaos.published import Comparison, Published

__all__ = ["compare_with_history"]


class _Incident(msgspec.Struct):
    incident_id: str
    state: str
    alerts: int


class _Message(msgspec.Struct):
    data: _Incident


def compare_with_history(
    stages: Iterable[UserStage], alerts: Published, incidents: Published
) -> tuple[Comparison, Comparison]:
    """Hold the ids of alerts, and of incidents, against what the final states have counted.

    Of an incident its opening must be there, and its closing unless it is open; messages in
    between are named by their times and cannot be foretold.
    """
    counted: dict[str, int] = {}
    for stage in stages:
        for incident in stage.incidents._open.values():
            counted[incident.incident_id] = incident.alerts
    opened = set(counted)
    published: dict[str, set[str]] = {}
    for message in incidents.messages:
        update = msgspec.json.decode(message, type=_Message).data
        published.setdefault(update.incident_id, set()).add(update.state)
        if update.state == "closed":
            counted[update.incident_id] = update.alerts
    wanted = {
        stable_id("alr", name, n + 1) for name, count in counted.items() for n in range(count)
    }
    there = alerts.copies.keys()
    unopened = {name for name in counted if "opened" not in published.get(name, ())}
    unknown = published.keys() - counted.keys()
    reopened = {name for name in opened if "closed" in published.get(name, ())}
    return (
        Comparison(
            alerts.topic,
            len(wanted),
            missing=tuple(sorted(wanted - there)),
            unexpected=tuple(sorted(there - wanted)),
            different=(),
        ),
        Comparison(
            incidents.topic,
            len(counted),
            missing=tuple(sorted(unopened)),
            unexpected=tuple(sorted(unknown)),
            different=tuple(sorted(reopened)),
        ),
    )
