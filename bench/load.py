"""Puts the events into the topics, before anything is timed."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from bench.errors import BenchError
from monitor.kafka.topics import TopicNames

__all__ = ["load"]

_FLUSH_DEADLINE_S: Final = 60.0


def load(bootstrap: str, file: Path, events: int, names: TopicNames) -> None:
    """Produce the first ``events`` lines of an NDJSON file, each to the topic of its type.

    Keyed by user as producers of events key them (Java's partitioner), in zstd batches of up to
    64 KiB: every contender reads these. Raises BenchError where one is not acknowledged.
    """
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "compression.type": "zstd",
            "batch.size": 65_536,
            "linger.ms": 50,
            "acks": "all",
            "enable.idempotence": True,
            "log_level": 3,
            "queue.buffering.max.messages": 100_000,
        }
    )
    refused: list[KafkaError] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            refused.append(error)

    sent = 0
    with file.open("rb") as lines:
        for line in islice(lines, events):
            sent += 1
            topic, key = _address(line, names)
            message = {"topic": topic, "key": key, "value": line.rstrip(b"\n")}
            while True:
                try:
                    producer.produce(**message, on_delivery=delivered)
                    break
                except BufferError:  # The queue is full: let some of it go out.
                    producer.poll(0.1)
            producer.poll(0)
    waiting = producer.flush(_FLUSH_DEADLINE_S)
    if refused or waiting or sent != events:
        reason = refused[0] if refused else "not acknowledged in time or too few in the file"
        raise BenchError(f"{events} events to load, {sent} read, {waiting} waiting: {reason}")


def _address(line: bytes, names: TopicNames) -> tuple[str, str]:
    """Topic and key: feedback is keyed by the user whom it is about."""
    event = msgspec.json.decode(line)
    feedback = event.get("feedback")
    if feedback is not None:
        return names.feedback_events, feedback["subject_user_id"]
    return (names.sharing_events if "share" in event else names.generation_events), event["user_id"]
