"""One seed: a world is drawn, lives through its faults, comes to rest, and is compared."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from faust.types import TP

from detectors.state import state_digest
from detectors.topology import Topology
from monitor.checkpoint.partition import (
    CheckpointContext,
    PartitionCheckpoints,
)
from monitor.kafka import worker
from monitor.kafka.partition_task import PartitionTask
from monitor.kafka.topics import TopicNames
from tests.simulation.app import SimulatedApp, Surroundings
from tests.simulation.broker import Broker, InputLog, Record
from tests.simulation.decoded import DecodedLogs
from tests.simulation.faults import Fault, FaultPlan, Faults
from tests.simulation.group import Commit, Group
from tests.simulation.history import History, HistoryError, RecordedPipeline, Steps
from tests.simulation.knobs import Knobs, random_faults
from tests.simulation.loop import Process, SimulationLoop, SimulationStuckError
from tests.simulation.network import Network
from tests.simulation.node import Node
from tests.simulation.verdict import Verdict, judge
from tests.simulation.workload import BLOCK_ROWS, MAX_USERS, Arrival, arrivals, simulated_pack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["World", "simulate"]

NAMES: Final = TopicNames()
_REST_S: Final = 600.0
_PEACE_S: Final = 30.0
_STORM_S: Final = 200.0


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
    tell: Callable[[str], None] | None = None
    ends: dict[int, tuple[Steps, str | None]] = field(default_factory=dict)

    @classmethod
    def drawn(cls, seed: int, plan: FaultPlan, knobs: Knobs | None) -> World:
        """Everything as ``seed`` has it, but for what is given."""
        rng = random.Random(f"world {seed}")
        knobs = knobs or Knobs.drawn(rng)
        loop = SimulationLoop(random.Random(f"loop {seed}"))
        faults = Faults(loop, plan)
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
        world = cls(
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
        group.on_commit = world._committed
        faults.on_fault = world._struck
        return world

    def say(self, what: str) -> None:
        """Tell whoever listens what happens, and when."""
        if self.tell is not None:
            self.tell(f"{self.loop.time():9.3f} {what}")

    def new_pipeline(self, partition: int) -> RecordedPipeline:
        process = self.loop.current_process()
        pipeline = RecordedPipeline(self.topology, partition, process, self.history)
        pipeline._decoder = self.decoded[partition]
        return pipeline

    def new_task(
        self,
        pipeline: RecordedPipeline,
        checkpoints: PartitionCheckpoints,
        **options: Any,  # noqa: ANN401 - the task's own
    ) -> PartitionTask:
        """The real task, in virtual time."""
        process = self.loop.current_process()
        self.history.working(process, checkpoints.generation, pipeline)
        return PartitionTask(pipeline, checkpoints, clock=self.loop.time, **options)

    def new_writer(self) -> str:
        return f"{self.rng.getrandbits(32):08x}"

    async def offload(self, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - what it returns
        """What goes to a thread takes a while, and the process may not live to see it."""
        await self.faults.point("offload: begins")
        await asyncio.sleep(self.rng.random() * 0.05)
        result = work()
        await self.faults.point("offload: done")
        return result

    def failpoint(self, name: str) -> None:
        self.faults.strike(self.loop.current_process(), f"failpoint: {name}")

    def _committed(self, commit: Commit) -> None:
        self.say(f"{commit} accepted")
        self.history.committed(commit)

    def _struck(self, process: Process, kind: str, fault: Fault) -> None:
        self.say(f"{fault} strikes {process} at {kind}")
        if fault.kind == "kill":
            next(node for node in self.nodes if node.process is process).start_later()
        elif fault.kind == "rebalance":
            self.group.rebalance()

    # -- the life of a world

    async def live(self) -> None:
        knobs = self.knobs
        self.nodes = [Node(self, number) for number in range(knobs.nodes)]
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
            self.ends[partition] = self._end(partition)
        for task in background:
            task.cancel()
        for node in self.nodes:
            node.stop_for_good()
        await self._until(lambda: not any(n.process for n in self.nodes), "all workers stop")

    def _end(self, partition: int) -> tuple[Steps, str | None]:
        """The steps to where a partition stands, and the digest of the state that is there."""
        task = self.history.at_work(partition)
        if task is None:  # after a rebalance there was nothing to read
            return self.history.committed_steps(partition), None
        return (*task.before, *task.steps), state_digest(task.stage)

    async def _append(self) -> None:
        for arrival in self.arrivals:
            self._go_on()
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
            self._go_on()
            if self.loop.time() > deadline_s:
                raise WorldError(f"not within {_REST_S:g} s: {what}; {self._standing()}")
            await asyncio.sleep(0.25)

    def _go_on(self) -> None:
        if self.problems:
            raise WorldError("it makes no sense to go on")

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


class WorldError(Exception):
    """The run did not come to its end."""


def simulate(
    seed: int,
    plan: FaultPlan | None = None,
    knobs: Knobs | None = None,
    tell: Callable[[str], None] | None = None,
) -> Verdict:
    """Run one seed and compare what came out.

    ``plan`` and ``knobs`` take the place of those that the seed gives; ``tell`` gets a line for
    whatever happens.
    """
    world = World.drawn(seed, plan or random_faults(seed), knobs)
    world.tell = tell
    world.say(str(world.knobs))
    context = partial(
        CheckpointContext,
        clock=world.loop.time,
        offload=world.offload,
        new_writer=world.new_writer,
    )
    with patch.multiple(
        worker,
        build_app=partial(SimulatedApp, world.surroundings),
        CheckpointContext=context,
        PartitionTask=world.new_task,
    ):
        try:
            world.loop.run_until_complete(world.live())
        except (WorldError, HistoryError, SimulationStuckError) as error:
            world.problems.append(f"{type(error).__name__}: {error}")
        finally:
            world.loop.end()
    return judge(world)


def _decoded(records: list[Arrival], partition: int) -> DecodedLogs:
    logs: dict[str, list[Record]] = {topic: [] for topic in NAMES.inputs}
    for arrival in records:
        if arrival.tp.partition == partition:
            logs[arrival.tp.topic].append(arrival.record)
    return DecodedLogs(simulated_pack().event_columns, logs)
