"""What a run came to, measured from outside of the workers: topics, offsets, changelog."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
from faust.types import TP

from monitor.checkpoint.partition import CheckpointContext, PartitionCheckpoints
from monitor.kafka.observer import IgnoringObserver
from tests.simulation.oracle import expect, expect_of_rows, received_rows
from tests.simulation.stage import new_pipeline, pipeline_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from detectors.topology import Topology
    from monitor.checkpoint.contract import CommittedOffset
    from monitor.kafka.settings import WorkerSettings
    from tests.simulation.broker import Changelog, InputLog
    from tests.simulation.history import Steps
    from tests.simulation.oracle import Expected
    from tests.simulation.run import World
    from tests.simulation.stage import SimulatedStage

__all__ = ["Verdict", "judge"]


@dataclass
class Verdict:
    """The figures of a run; ``problems`` say in words what is wrong, and are empty if nothing is.

    ``duplicates`` are messages beyond the first of their id: allowed, but worth knowing. ``rows``
    are those that stages passed on, ``swaps`` how often other models were to score.
    """

    seed: int
    crashes: dict[str, int] = field(default_factory=dict)
    points: int = 0
    pauses: int = 0
    rebalances: int = 0
    fenced_commits: int = 0
    checkpoints: int = 0
    swaps: int = 0
    rows: int = 0
    rows_wrong: int = 0
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
    def __init__(self, stage: SimulatedStage) -> None:
        self._group = stage.around.group

    async def committed(self, partition: int, generation: int) -> Mapping[str, CommittedOffset]:
        return self._group.committed(partition)

    async def commit(
        self, partition: int, generation: int, offsets: Mapping[str, CommittedOffset]
    ) -> None:
        raise AssertionError("nothing is written here")


def judge(world: World) -> Verdict:
    """Compare what a run left behind with a single pass."""
    faults = world.faults
    groups = [stage.around.group for stage in world.stages.values()]
    verdict = Verdict(
        world.seed,
        crashes=dict(faults.kills),
        points=faults.points,
        pauses=faults.pauses,
        rebalances=sum(group.rebalances for group in groups),
        fenced_commits=sum(group.fenced_commits for group in groups),
        checkpoints=sum(stage.history.checkpoints for stage in world.stages.values()),
        swaps=world.swaps,
        virtual_s=world.loop.time(),
        problems=list(world.problems),
    )
    if verdict.problems:
        return verdict
    expected: dict[object, bytes | None] = {}
    said: list[pl.DataFrame] = []
    for name, stage in world.stages.items():
        if name != "users":
            _compare_rows(world, stage, verdict, said)
        said = [
            frame
            for partition in range(stage.partitions)
            for frame in _judge_partition(world, stage, partition, verdict, expected)
        ]
    _compare_messages(world, verdict, expected)
    return verdict


def _judge_partition(
    world: World,
    stage: SimulatedStage,
    partition: int,
    verdict: Verdict,
    expected: dict[object, bytes | None],
) -> Sequence[pl.DataFrame]:
    """Compare what there is of a partition; returns the rows for the next stage."""
    settings, what = stage.settings, f"{stage.settings.stage}[{partition}]"
    logs = {topic: world.broker.inputs[TP(topic, partition)] for topic in settings.inputs}
    single_pass = partial(_single_pass, world.topology, partition, logs, settings)
    steps, digest = stage.ends[partition]
    wanted = single_pass(steps)
    verdict.events += wanted.events
    verdict.forced_orders += not wanted.in_order
    verdict.events_lost += wanted.records_left
    if wanted.records_left:
        verdict.problems.append(f"{what}: {wanted.records_left} records not taken")
    if not wanted.in_order and world.knobs.span_s == 0.0:
        verdict.problems.append(f"{what}: merged out of order with all there")
    for message in wanted.messages:
        expected[_identity(message.topic, message.value)] = message.value
    committed = stage.history.committed_steps(partition)
    stored = wanted if committed == steps else single_pass(committed)
    for where, found, right in (
        ("of the last worker", digest, wanted.digest),
        ("in the changelog", _restored_digest(world, stage, partition), stored.digest),
    ):
        if found is not None and found != right:
            verdict.state_mismatches += 1
            verdict.problems.append(f"{what}: the state {where} differs")
    verdict.unfinished += committed != steps
    return wanted.rows


def _single_pass(
    topology: Topology,
    partition: int,
    logs: Mapping[str, InputLog],
    settings: WorkerSettings,
    steps: Steps,
) -> Expected:
    if settings.stage == "users":
        return expect(topology, partition, logs, settings, steps)
    (log,) = logs.values()
    return expect_of_rows(topology, log, settings, steps)


def _compare_rows(
    world: World, stage: SimulatedStage, verdict: Verdict, said: Sequence[pl.DataFrame]
) -> None:
    """Each row that the stage before should have made has come through once, and no other."""
    (topic,) = stage.settings.inputs
    what = stage.settings.stage
    received: list[pl.DataFrame] = []
    for partition in range(stage.partitions):
        log = world.broker.inputs[TP(topic, partition)]
        frames, wrong = received_rows(world.topology, log, stage.settings)
        verdict.problems += [f"{what}[{partition}]: {problem}" for problem in wrong]
        received += frames
    right, found = _sorted(said), _sorted(received)
    verdict.rows += len(right)
    if not found.equals(right):
        verdict.rows_wrong += max(1, abs(len(found) - len(right)))
        verdict.problems.append(
            f"{what}: {len(found)} rows came, not the {len(right)} that are due"
        )


def _sorted(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    together = pl.concat(frames) if frames else pl.DataFrame()
    return together.sort(together.columns) if frames else together


def _restored_digest(world: World, stage: SimulatedStage, partition: int) -> str:
    """What the changelog and the committed offsets give a worker that starts now."""
    pipeline = new_pipeline(world.topology, stage.settings)
    around = stage.around
    context = CheckpointContext(
        blocks=_Folded(around.changelogs[partition]),
        offsets=_Offsets(stage),
        observer=IgnoringObserver(),
        offload=_inline,
    )
    checkpoints = PartitionCheckpoints(partition, around.group.generation, pipeline, context)
    asyncio.run(checkpoints.restore())
    return pipeline_digest(pipeline)


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
