"""What was published, beside what should have been: every id, and every copy of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from detectors.incidents import Alert, Decision, IncidentUpdate, Output
from monitor.cloudevents import ALERT_TYPE, DECISION_TYPE, INCIDENT_TYPE
from monitor.packs import load_pack
from monitor.store import Store
from tests.chaos.reading import read_topic

__all__ = ["Comparison", "Published", "compare", "message_id", "read_published", "rows_in_store"]


class _Envelope(msgspec.Struct):
    id: str


class _Message(msgspec.Struct):
    id: str
    type: str
    data: dict[str, Any]


_OUTPUTS: dict[str, type[Alert | Decision | IncidentUpdate]] = {
    ALERT_TYPE: Alert,
    DECISION_TYPE: Decision,
    INCIDENT_TYPE: IncidentUpdate,
}


_SPACES_OF_USERS: Final = ("user", "rule", "table", "model")


@dataclass(frozen=True, slots=True)
class Published:
    """The messages of one topic in the order of its partitions; ``copies`` are by id."""

    topic: str
    messages: Sequence[bytes]
    copies: Mapping[str, Sequence[bytes]]

    @property
    def duplicates(self) -> int:
        """Messages beyond the first of their id."""
        return len(self.messages) - len(self.copies)

    @property
    def contradictory(self) -> list[str]:
        """Ids of which two copies differ."""
        return [name for name, copies in self.copies.items() if len(set(copies)) > 1]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ids of one topic: expected but not there, there but not expected, of other content."""

    topic: str
    expected: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    different: tuple[str, ...]


def message_id(value: bytes) -> str:
    """The id of a CloudEvent."""
    return msgspec.json.decode(value, type=_Envelope).id


def _of_users(value: bytes) -> bool:
    """Whether it is of the stage of users: what the others say depends on the log of traces."""
    data = msgspec.json.decode(value, type=_Message).data
    if data.get("reason") in _decided_later():
        return False
    return data.get("key_space", "user") in _SPACES_OF_USERS


@cache
def _decided_later() -> frozenset[str]:
    """The reasons of decisions that later stages make."""
    return frozenset(f"rule:{rule.id}" for rule in load_pack("default").rules if rule.key != "user")


def read_published(bootstrap: str, topic: str, partitions: int) -> Published:
    """All messages on a topic that the stage of users has published."""
    records = read_topic(bootstrap, topic, partitions)
    messages = [record.value for record in records if _of_users(record.value)]
    copies: dict[str, list[bytes]] = {}
    for message in messages:
        copies.setdefault(message_id(message), []).append(message)
    return Published(topic, messages, copies)


def compare(published: Published, expected: Mapping[str, bytes]) -> Comparison:
    """Hold every copy of every id against the bytes that it should have."""
    there = published.copies
    return Comparison(
        published.topic,
        len(expected),
        missing=tuple(sorted(expected.keys() - there.keys())),
        unexpected=tuple(sorted(there.keys() - expected.keys())),
        different=tuple(
            sorted(
                name
                for name in expected.keys() & there.keys()
                if any(copy != expected[name] for copy in there[name])
            )
        ),
    )


def rows_in_store(path: Path, published: Sequence[Published]) -> dict[str, int]:
    """Write every message, duplicates too, into a new SQLite store; its rows by table."""
    store = Store(f"sqlite:///{path}")
    try:
        for topic in published:
            store.write([_output(message) for message in topic.messages])
        return store.counts()
    finally:
        store.close()


def _output(value: bytes) -> Output:
    message = msgspec.json.decode(value, type=_Message)
    return _OUTPUTS[message.type](**message.data)
