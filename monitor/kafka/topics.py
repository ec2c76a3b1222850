"""The topics Floodwatch needs: what they are called, how they are made, how they are checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from monitor.kafka.errors import TopicsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "DEAD_LETTER_SUFFIX",
    "DEFAULT_GROUP",
    "DEFAULT_PARTITIONS",
    "MAX_BLOCK_BYTES",
    "TopicNames",
    "TopicSpec",
    "TopicStatus",
    "check_topics",
    "create_topics",
    "declare_topics",
    "require_topics",
]

DEFAULT_PARTITIONS: Final = 8
DEAD_LETTER_SUFFIX: Final = "-dlq"

DEFAULT_GROUP: Final = "floodwatch"
MAX_BLOCK_BYTES: Final = 8 * 1024 * 1024

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_TIMEOUT_MS: Final = 30_000
_CONNECT_TIMEOUT_MS: Final = 10_000
_NO_ERROR: Final = 0
_UNKNOWN_TOPIC: Final = 3

_INPUT: Final = {
    "cleanup.policy": "delete",
    "retention.ms": str(7 * _DAY_MS),
    "message.timestamp.type": "LogAppendTime",
}
_TRACES: Final = {
    **_INPUT,
    "retention.ms": str(_DAY_MS),
    "max.message.bytes": str(MAX_BLOCK_BYTES),
}
_OUTPUT: Final = {"compression.type": "gzip"}
_ALERTS: Final = {**_OUTPUT, "cleanup.policy": "delete", "retention.ms": str(30 * _DAY_MS)}
_COMPACTED: Final = {
    **_OUTPUT,
    "cleanup.policy": "compact,delete",
    "max.compaction.lag.ms": str(_DAY_MS),
}
_CHECKPOINTS: Final = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.2",
    "max.compaction.lag.ms": str(_HOUR_MS),
    "delete.retention.ms": str(_HOUR_MS),
    # The newest segment is read as it is, with all that is replaced in it: a takeover waits for it.
    "segment.bytes": str(16 * _MIB),
    "segment.ms": str(_HOUR_MS),
    "max.message.bytes": str(MAX_BLOCK_BYTES),
}
_DEAD_LETTERS: Final = {
    **_OUTPUT,
    "cleanup.policy": "delete",
    "retention.ms": str(14 * _DAY_MS),
    "retention.bytes": str(_GIB),
}

TopicState: TypeAlias = Literal["created", "exists", "missing", "differs"]


@dataclass(frozen=True, slots=True)
class TopicNames:
    """The names of the topics. ``with_prefix`` keeps installations on one broker apart.

    Without a name for ``findings`` alerts are not published as OCSF findings as well.
    """

    generation_events: str = "generation-events"
    sharing_events: str = "sharing-events"
    feedback_events: str = "feedback-events"
    traces: str = "traces"
    meetings: str = "meetings"
    alerts: str = "alerts"
    decisions: str = "decisions"
    incidents: str = "incidents"
    findings: str = ""

    @classmethod
    def with_prefix(cls, prefix: str) -> TopicNames:
        """The default names, each after ``prefix``."""
        names = cls()
        given = {field: getattr(names, field) for field in cls.__slots__}
        return cls(**{field: prefix + name for field, name in given.items() if name})

    @property
    def inputs(self) -> tuple[str, str, str]:
        """The co-partitioned topics that events are read from."""
        return (self.generation_events, self.sharing_events, self.feedback_events)

    @property
    def internal_and_inputs(self) -> tuple[str, ...]:
        """Every topic that a stage reads."""
        return (*self.inputs, self.traces, self.meetings)

    @property
    def outputs(self) -> tuple[str, str, str]:
        """The topics that findings are published to."""
        return (self.alerts, self.decisions, self.incidents)

    @staticmethod
    def checkpoints(group: str) -> str:
        """Where a consumer group keeps its state: Faust's name for the table's changelog."""
        return f"{group}-checkpoints-changelog"

    def all_checkpoints(self, group: str) -> tuple[str, ...]:
        """Where the stages with several partitions keep their state."""
        return (self.checkpoints(group), self.checkpoints(self.group_of(group, "shared")))

    def single(self, group: str) -> tuple[str, ...]:
        """Topics of the stage of groups, which has a single partition."""
        return (self.meetings, self.checkpoints(self.group_of(group, "groups")))

    @staticmethod
    def group_of(group: str, stage: str) -> str:
        """The consumer group of a stage after that of users."""
        return f"{group}-{stage}"

    def dead_letters(self, topic: str) -> str:
        """Where records of the input ``topic`` go that cannot be used."""
        return topic + DEAD_LETTER_SUFFIX


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be. ``replication_factor`` -1 leaves the choice to the broker.

    The partition count of a topic that is ``co_partitioned`` (what stages read) must be exact.
    """

    name: str
    partitions: int
    configuration: Mapping[str, str]
    replication_factor: int = -1
    co_partitioned: bool = False


@dataclass(frozen=True, slots=True)
class TopicStatus:
    """What there is of a topic; ``differences`` are phrases, the partition count first.

    ``usable`` is False where the worker must not run: the topic is missing, or it is an input
    with another number of partitions. Other differences are the operator's business and only
    reported.
    """

    name: str
    state: TopicState
    partitions: int
    usable: bool
    differences: tuple[str, ...] = ()


def declare_topics(
    names: TopicNames,
    *,
    group: str = DEFAULT_GROUP,
    partitions: int = DEFAULT_PARTITIONS,
    replication_factor: int = -1,
) -> tuple[TopicSpec, ...]:
    """All topics as they should be.

    Input records carry the time at which the *broker* appended them (``LogAppendTime``): the
    bound on event times in the future is checked against it, so a producer's clock cannot move
    that bound, retention cannot be tricked by old or future times, and replaying old events
    into the topic keeps them. The price: the producer's own record time is lost (the event's
    ``time`` field is what counts), and a mirror that copies the topic writes its own times.
    Outputs keep the time of production. They are compressed by the broker, with what every client
    can read; the producer sends checkpoints too, which are compressed already.

    The compacted topics also delete what is older than their retention: an expired decision is
    of no use, and the number of users has no bound. Checkpoints of ``group`` are kept as long
    as they are valid: what is not is overwritten with tombstones, which the broker cleans up soon
    so that a recovery has little to read.
    """
    by_name = {
        **dict.fromkeys(names.inputs, (partitions, _INPUT)),
        names.traces: (partitions, _TRACES),
        names.meetings: (1, _TRACES),
        names.alerts: (partitions, _ALERTS),
        names.decisions: (partitions, {**_COMPACTED, "retention.ms": str(30 * _DAY_MS)}),
        names.incidents: (partitions, {**_COMPACTED, "retention.ms": str(90 * _DAY_MS)}),
        **dict.fromkeys(names.all_checkpoints(group), (partitions, _CHECKPOINTS)),
        **{name: (1, _CHECKPOINTS) for name in names.single(group) if name != names.meetings},
        **{names.dead_letters(name): (1, _DEAD_LETTERS) for name in names.internal_and_inputs},
    }
    if names.findings:
        by_name[names.findings] = (partitions, _ALERTS)
    exact = {*names.inputs, names.traces, *names.all_checkpoints(group), *names.single(group)}
    durable = {"min.insync.replicas": "2"} if replication_factor >= 3 else {}
    return tuple(
        TopicSpec(
            name,
            count,
            {**configuration, **durable},
            replication_factor,
            co_partitioned=name in exact,
        )
        for name, (count, configuration) in by_name.items()
    )


def create_topics(brokers: Sequence[str], specs: Iterable[TopicSpec]) -> tuple[TopicStatus, ...]:
    """Create what is missing and report on all; running it again changes nothing.

    Raises TopicsError when the broker cannot be reached or refuses, and when a topic exists
    with another number of partitions: that cannot be mended without moving the keys.
    """
    wanted = tuple(specs)
    admin = _connect(brokers)
    try:
        before = _check(admin, wanted)
        missing = {status.name for status in before if status.state == "missing"}
        created = [spec for spec in wanted if spec.name in missing]
        if created:
            _create(admin, created)
        after = _check(admin, wanted)
    except KafkaError as error:
        raise TopicsError(f"the broker at {', '.join(brokers)} refused: {error}") from error
    finally:
        admin.close()
    statuses = tuple(
        TopicStatus(status.name, "created", status.partitions, usable=True)
        if status.name in missing and status.state == "exists"
        else status
        for status in after
    )
    _refuse_unusable(statuses)
    return statuses


def check_topics(brokers: Sequence[str], specs: Iterable[TopicSpec]) -> tuple[TopicStatus, ...]:
    """Compare the broker's topics with ``specs``, changing nothing. Raises TopicsError."""
    admin = _connect(brokers)
    try:
        return _check(admin, tuple(specs))
    except KafkaError as error:
        raise TopicsError(f"the broker at {', '.join(brokers)} refused: {error}") from error
    finally:
        admin.close()


def require_topics(brokers: Sequence[str], names: TopicNames, group: str = DEFAULT_GROUP) -> int:
    """The partition count of the inputs; raises TopicsError unless a worker can run.

    Every topic must exist, and the inputs, the traces and the checkpoints of ``group`` must have
    one partition count, whichever it is: partition n of the inputs is about the same users.
    """
    statuses = check_topics(brokers, declare_topics(names, group=group))
    missing = [status.name for status in statuses if status.state == "missing"]
    if missing:
        raise TopicsError(
            f"topics missing on {', '.join(brokers)}: {', '.join(missing)}; "
            "make them with 'floodwatch topics create'"
        )
    equal = {*names.inputs, names.traces, *names.all_checkpoints(group)}
    several = [s.name for s in statuses if s.name in names.single(group) and s.partitions != 1]
    if several:
        raise TopicsError(
            f"these topics must have 1 partition: {', '.join(several)}; delete and create them anew"
        )
    counts = {s.name: s.partitions for s in statuses if s.name in equal}
    if len(set(counts.values())) != 1:
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise TopicsError(
            f"these topics must have the same number of partitions: {listed}; "
            "recreate the odd one out (partition n of each is about the same users)"
        )
    return next(iter(counts.values()))


def _connect(brokers: Sequence[str]) -> KafkaAdminClient:
    try:
        return KafkaAdminClient(
            bootstrap_servers=list(brokers),
            client_id="floodwatch-topics",
            bootstrap_timeout_ms=_CONNECT_TIMEOUT_MS,
            request_timeout_ms=_TIMEOUT_MS,
        )
    except (KafkaError, OSError, ValueError) as error:
        raise TopicsError(
            f"no Kafka broker answers at {', '.join(brokers)}: {error}; is it running?"
        ) from error


def _create(admin: KafkaAdminClient, specs: Sequence[TopicSpec]) -> None:
    request = {
        spec.name: {
            "num_partitions": spec.partitions,
            "replication_factor": spec.replication_factor,
            "configs": dict(spec.configuration),
        }
        for spec in specs
    }
    response = admin.create_topics(request, timeout_ms=_TIMEOUT_MS, raise_errors=False)
    for topic in response["topics"]:
        error = for_code(topic["error_code"])
        # Someone else may have made it since we looked: the check that follows tells.
        if topic["error_code"] != _NO_ERROR and error is not TopicAlreadyExistsError:
            reason = topic.get("error_message") or error.__name__
            raise TopicsError(f"cannot create topic {topic['name']!r}: {reason}")
    admin.wait_for_topics(list(request), timeout_ms=_TIMEOUT_MS)


def _check(admin: KafkaAdminClient, specs: Sequence[TopicSpec]) -> tuple[TopicStatus, ...]:
    described = {
        topic["name"]: topic for topic in admin.describe_topics([spec.name for spec in specs])
    }
    found: dict[str, int] = {}
    for spec in specs:
        topic = described.get(spec.name)
        code = _UNKNOWN_TOPIC if topic is None else topic["error_code"]
        if topic is not None and code == _NO_ERROR:
            found[spec.name] = len(topic["partitions"])
        elif code != _UNKNOWN_TOPIC:
            raise TopicsError(f"cannot describe topic {spec.name!r}: {for_code(code).__name__}")
    configurations = _configurations(admin, sorted(found))
    return tuple(_status(spec, found, configurations) for spec in specs)


def _configurations(
    admin: KafkaAdminClient, names: Sequence[str]
) -> Mapping[str, Mapping[str, Any]]:
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    described: Mapping[str, Mapping[str, Any]] = admin.describe_configs(
        resources, config_filter="all"
    )["topic"]
    return described


def _status(
    spec: TopicSpec, found: Mapping[str, int], configurations: Mapping[str, Mapping[str, Any]]
) -> TopicStatus:
    if spec.name not in found:
        return TopicStatus(spec.name, "missing", 0, usable=False)
    partitions = found[spec.name]
    differences = []
    if partitions != spec.partitions:
        differences.append(f"{partitions} partitions instead of {spec.partitions}")
    for key, wanted in spec.configuration.items():
        actual = str(configurations[spec.name].get(key, {}).get("value"))
        if set(actual.split(",")) != set(wanted.split(",")):
            differences.append(f"{key} is {actual} instead of {wanted}")
    return TopicStatus(
        spec.name,
        "differs" if differences else "exists",
        partitions,
        usable=partitions == spec.partitions or not spec.co_partitioned,
        differences=tuple(differences),
    )


def _refuse_unusable(statuses: Iterable[TopicStatus]) -> None:
    unusable = [
        f"{status.name}: {'; '.join(status.differences) or status.state}"
        for status in statuses
        if not status.usable
    ]
    if unusable:
        raise TopicsError(
            f"topics that cannot be used: {', '.join(unusable)}; ask for the number of "
            "partitions they have, or delete and create them anew"
        )
