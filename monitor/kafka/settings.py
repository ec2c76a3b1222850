"""Settings of the Kafka worker: read once by the composition root and passed down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from monitor.checkpoint.partition import CheckpointSettings
from monitor.kafka.errors import WorkerError
from monitor.kafka.topics import TopicNames

__all__ = ["StageName", "WorkerSettings"]

StageName: TypeAlias = Literal["users", "shared", "groups"]

_SHORTEST_SESSION_S = 6.0  # the broker's group.min.session.timeout.ms


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """How one worker process reads, merges and publishes. Raises WorkerError on a bad value.

    ``brokers`` are ``host:port``. ``group`` is the consumer group, and the Faust app's id; each
    ``stage`` after that of users has one of its own, named after it.
    ``instance_id`` makes the membership static: a worker that comes back under the same id
    within the session timeout gets its partitions back without a rebalance.

    ``max_chunk_records`` bounds a chunk, ``fetch_bytes`` what the broker returns per partition,
    ``buffer_events`` the events of one input partition that wait to be merged before reading of
    it pauses; what is on its way then still comes, one or two fetches (of ``fetch_bytes`` before
    they are decompressed). ``merge_wait_ms`` is how long an input partition must be read to its
    end and silent before the merge goes on without it.

    ``standby_replicas`` is how many other workers follow a partition's checkpoints, so that one
    of them can take over at once; ``flush_timeout_s`` how long giving a partition away may wait
    for its last checkpoint.
    """

    brokers: tuple[str, ...] = ("127.0.0.1:9092",)
    group: str = "floodwatch"
    stage: StageName = "users"
    instance_id: str | None = None
    topics: TopicNames = field(default_factory=TopicNames)
    event_source: str = "/floodwatch"

    max_chunk_records: int = 10_000
    fetch_bytes: int = 1024 * 1024
    fetch_wait_ms: int = 100
    stream_buffer_chunks: int = 8
    buffer_events: int = 32_000
    process_events: int = 16_000
    merge_wait_ms: int = 100
    tick_ms: int = 50

    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    standby_replicas: int = 1
    flush_timeout_s: float = 20.0

    session_timeout_s: float = 6.0
    heartbeat_interval_s: float = 1.0
    rebalance_timeout_s: float = 60.0
    request_timeout_s: float = 30.0

    compression: str | None = None
    linger_ms: int = 2
    publish_timeout_s: float = 60.0
    publish_attempts: int = 5
    publish_backoff_s: float = 0.2

    @property
    def inputs(self) -> tuple[str, ...]:
        """The co-partitioned topics that the stage reads."""
        if self.stage == "users":
            return self.topics.inputs
        return (self.topics.traces if self.stage == "shared" else self.topics.meetings,)

    @property
    def next_topic(self) -> str:
        """Where rows for the next stage go."""
        return self.topics.traces if self.stage == "users" else self.topics.meetings

    @property
    def stage_group(self) -> str:
        """The consumer group of the stage."""
        return self.group if self.stage == "users" else self.topics.group_of(self.group, self.stage)

    def __post_init__(self) -> None:
        if not self.brokers:
            raise WorkerError("brokers: none given; name at least one as host:port")
        for broker in self.brokers:
            host, separator, port = broker.rpartition(":")
            if not (host and separator and port.isdigit()):
                raise WorkerError(f"brokers: {broker!r} is not host:port")
        if self.session_timeout_s < _SHORTEST_SESSION_S:
            raise WorkerError(
                f"session_timeout_s: {self.session_timeout_s} is below {_SHORTEST_SESSION_S}, "
                "the least that a Kafka broker accepts by default"
            )
        if self.heartbeat_interval_s > self.session_timeout_s / 2:
            raise WorkerError(
                f"heartbeat_interval_s: {self.heartbeat_interval_s} must be at most half of "
                f"session_timeout_s ({self.session_timeout_s})"
            )
        if self.standby_replicas < 0:
            raise WorkerError(f"standby_replicas: {self.standby_replicas} must not be negative")
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise WorkerError(f"{name}: {getattr(self, name)} must be more than 0")


_POSITIVE = (
    "max_chunk_records",
    "fetch_bytes",
    "fetch_wait_ms",
    "stream_buffer_chunks",
    "buffer_events",
    "process_events",
    "tick_ms",
    "flush_timeout_s",
    "publish_timeout_s",
    "publish_attempts",
)
