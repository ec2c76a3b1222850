"""Telling the detection what people found: verdicts as ``verdict.given`` events.

Each is about one user of the incident, on the topic of feedback, keyed by that user. Ids follow
from the verdict and the user: sent twice, it is the same event.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError

from detectors.incidents import stable_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitor.store.people import StoredVerdict
    from monitor.store.reading import Dossier

__all__ = ["VerdictPublishError", "publish_verdict", "subjects_of", "verdict_events"]

_CONNECT_TIMEOUT_MS: Final = 3_000
_TIMEOUT_MS: Final = 10_000
_TIMEOUT_S: Final = 15.0
_USER: Final = "user"
_UNNAMED: Final = "#"


class VerdictPublishError(Exception):
    """A verdict could not be published, or only to a part."""


def subjects_of(dossier: Dossier) -> list[str]:
    """The users that an incident is about: its key, or the members that its alerts name.

    A member whose name was forgotten (its hash is told) cannot be named to the detection either.
    """
    if dossier.incident["key_space"] == _USER:
        return [dossier.incident["key"]]
    members: dict[str, None] = {}
    for alert in dossier.alerts:
        for member in (alert.get("group") or {}).get("members", ()):
            if not member["user_id"].startswith(_UNNAMED):
                members[member["user_id"]] = None
    return list(members)


def verdict_events(verdict: StoredVerdict, subjects: Sequence[str]) -> list[bytes]:
    """An event about each subject, as ``monitor.wire.schema`` has it. Who gave it is its actor."""
    return [
        msgspec.json.encode(
            {
                "event_id": stable_id("evt", verdict.verdict_id, subject),
                "type": "verdict.given",
                "time": verdict.time_ms,
                "user_id": verdict.author,
                "account": {"created_at": 0, "tier": "enterprise", "verified": True},
                "client": {},
                "feedback": {
                    "kind": "verdict",
                    "subject_user_id": subject,
                    "reason": verdict.reason or None,
                    "verdict": verdict.verdict,
                },
            }
        )
        for subject in subjects
    ]


def publish_verdict(
    brokers: Sequence[str], topic: str, verdict: StoredVerdict, subjects: Sequence[str]
) -> None:
    """Publish and wait until the broker has all of it.

    Raises:
        VerdictPublishError: it does not answer or refuses.
    """
    try:
        producer: Any = KafkaProducer(
            bootstrap_servers=list(brokers),
            client_id="floodwatch-incidents",
            acks="all",
            bootstrap_timeout_ms=_CONNECT_TIMEOUT_MS,
            max_block_ms=_TIMEOUT_MS,
            delivery_timeout_ms=_TIMEOUT_MS,
            request_timeout_ms=_TIMEOUT_MS // 2,
            allow_auto_create_topics=False,
        )
    except (KafkaError, OSError, ValueError) as error:
        raise VerdictPublishError(
            f"no Kafka broker answers at {', '.join(brokers)} ({error})"
        ) from error
    try:
        sent = [
            producer.send(topic, key=subject.encode(), value=event)
            for subject, event in zip(subjects, verdict_events(verdict, subjects), strict=True)
        ]
        for one in sent:
            one.get(timeout=_TIMEOUT_S)
    except KafkaError as error:
        raise VerdictPublishError(f"{topic} at {', '.join(brokers)} refused: {error!r}") from error
    finally:
        with suppress(KafkaError):  # All that matters was waited for.
            producer.close(timeout=1)
