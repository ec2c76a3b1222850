"""One seed: a world is drawn, lives through its faults, comes to rest, and is compared."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from faust.types import TP

from detectors.topology import Topology
from monitor.checkpoint.partition import (
    CheckpointContext,
    PartitionCheckpoints,
)
from monitor.kafka import worker
from monitor.kafka.partition_task import PartitionTask
from monitor.kafka.settings import StageName
from monitor.kafka.topics import TopicNames
from monitor.pipeline import PartitionPipeline
from tests.simulation.app import SimulatedApp, Surroundings
from tests.simulation.broker import Broker, Changelog, InputLog, Record
from tests.simulation.decoded import DecodedLogs
from tests.simulation.faults import Fault, FaultPlan, Faults
from tests.simulation.group import Commit, Group
from tests.simulation.history import History, HistoryError, RecordedPipeline, Steps
from tests.simulation.knobs import NEVER_S, Knobs, random_faults
from tests.simulation.loop import Process, SimulationLoop, SimulationStuckError
from tests.simulation.network import Network
from tests.simulation.node import Node
from tests.simulation.stage import SimulatedStage, new_pipeline, pipeline_digest
from tests.simulation.verdict import Verdict, judge
from tests.simulation.workload import (
    BLOCK_ROWS,
    MAX_KEYS,
    MAX_USERS,
    MODELS,
    Arrival,
    arrivals,
    simulated_pack,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from detectors.anomaly import ModelPair
    from monitor.kafka.settings import WorkerSettings

__all__ = ["World", "simulate"]

NAMES: Final = TopicNames()
STAGES: Final[tuple[StageName, ...]] = ("users", "shared", "groups")
_REST_S: Final = 600.0
_PEACE_S: Final = 30.0
_STORM_S: Final = 200.0


@dataclass
class Registry:
    """Models, of which now these are current and now those."""

    current: ModelPair = MODELS[0]

    def named(self, name: str) -> ModelPair:
        """See ``Models``."""
        return next(pair for pair in MODELS if pair.name == name)


@dataclass
class World:
    """All that a run consists of; a registry of ``models`` is a part of it."""

    seed: int
    knobs: Knobs
    loop: SimulationLoop
    rng: random.Random
    faults: Faults
    broker: Broker
    stages: Mapping[str, SimulatedStage]
    topology: Topology
    models: Registry
    arrivals: list[Arrival]
    decoded: Mapping[int, DecodedLogs]
    problems: list[str] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    nodes: list[Node] = field(default_factory=list)
    tell: Callable[[str], None] | None = None
    swaps: int = 0

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
        pack = simulated_pack(shared=knobs.stages > 1)
        models = Registry()
        world = cls(
            seed,
            knobs,
            loop,
            rng,
            faults,
            broker,
            {},
            Topology(pack, MAX_USERS, BLOCK_ROWS, models, MAX_KEYS, MAX_KEYS),
            models,
            records,
            {n: _decoded(records, n, pack.event_columns) for n in range(knobs.partitions)},
        )
        network = Network(loop, random.Random(f"network {seed}"), faults, knobs.network)
        world.stages = {
            name: world._stage(
                name, network, rng if name == "users" else random.Random(f"{name} {seed}")
            )
            for name in STAGES[: knobs.stages]
        }
        faults.on_fault = world._struck
        return world

    def _stage(self, name: StageName, network: Network, rng: random.Random) -> SimulatedStage:
        """What there is once for a stage, and the logs that it reads and writes."""
        settings = replace(self.knobs.worker, stage=name)
        partitions = 1 if name == "groups" else self.knobs.partitions
        inputs = self.broker.inputs
        for topic, count in ((NAMES.traces, self.knobs.partitions), (NAMES.meetings, 1)):
            for partition in range(count):
                inputs.setdefault(TP(topic, partition), InputLog(0, 0))

        def beginning(partition: int) -> dict[str, int]:
            return {topic: inputs[TP(topic, partition)].start for topic in settings.inputs}

        history = History(beginning)
        timeouts = settings.session_timeout_s, settings.rebalance_timeout_s
        group = Group(self.loop, rng, partitions, *timeouts)
        app_rng = random.Random(f"app {self.seed}")
        around = Surroundings(
            network, self.broker, group, defaultdict(Changelog), app_rng, self.knobs.app
        )

        def committed(commit: Commit) -> None:
            self.say(f"{commit} accepted")
            history.committed(commit)

        group.on_commit = committed
        return SimulatedStage(settings, partitions, rng, around, history)

    def say(self, what: str) -> None:
        """Tell whoever listens what happens, and when."""
        if self.tell is not None:
            self.tell(f"{self.loop.time():9.3f} {what}")

    def new_pipeline(self, stage: SimulatedStage, partition: int) -> RecordedPipeline:
        process = self.loop.current_process()
        real = new_pipeline(self.topology, stage.settings)
        if isinstance(real, PartitionPipeline):
            real._decoder = self.decoded[partition]
        return RecordedPipeline(real, partition, process, stage.history)

    def new_app(self, settings: WorkerSettings, *rest: Any) -> SimulatedApp:  # noqa: ANN401
        return SimulatedApp(self.stages[settings.stage].around, settings, *rest)

    def new_task(
        self,
        pipeline: RecordedPipeline,
        checkpoints: PartitionCheckpoints,
        **options: Any,  # noqa: ANN401 - the task's own
    ) -> PartitionTask:
        """The real task, in virtual time."""
        process = self.loop.current_process()
        pipeline.history.working(process, checkpoints.generation, pipeline)
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

    def _struck(self, process: Process, kind: str, fault: Fault) -> None:
        self.say(f"{fault} strikes {process} at {kind}")
        if fault.kind == "kill":
            next(node for node in self.nodes if node.process is process).start_later()
        elif fault.kind == "rebalance":
            for stage in self.stages.values():
                stage.around.group.rebalance()

    # -- the life of a world

    async def live(self) -> None:
        knobs = self.knobs
        self.nodes = [Node(self, number) for number in range(knobs.nodes)]
        background = [
            *(asyncio.create_task(self._compact(stage)) for stage in self.stages.values()),
            asyncio.create_task(self._stop_now_and_then()),
        ]
        if knobs.swap_every_s < NEVER_S:
            background.append(asyncio.create_task(self._swap_models()))
        for node in self.nodes:
            node.start_later()
        await self._append()
        await self._until(self._weathered, "the faults are over")
        self.faults.active = False
        await asyncio.sleep(_PEACE_S)  # whoever was paused wakes up, and is told to go
        await self._settle()
        for stage in self.stages.values():
            stage.ends = {
                partition: _end(stage, partition) for partition in range(stage.partitions)
            }
        for task in background:
            task.cancel()
        for node in self.nodes:
            node.stop_for_good()
        await self._until(lambda: not any(n.process for n in self.nodes), "all workers stop")

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

    async def _settle(self) -> None:
        """Until all is taken and nothing has come for so long that nothing more will."""
        before, now = -1, self._appended()
        while before != now:
            await self._until(self._all_taken, "all records are taken in peace")
            before = self._appended()
            await asyncio.sleep(_PEACE_S)  # and what is being published is acknowledged
            now = self._appended()

    def _appended(self) -> int:
        """How many records the stages were given."""
        return sum(log.end for log in self.broker.inputs.values())

    def _go_on(self) -> None:
        if self.problems:
            raise WorldError("it makes no sense to go on")

    def _standing(self) -> Mapping[str, Any]:
        return {
            f"{name}[{partition}]": (
                stage.history.stands_at(partition),
                {
                    topic: self.broker.inputs[TP(topic, partition)].end
                    for topic in stage.settings.inputs
                },
            )
            for name, stage in self.stages.items()
            for partition in range(stage.partitions)
        }

    def _all_taken(self) -> bool:
        """Whether there is no record beyond where the partitions stand."""
        return not any(
            log.records and stands_at.get(topic, 0) <= log.records[-1].offset
            for stage in self.stages.values()
            for partition in range(stage.partitions)
            for stands_at in [stage.history.stands_at(partition)]
            for topic in stage.settings.inputs
            for log in [self.broker.inputs[TP(topic, partition)]]
        )

    async def _compact(self, stage: SimulatedStage) -> None:
        while True:
            await asyncio.sleep(stage.rng.random() * 2 * self.knobs.compact_every_s)
            changelog = stage.around.changelogs[stage.rng.randrange(stage.partitions)]
            changelog.compact(stage.rng)

    async def _swap_models(self) -> None:
        rng = random.Random(f"models {self.seed}")
        while True:
            await asyncio.sleep(rng.random() * 2 * self.knobs.swap_every_s)
            self.models.current = rng.choice(MODELS)
            self.swaps += 1
            self.say(f"models {self.models.current.name!r} are to score")

    async def _stop_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self.rng.random() * 2 * self.knobs.stop_every_s)
            if self.faults.active:
                self.rng.choice(self.nodes).stop()


def _end(stage: SimulatedStage, partition: int) -> tuple[Steps, str | None]:
    """The steps to where a partition stands, and the digest of the state that is there."""
    task = stage.history.at_work(partition)
    if task is None:  # after a rebalance there was nothing to read
        return stage.history.committed_steps(partition), None
    return task.steps, pipeline_digest(task.real)


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
        build_app=world.new_app,
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


def _decoded(records: list[Arrival], partition: int, columns: Collection[str]) -> DecodedLogs:
    logs: dict[str, list[Record]] = {topic: [] for topic in NAMES.inputs}
    for arrival in records:
        if arrival.tp.partition == partition:
            logs[arrival.tp.topic].append(arrival.record)
    return DecodedLogs(columns, logs)
