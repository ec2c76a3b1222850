"""Topics for one test: fresh names, so that tests sharing a broker do not meet."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from kafka import KafkaAdminClient

__all__ = ["create_topic"]


def create_topic(
    bootstrap: str,
    prefix: str = "test",
    *,
    partitions: int = 1,
    settings: Mapping[str, str] | None = None,
) -> str:
    """Create a topic named ``prefix`` and a random part; return the name once it has leaders."""
    name = f"{prefix}-{uuid.uuid4().hex[:12]}"
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        options = {"num_partitions": partitions, "replication_factor": 1}
        topic = {**options, "configs": dict(settings or {})}
        admin.create_topics({name: topic}, wait_for_metadata=True)
    finally:
        admin.close()
    return name
