"""A real Apache Kafka for tests and development: one KRaft node on the loopback."""

from __future__ import annotations

from tests.kafka.broker import ExistingBroker, KafkaBroker
from tests.kafka.jars import JarsError
from tests.kafka.topics import create_topic

__all__ = ["ExistingBroker", "JarsError", "KafkaBroker", "create_topic"]
