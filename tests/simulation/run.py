"""One seed: a world is drawn, lives through its faults, comes to rest, and is compared."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from faust.types import TP

from detectors.state import state_digest
from detectors.topology import Topology
from monitor.checkpoint.partition import (
    CheckpointContext,
    CheckpointSettings,
    PartitionCheckpoints,
)
from monitor.kafka import worker
from monitor.kafka.errors import PublishError
from monitor.kafka.observer import IgnoringObserver
from monitor.kafka.partition_task import PartitionTask
from monitor.kafka.settings import WorkerSettings
from monitor.kafka.topics import TopicNames
from tests.simulation.app import AppSettings, SimulatedApp, Surroundings
from tests.simulation.broker import Broker, InputLog, Record
from tests.simulation.decoded import DecodedLogs
from tests.simulation.faults import FaultPlan, Faults, RandomFaults
from tests.simulation.group import Commit, Group
from tests.simulation.history import History, RecordedPipeline, Steps
from tests.simulation.loop import Process, SimulationLoop
from tests.simulation.network import Network, NetworkSettings
from tests.simulation.verdict import Verdict, judge
from tests.simulation.workload import BLOCK_ROWS, MAX_USERS, Arrival, arrivals, simulated_pack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Knobs", "World", "simulate"]

NAMES: Final = TopicNames()
_REST_S: Final = 600.0
_PEACE_S: Final = 30.0
_STORM_S: Final = 200.0
_MOST_KILLS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """What differs from seed to seed besides the dice."""

    partitions: int
    nodes: int
    static: bool
    events: int
    span_s: float
    lag: float
    malformed_share: float
    restart_s: float
    stop_every_s: float
    compact_every_s: float
    network: NetworkSettings
    app: AppSettings
    worker: WorkerSettings

    @classmethod
    def drawn(cls, rng: random.Random) -> Knobs:
        """Swarm testing: each seed goes to some extremes and leaves others alone."""
        pick = rng.choice
        return cls(
            partitions=pick((1, 1, 2, 3)),
            nodes=pick((1, 2, 2, 3)),
            static=rng.random() < 0.3,
            events=pick((250, 400)),
            span_s=pick((0.0, 60.0, 200.0, 400.0)),
            lag=pick((0.0, 0.02, 0.2)),
            malformed_share=pick((0.0, 0.03)),
            restart_s=pick((0.2, 3.0, 15.0)),
            stop_every_s=pick((20.0, 60.0, 1e9)),
            compact_every_s=pick((0.5, 10.0)),
            network=NetworkSettings(
                latency_s=pick((0.001, 0.02, 0.2)),
                linger_s=pick((0.0, 0.002, 0.1)),
                timeout_s=pick((0.5, 5.0)),
                failure_rate=pick((0.0, 0.01, 0.05)),
                outage_rate=pick((0.0, 0.002)),
                outage_s=10.0,
            ),
            app=AppSettings(
                fetch_records=pick((10, 40, 200)),
                fetch_wait_s=pick((0.05, 0.5)),
                recovery_records=pick((1, 5, 50)),
                loss_rate=pick((0.0, 0.0, 0.02)),
            ),
            worker=WorkerSettings(
                topics=NAMES,
                max_chunk_records=pick((7, 30, 200)),
                buffer_events=pick((30, 1000)),
                process_events=pick((10, 40, 400)),
                merge_wait_ms=pick((50, 500, 5000)),
                tick_ms=50,
                checkpoint=CheckpointSettings(interval_s=pick((0.5, 3.0, 20.0))),
                flush_timeout_s=pick((3.0, 20.0)),
            ),
        )


@dataclass
class World:
    """All that a run consists of."""

    seed: int
    knobs: Knobs
    loop: SimulationLoop
    rng: random.Random
    faults: Faults
    broker: Broker
    group: Group
    history: History
    surroundings: Surroundings
    topology: Topology
    arrivals: list[Arrival]
    decoded: Mapping[int, DecodedLogs]
    problems: list[str] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    nodes: list[Node] = field(default_factory=list)
    ends: dict[int, tuple[Steps, str | None]] = field(default_factory=dict)

    @classmethod
    def drawn(cls, seed: int, plan: FaultPlan | None) -> World:
        rng = random.Random(f"world {seed}")
        knobs = Knobs.drawn(rng)
        loop = SimulationLoop(random.Random(f"loop {seed}"))
        faults = Faults(loop, plan or _random_faults(seed))
        broker = Broker()
        starts = {
            TP(topic, partition): rng.choice((0, 0, 1_000_000))
            for topic in NAMES.inputs
            for partition in range(knobs.partitions)
        }
        broker.inputs = {tp: InputLog(start, start) for tp, start in starts.items()}
        records = arrivals(
            rng,
            starts,
            events=knobs.events,
            malformed_share=knobs.malformed_share,
            lag=knobs.lag,
        )
        network = Network(loop, random.Random(f"network {seed}"), faults, knobs.network)
        settings = knobs.worker
        group = Group(
            loop, rng, knobs.partitions, settings.session_timeout_s, settings.rebalance_timeout_s
        )

        def beginning(partition: int) -> dict[str, int]:
            return {topic: broker.inputs[TP(topic, partition)].start for topic in NAMES.inputs}

        history = History(beginning)
        group.on_commit = history.committed
        return cls(
            seed,
            knobs,
            loop,
            rng,
            faults,
            broker,
            group,
            history,
            Surroundings(network, broker, group, random.Random(f"app {seed}"), knobs.app),
            Topology(simulated_pack(), MAX_USERS, BLOCK_ROWS),
            records,
            {partition: _decoded(records, partition) for partition in range(knobs.partitions)},
        )

    def new_pipeline(self, partition: int) -> RecordedPipeline:
        process = self.loop.current_process()
        pipeline = RecordedPipeline(self.topology, partition, process, self.history)
        pipeline._decoder = self.decoded[partition]
        return pipeline

    def new_task(
        self, pipeline: Any, checkpoints: PartitionCheckpoints, **options: Any
    ) -> PartitionTask:
        process = self.loop.current_process()
        self.history.working(process, checkpoints.generation, pipeline)
        return PartitionTask(pipeline, checkpoints, clock=self.loop.time, **options)

    def new_writer(self) -> str:
        return f"{self.rng.getrandbits(32):08x}"

    async def offload(self, work: Callable[[], Any]) -> Any:
        """What goes to a thread takes a while, and the process may not live to see it."""
        await self.faults.point("offload: begins")
        await asyncio.sleep(self.rng.random() * 0.05)
        result = work()
        await self.faults.point("offload: done")
        return result

    def failpoint(self, name: str) -> None:
        self.faults.strike(self.loop.current_process(), f"failpoint: {name}")

    # -- the life of a world

    async def live(self) -> None:
        knobs, rng = self.knobs, self.rng
        self.nodes = [Node(self, number) for number in range(knobs.nodes)]
        self.faults.on_kill = lambda process: self._node(process).start_later()
        self.faults.on_rebalance = self.group.rebalance
        background = [
            asyncio.create_task(self._compact()),
            asyncio.create_task(self._stop_now_and_then()),
        ]
        for node in self.nodes:
            node.start_later()
        await self._append()
        await self._until(self._weathered, "the faults are over")
        self.faults.active = False
        await asyncio.sleep(_PEACE_S)  # whoever was paused wakes up, and is told to go
        await self._until(self._all_taken, "all records are taken in peace")
        await asyncio.sleep(_PEACE_S)  # what is being published is acknowledged
        for partition in range(knobs.partitions):
            task = self.history.at_work(partition)
            if task is None:
                self.ends[partition] = self.history.committed_steps(partition), None
            else:
                self.ends[partition] = (*task.before, *task.steps), state_digest(task.stage)
        for task in background:
            task.cancel()
        for node in self.nodes:
            node.stop_for_good()
        await self._until(lambda: not any(n.process for n in self.nodes), "all workers stop")

    async def _append(self) -> None:
        for arrival in self.arrivals:
            delay_s = arrival.at * self.knobs.span_s - self.loop.time()
            if delay_s > 0:
                await asyncio.sleep(delay_s)
            self.broker.inputs[arrival.tp].append(arrival.record, arrival.end)

    def _weathered(self) -> bool:
        """Whether nothing is left to break, or it took long enough."""
        over_s = self.knobs.span_s + _STORM_S
        return self._all_taken() or self.faults.exhausted or self.loop.time() > over_s

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline_s = self.loop.time() + _REST_S
        while not condition():
            if self.problems:
                raise WorldError(self.problems[0])
            if self.loop.time() > deadline_s:
                raise WorldError(f"not within {_REST_S:g} s: {what}; {self._standing()}")
            await asyncio.sleep(0.25)

    def _standing(self) -> Mapping[int, Any]:
        return {
            partition: (self.history.stands_at(partition), dict(self.broker.ends(partition)))
            for partition in range(self.knobs.partitions)
        }

    def _all_taken(self) -> bool:
        """Whether there is no record beyond where the partitions stand."""
        return not any(
            log.records
            and self.history.stands_at(tp.partition).get(tp.topic, 0) <= log.records[-1].offset
            for tp, log in self.broker.inputs.items()
        )

    async def _compact(self) -> None:
        while True:
            await asyncio.sleep(self.rng.random() * 2 * self.knobs.compact_every_s)
            self.broker.changelogs[self.rng.randrange(self.knobs.partitions)].compact(self.rng)

    async def _stop_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self.rng.random() * 2 * self.knobs.stop_every_s)
            if self.faults.active:
                self.rng.choice(self.nodes).stop()

    def _node(self, process: Process) -> Node:
        return next(node for node in self.nodes if node.process is process)


class WorldError(Exception):
    """The run did not come to its end."""


class Node:
    """A machine on which a worker runs, and is started again whenever it has ended."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.name = f"node-{number}"
        self.process: Process | None = None
        self._session: worker._Session | None = None
        self._starts = 0
        self._for_good = False

    def start_later(self) -> None:
        """Start a new process after a while."""
        self.process = None
        delay_s = self.world.rng.random() * self.world.knobs.restart_s
        self.world.loop.in_world(delay_s, self._start)

    def stop(self) -> None:
        """SIGTERM."""
        if self._session is not None and self.process is not None and self.process.alive:
            self._session.end()

    def stop_for_good(self) -> None:
        self._for_good = True
        self.stop()

    def _start(self) -> None:
        if not self._for_good:
            self._starts += 1
            self.process = self.world.loop.start_process(f"{self.name}.{self._starts}", self._main)

    async def _main(self) -> None:
        world, knobs = self.world, self.world.knobs
        instance = self.name if knobs.static else None
        settings = replace(knobs.worker, instance_id=instance)
        self._session = worker._Session(
            settings, knobs.partitions, world.new_pipeline, IgnoringObserver(), world.failpoint
        )
        failure = await self._session.run()
        process = world.loop.current_process()
        process.require_alive()
        if failure is not None:
            world.failures[type(failure).__name__] += 1
            if not isinstance(failure, PublishError):
                world.problems.append(f"{process} failed: {failure!r}")
        world.loop.in_world(0.0, lambda: self._ended(process))

    def _ended(self, process: Process) -> None:
        self.world.loop.kill(process)
        if self.process is process:
            self._session = None
            if self._for_good:
                self.process = None
            else:
                self.start_later()


def simulate(seed: int, plan: FaultPlan | None = None) -> Verdict:
    """Run one seed, with its own faults or those of ``plan``, and compare what came out."""
    world = World.drawn(seed, plan)
    with ExitStack() as stack:
        stack.enter_context(
            patch.multiple(
                worker,
                build_app=partial(SimulatedApp, world.surroundings),
                CheckpointContext=partial(
                    CheckpointContext,
                    clock=world.loop.time,
                    offload=world.offload,
                    new_writer=world.new_writer,
                ),
                PartitionTask=world.new_task,
            )
        )
        try:
            world.loop.run_until_complete(world.live())
        except Exception as error:
            world.problems.append(f"{type(error).__name__}: {error}")
        world.loop.end()
        return judge(world)


def _decoded(records: list[Arrival], partition: int) -> DecodedLogs:
    logs: dict[str, list[Record]] = {topic: [] for topic in NAMES.inputs}
    for arrival in records:
        if arrival.tp.partition == partition:
            logs[arrival.tp.topic].append(arrival.record)
    return DecodedLogs(simulated_pack().event_columns, logs)


def _random_faults(seed: int) -> RandomFaults:
    rng = random.Random(f"faults {seed}")
    return RandomFaults(
        rng,
        kill_rate=rng.choice((0.002, 0.01, 0.03)),
        pause_rate=rng.choice((0.0, 0.003)),
        rebalance_rate=rng.choice((0.0, 0.002)),
        longest_pause_s=rng.choice((1.0, 10.0, 60.0)),
        most_kills=_MOST_KILLS,
    )
