"""Shared keys and groups: the stages on a real broker give what one process gives."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import polars as pl
import pytest

from detectors.compiled import compile_pack
from detectors.pack import Pack, RuleSpec
from detectors.topology import Topology
from monitor.kafka.observer import IgnoringObserver
from monitor.kafka.settings import WorkerSettings
from monitor.kafka.worker import Worker
from monitor.kafka.workers import Workers
from monitor.packs import load_pack
from monitor.pipeline import PartitionPipeline, PipelineResult, warm_up
from monitor.runner import Runner
from monitor.shared_pipeline import GroupPipeline, RowPipeline, SharedPipeline
from monitor.simulator import load_scenario, simulate
from monitor.simulator.kafka_output import write_kafka
from tests.integration.kafka_harness import Installation, RunningWorker, running
from tests.kafka import ExistingBroker, KafkaBroker
from tests.support.waiting import wait_until

PARTITIONS: Final = 4
_RULES: Final = (
    RuleSpec(
        "crowd",
        "Many on one video",
        "actors_10m >= 6",
        "low",
        600_000,
        "docs/runbooks/crowd.md",
        key="asset",
    ),
    RuleSpec(
        "template",
        "Many with one template",
        "actors_1h >= 5",
        "low",
        600_000,
        "docs/runbooks/template.md",
        key="template",
    ),
)


def crowd_pack() -> Pack:
    """The default pack with rules of shared keys that fire in any traffic."""
    pack = load_pack("default")
    return replace(pack, rules=(*pack.rules, *_RULES))


@dataclass(slots=True)
class Touched(IgnoringObserver):
    """Sums what the later stages say they did."""

    touched: Counter[str] = field(default_factory=Counter)
    campaigns: Counter[str] = field(default_factory=Counter)

    def chunk_processed(self, partition: int, result: PipelineResult, elapsed_s: float) -> None:
        """Add a result."""
        self.touched.update(result.counts.touched)
        self.campaigns.update(result.counts.campaigns)


@dataclass(slots=True)
class Place:
    """An installation with workers of all stages."""

    installation: Installation
    topology: Topology
    pipelines: dict[str, RowPipeline] = field(default_factory=dict)
    observer: Touched = field(default_factory=Touched)

    @contextmanager
    def working(self) -> Iterator[RunningWorker]:
        """A process with all stages."""
        names = self.installation.names

        def shared(partition: int) -> SharedPipeline:
            pipeline = SharedPipeline(self.topology, names.traces)
            self.pipelines[f"shared-{partition}"] = pipeline
            return pipeline

        def groups(partition: int) -> GroupPipeline:
            pipeline = GroupPipeline(self.topology, names.meetings)
            self.pipelines[f"groups-{partition}"] = pipeline
            return pipeline

        # Writing takes a while: what is written later is waited for, so that the order is known.
        of_users: WorkerSettings = self.installation.settings(merge_wait_ms=4_000)
        workers = Workers(
            [
                Worker(of_users, lambda _: PartitionPipeline(self.topology, names.inputs)),
                Worker(replace(of_users, stage="shared"), shared, self.observer),
                Worker(replace(of_users, stage="groups"), groups, self.observer),
            ]
        )
        with running(workers) as state:
            yield state
            assert state.failure is None, state.failure

    def wait_until_taken(self) -> None:
        """Until every event is in the state; its traces may be on their way."""
        taken = self._taken()
        wait_until(taken, "all events are applied", deadline_s=120)

    def wait_until_done(self) -> None:
        """Until every event and every trace is in the state, and nothing waits."""
        taken = self._taken()

        def done() -> bool:
            if not taken():
                return False
            idle = all(pipeline.merge.waiting == 0 for pipeline in self.pipelines.values())
            names = self.installation.names
            return idle and all(
                self._applied(stage, topic)
                for stage, topic in (("shared", names.traces), ("groups", names.meetings))
            )

        wait_until(done, "all events and traces are applied", deadline_s=120)

    def _taken(self) -> Callable[[], bool]:
        inputs = [record for topic in self.installation.names.inputs for record in self.read(topic)]
        ends = Counter((record.topic, record.partition) for record in inputs)

        def taken() -> bool:
            committed = self.installation.committed()
            return all(committed.get(tp) == end for tp, end in ends.items())

        return taken

    def _applied(self, stage: str, topic: str) -> bool:
        rows = Counter((record.topic, record.partition) for record in self.read(topic))
        group = self.installation.names.group_of(self.installation.group, stage)
        applied = replace(self.installation, group=group).committed()
        return all(applied.get(tp) == end for tp, end in rows.items())

    def read(self, topic: str) -> list[Any]:
        """Every record of a topic."""
        return self.installation.read(topic)


@pytest.fixture
def place(kafka: KafkaBroker | ExistingBroker) -> Place:
    """Fresh topics."""
    topology = Topology(compile_pack(crowd_pack()))
    warm_up(topology)
    return Place(Installation.create(kafka.bootstrap, partitions=PARTITIONS), topology)


def test_three_stages_and_four_partitions_give_what_one_process_gives(place: Place) -> None:
    """One worker, then two: the same traces, each once, and the same campaigns and alerts."""
    names = place.installation.names
    events = simulate(load_scenario("all-attacks"), seed=5, users=1_500).events
    half = len(events) // 2
    write_kafka(iter([events[:half]]), [place.installation.bootstrap], names.inputs)
    with place.working():
        place.wait_until_taken()
    with place.working() as one, place.working() as other:
        one.wait_ready()
        other.wait_ready()
        write_kafka(iter([events[half:]]), [place.installation.bootstrap], names.inputs)
        place.wait_until_done()
    runner = Runner(place.topology, ["all"])
    runner.push_frame(
        "all", events.select(sorted(runner.columns)), int(events["time_ms"].to_numpy().max())
    )
    runner.end("all")
    expected = runner.run()
    assert place.observer.touched == expected.counts.touched
    assert place.observer.campaigns == expected.counts.campaigns
    for pipeline in place.pipelines.values():
        assert (pipeline.merge.missing, pipeline.merge.forced) == (0, 0)
    shared = {*(rule.id for rule in _RULES), "swarm", "coordinated-group"}
    in_process = {(a.rule_id, a.key): a for a in expected.alerts if a.rule_id in shared}
    alerts = [json.loads(record.value)["data"] for record in place.read(names.alerts)]
    live = {(a["rule_id"], a["key"]) for a in alerts if a["rule_id"] in shared}
    assert len(live) > 20
    assert {rule_id for rule_id, _ in live} == {"crowd", "template", "swarm"}
    assert live == in_process.keys()
    assert pl.Series([a["alert_id"] for a in alerts]).is_unique().all()
