"""The Kafka that the other integration tests stand on does what they rely on."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.kafka import ExistingBroker, KafkaBroker, create_topic
from tests.servers import ServerError

_DEADLINE_S = 30
_MESSAGES = [f"message {number}".encode() for number in range(500)]


def test_what_is_produced_is_consumed_in_order(kafka: KafkaBroker | ExistingBroker) -> None:
    """A consumer reads a partition's messages, all of them, in the order they were sent."""
    topic = create_topic(kafka.bootstrap, "round-trip")
    _produce(kafka.bootstrap, topic)
    assert _consume(kafka.bootstrap, topic) == _MESSAGES


def test_a_topic_nobody_declared_is_refused(kafka: KafkaBroker | ExistingBroker) -> None:
    """Reading does not create a topic: the consumer knows no partition of it."""
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap)
    try:
        assert not consumer.partitions_for_topic("never-declared")
        assert "never-declared" not in consumer.topics()
    finally:
        consumer.close()


def test_kill_and_start_keep_the_data(own_kafka: KafkaBroker) -> None:
    """What the broker acknowledged is there after SIGKILL and a start, at the same address."""
    topic = create_topic(own_kafka.bootstrap, "killed")
    _produce(own_kafka.bootstrap, topic)
    bootstrap, pid = own_kafka.bootstrap, own_kafka.pid
    own_kafka.kill()
    assert not own_kafka.running
    own_kafka.start()
    assert own_kafka.bootstrap == bootstrap
    assert own_kafka.pid != pid
    assert _consume(bootstrap, topic) == _MESSAGES


def test_stop_and_start_keep_the_data(own_kafka: KafkaBroker) -> None:
    """An orderly stop and a start lose nothing either."""
    topic = create_topic(own_kafka.bootstrap, "stopped")
    _produce(own_kafka.bootstrap, topic)
    own_kafka.stop()
    own_kafka.start()
    assert _consume(own_kafka.bootstrap, topic) == _MESSAGES


def test_a_failed_start_says_why(own_kafka: KafkaBroker, tmp_path: Path) -> None:
    """A port that is taken, and a configuration that Kafka refuses, are errors with the cause."""
    port = int(own_kafka.bootstrap.rpartition(":")[2])
    with pytest.raises(ServerError, match=f"port {port} is taken"):
        KafkaBroker(folder=tmp_path, port=port).start()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.properties").write_text("version=99\n")
    with pytest.raises(ServerError, match=r"(?s)ended while starting.*version"):
        KafkaBroker(folder=tmp_path).start()


@pytest.mark.usefixtures("own_kafka")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_the_broker_ends_with_a_killed_parent(tmp_path: Path) -> None:
    """Tests that are killed leave no broker behind."""
    program = (
        "import sys, time; from pathlib import Path; from tests.kafka import KafkaBroker\n"
        "broker = KafkaBroker(folder=Path(sys.argv[1])); broker.start()\n"
        "print(broker.pid, flush=True); time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        broker_pid = int(parent.stdout.readline())
        # A handle of that very process; it becomes readable when the process ends.
        handle = os.pidfd_open(broker_pid)
        parent.kill()
    try:
        readable, _, _ = select.select([handle], [], [], _DEADLINE_S)
    finally:
        os.close(handle)
    assert readable


def _produce(bootstrap: str, topic: str) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    try:
        futures = [producer.send(topic, message) for message in _MESSAGES]
        for future in futures:
            future.get(timeout=_DEADLINE_S)
    finally:
        producer.close()


def _consume(bootstrap: str, topic: str) -> list[bytes]:
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        consumer_timeout_ms=_DEADLINE_S * 1000,
    )
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        messages: list[bytes] = []
        while len(messages) < len(_MESSAGES):
            messages.append(next(consumer).value)
        return messages
    finally:
        consumer.close()
