"""The simulator writes to a real broker what the product reads from it."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.partitioner import murmur2

from monitor.simulator import OutputError, load_scenario, simulate, to_wire_json
from monitor.simulator.kafka_output import event_keys, write_kafka
from tests.kafka import ExistingBroker, KafkaBroker, create_topic

PARTITIONS = 3


def _read_all(bootstrap: str, topic: str) -> dict[int, list[tuple[bytes, bytes]]]:
    """Keys and values of a topic that nobody writes to any more, by partition, in order."""
    places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    consumer: Any = KafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    try:
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        found: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
        while any(consumer.position(place) < ends[place] for place in places):
            for place, records in consumer.poll(timeout_ms=10_000).items():
                found[place.partition] += [(record.key, record.value) for record in records]
        return found
    finally:
        consumer.close()


def test_events_reach_their_topic_keyed_in_order_and_complete(
    kafka: KafkaBroker | ExistingBroker,
) -> None:
    """Co-partitioned: all events of a user lie in partitions of the same number, in order."""
    topics = tuple(create_topic(kafka.bootstrap, partitions=PARTITIONS) for _ in range(3))
    generation, share, feedback = topics
    run = simulate(load_scenario("all-attacks"), seed=8, users=300, minutes=30)
    chunks = [run.events[:2_000], run.events[2_000:]]
    write_kafka(iter(chunks), [kafka.bootstrap], (generation, share, feedback))

    sent = zip(event_keys(run.events), to_wire_json(run.events), strict=True)
    expected: dict[str, dict[int, list[tuple[bytes, bytes]]]] = {
        topic: defaultdict(list) for topic in topics
    }
    for key, value in sent:
        body = next(
            name for name in ("generation", "share", "feedback") if name in json.loads(value)
        )
        topic = {"generation": generation, "share": share, "feedback": feedback}[body]
        partition = (murmur2(key.encode()) & 0x7FFFFFFF) % PARTITIONS
        expected[topic][partition].append((key.encode(), value.encode()))
    for topic in topics:
        assert _read_all(kafka.bootstrap, topic) == expected[topic]


def test_a_broker_that_is_not_there_is_named() -> None:
    """With what to look at, instead of a stack trace."""
    with pytest.raises(OutputError, match=r"kafka://127\.0\.0\.1:9: .*is the broker up"):
        write_kafka(iter([]), ["127.0.0.1:9"])
