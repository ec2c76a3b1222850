"""What a run came to, measured from outside of the workers: topics, offsets, changelog."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from faust.types import TP

from detectors.state import state_digest
from monitor.checkpoint.partition import CheckpointContext, PartitionCheckpoints
from monitor.kafka.observer import IgnoringObserver
from monitor.pipeline import PartitionPipeline
from tests.simulation.oracle import expect

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from monitor.checkpoint.contract import CommittedOffset
    from tests.simulation.broker import Changelog
    from tests.simulation.run import World

__all__ = ["Verdict", "judge"]


@dataclass
class Verdict:
    """The figures of a run; ``problems`` say in words what is wrong, and are empty if nothing is.

    ``duplicates`` are messages beyond the first of their id: allowed, but worth knowing.
    """

    seed: int
    crashes: dict[str, int] = field(default_factory=dict)
    points: int = 0
    pauses: int = 0
    rebalances: int = 0
    fenced_commits: int = 0
    checkpoints: int = 0
    events: int = 0
    messages: int = 0
    forced_orders: int = 0
    duplicates: int = 0
    unfinished: int = 0
    virtual_s: float = 0.0
    events_lost: int = 0
    state_mismatches: int = 0
    missing: int = 0
    unexpected: int = 0
    differing: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> bool:
        return bool(self.problems)


class _Folded:
    """A changelog as whoever reads all of it sees it."""

    def __init__(self, changelog: Changelog) -> None:
        self.values: dict[str, bytes] = {}
        for _, key, value in changelog.read(0):
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value

    def keys(self, partition: int) -> Collection[str]:
        return list(self.values)

    def get(self, partition: int, key: str) -> bytes | None:
        return self.values.get(key)

    async def put(self, partition: int, items: Mapping[str, bytes | None]) -> None:
        raise AssertionError("nothing is written here")


class _Offsets:
    def __init__(self, world: World) -> None:
        self._group = world.group

    async def committed(self, partition: int, generation: int) -> Mapping[str, CommittedOffset]:
        return self._group.committed(partition)

    async def commit(
        self, partition: int, generation: int, offsets: Mapping[str, CommittedOffset]
    ) -> None:
        raise AssertionError("nothing is written here")


def judge(world: World) -> Verdict:
    """Compare what a run left behind with a single pass."""
    faults, group = world.faults, world.group
    verdict = Verdict(
        world.seed,
        crashes=dict(faults.kills),
        points=faults.points,
        pauses=faults.pauses,
        rebalances=group.rebalances,
        fenced_commits=group.fenced_commits,
        checkpoints=world.history.checkpoints,
        virtual_s=world.loop.time(),
        problems=list(world.problems),
    )
    if verdict.problems:
        return verdict
    expected: dict[object, bytes | None] = {}
    for partition in range(world.knobs.partitions):
        _judge_partition(world, partition, verdict, expected)
    _compare_messages(world, verdict, expected)
    return verdict


def _judge_partition(
    world: World, partition: int, verdict: Verdict, expected: dict[object, bytes | None]
) -> None:
    names = world.knobs.worker.topics
    logs = {topic: world.broker.inputs[TP(topic, partition)] for topic in names.inputs}
    single_pass = partial(
        expect, world.topology, partition, logs, names, world.knobs.worker.event_source
    )
    steps, digest = world.ends[partition]
    wanted = single_pass(steps)
    verdict.events += wanted.events
    verdict.forced_orders += not wanted.in_order
    verdict.events_lost += wanted.records_left
    if wanted.records_left:
        verdict.problems.append(f"partition {partition}: {wanted.records_left} records not taken")
    if not wanted.in_order and world.knobs.span_s == 0.0:
        verdict.problems.append(f"partition {partition}: merged out of order with all there")
    for message in wanted.messages:
        expected[_identity(message.topic, message.value)] = message.value
    committed = world.history.committed_steps(partition)
    stored = wanted if committed == steps else single_pass(committed)
    for what, found, right in (
        ("of the last worker", digest, wanted.digest),
        ("in the changelog", _restored_digest(world, partition), stored.digest),
    ):
        if found is not None and found != right:
            verdict.state_mismatches += 1
            verdict.problems.append(f"partition {partition}: the state {what} differs")
    verdict.unfinished += committed != steps


def _restored_digest(world: World, partition: int) -> str:
    """What the changelog and the committed offsets give a worker that starts now."""
    pipeline = PartitionPipeline(world.topology, world.knobs.worker.topics.inputs)
    context = CheckpointContext(
        blocks=_Folded(world.broker.changelogs[partition]),
        offsets=_Offsets(world),
        observer=IgnoringObserver(),
        offload=_inline,
    )
    checkpoints = PartitionCheckpoints(partition, world.group.generation, pipeline, context)
    asyncio.run(checkpoints.restore())
    return state_digest(pipeline.stage)


async def _inline(work: Any) -> Any:  # noqa: ANN401
    return work()


def _identity(topic: str, value: bytes | None) -> object:
    """What makes a message the same one: a dead letter's source, else its id."""
    decoded = msgspec.json.decode(value or b"null")
    if "id" in decoded:
        return topic, decoded["id"]
    source = decoded["source"]
    return topic, source["topic"], source["partition"], source["offset"]


def _compare_messages(
    world: World, verdict: Verdict, expected: Mapping[object, bytes | None]
) -> None:
    contents: dict[object, set[bytes]] = defaultdict(set)
    for message in world.broker.published:
        contents[_identity(message.topic, message.value)].add(message.value)
    verdict.messages = len(contents)
    verdict.duplicates = len(world.broker.published) - len(contents)
    missing = expected.keys() - contents.keys()
    unexpected = contents.keys() - expected.keys()
    differing = [
        key
        for key, values in contents.items()
        if len(values) > 1 or (key in expected and values != {expected[key]})
    ]
    verdict.missing, verdict.unexpected = len(missing), len(unexpected)
    verdict.differing = len(differing)
    for what, found in (
        ("missing", missing),
        ("unexpected", unexpected),
        ("of different content", differing),
    ):
        if found:
            first = sorted(map(str, found))[:3]
            verdict.problems.append(f"{len(found)} messages {what}: {', '.join(first)}")
