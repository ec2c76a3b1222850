"""Where the workers of a section work: topics and groups on the broker, settings in a file."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec

from monitor.kafka.topics import TopicNames, create_topics, declare_topics
from tests.chaos.control import control_command
from tests.chaos.coordinator import TOPIC
from tests.chaos.reading import committed_offsets
from tests.kafka import create_topic
from tests.support.topics import topic_lines

__all__ = ["PARTITIONS", "Place"]

PARTITIONS: Final = 6
"""Twice as many as workers: Faust gives every worker two, so that whoever is struck has some."""
_CHECKPOINT_INTERVAL_S: Final = 2.0
"""Shorter than by default: more checkpoints to be killed in."""


@dataclass(frozen=True, slots=True)
class Place:
    """Topics of one section on a broker. The control's is None where there is no control."""

    bootstrap: str
    names: TopicNames
    group: str
    control_topic: str | None
    folder: Path
    coordinator_partitions: int

    @classmethod
    def create(cls, bootstrap: str, name: str, folder: Path, *, control: bool) -> Place:
        """Make the topics, all empty."""
        prefix = f"{name}-{uuid.uuid4().hex[:6]}-"
        names, group = TopicNames.with_prefix(prefix), f"{prefix}workers"
        create_topics([bootstrap], declare_topics(names, group=group, partitions=PARTITIONS))
        topic = None
        if control:
            topic = create_topic(bootstrap, f"{prefix}control", partitions=PARTITIONS)
        committed_offsets(bootstrap, group)  # the coordinator makes its topic when first asked
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        try:
            (internal,) = admin.describe_topics([TOPIC])
        finally:
            admin.close()
        return cls(bootstrap, names, group, topic, folder, len(internal["partitions"]))

    @property
    def control_group(self) -> str:
        """The consumer group (and Faust's id) of the control."""
        return f"{self.group}-control"

    def ends(self, topics: Iterable[str]) -> dict[tuple[str, int], int]:
        """The next offset of every partition of ``topics``."""
        wanted = [TopicPartition(topic, n) for topic in topics for n in range(PARTITIONS)]
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            found = admin.list_partition_offsets(dict.fromkeys(wanted, OffsetSpec.LATEST))
        finally:
            admin.close()
        return {(tp.topic, tp.partition): at.offset for tp, at in found.items()}

    def configure(self, merge_wait_ms: int) -> None:
        """Write the settings that workers read when they start."""
        self._settings.write_text(
            f"kafka:\n  brokers: {self.bootstrap}\n  group: {self.group}\n"
            f"  merge_wait_ms: {merge_wait_ms}\n"
            f"  checkpoint_interval_s: {_CHECKPOINT_INTERVAL_S}\n"
            f"  topics:\n{topic_lines(self.names)}\n"
            "metrics: {enabled: false}\n",
            encoding="utf-8",
        )

    def worker_command(self, instance_id: str | None) -> list[str]:
        """The command line of a worker."""
        command = [sys.executable, "-m", "monitor", "worker", "--config", str(self._settings)]
        return command if instance_id is None else [*command, "--instance-id", instance_id]

    def control_command(self) -> list[str]:
        """The command line of a process of the control."""
        assert self.control_topic is not None
        return control_command(self.bootstrap, self.control_group, self.control_topic, PARTITIONS)

    @property
    def _settings(self) -> Path:
        return self.folder / "worker.yaml"
