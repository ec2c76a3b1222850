"""Another model is taken to while a worker runs; after a crash each event is scored as it was.

One partition. No checkpoint is written before the crash, so all is done again from the first
record: by a worker whose registry names yet another champion by then.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import polars as pl
import pytest

from detectors.anomaly import ModelPair
from detectors.compiled import compile_pack
from detectors.errors import StateError
from detectors.pack import RuleSpec
from detectors.topology import Topology
from monitor.checkpoint.contract import CommittedOffset, Position
from monitor.checkpoint.order import Progress, parse_committed
from monitor.checkpoint.partition import CheckpointSettings
from monitor.kafka.errors import WorkerError
from monitor.kafka.outbound import finding_messages
from monitor.kafka.worker import Worker
from monitor.pipeline import PartitionPipeline, PipelineResult, RecordChunk, warm_up
from monitor.simulator.kafka_output import write_kafka
from tests.chaos.reading import committed_offsets
from tests.integration.kafka_harness import IGNORE_SOCKETS, Installation, RunningWorker, running
from tests.kafka import ExistingBroker, KafkaBroker
from tests.support.events import START_MS, complete, small_pack
from tests.support.models import split_model
from tests.support.waiting import wait_until

pytestmark = IGNORE_SOCKETS

BATCH: Final = 400
USERS: Final = 8
ODD: Final = RuleSpec(
    "odd", "Unlike the others", "anomaly_rank >= anomaly_alert_rank", "low", 0, "docs/odd.md"
)
PACK: Final = compile_pack(replace(small_pack(), rules=(ODD,)))
PAIRS: Final = tuple(
    ModelPair(split_model("generations_1m", above, name=name * 16))
    for name, above in (("a", 6.0), ("b", 5.0), ("c", 4.0))
)


class Crash(Exception):
    """Raised at a failpoint: the task ends there, and nobody closes it."""


@dataclass
class Roles:
    """Models as a registry has them: which is current may change at any time."""

    current: ModelPair
    pairs: tuple[ModelPair, ...] = PAIRS

    def named(self, name: str) -> ModelPair:
        """See ``Models``."""
        found = {"": ModelPair(), **{pair.name: pair for pair in self.pairs}}
        if name not in found:
            raise StateError(f"there is no model {name}", where="models")
        return found[name]


class Watched(PartitionPipeline):
    """Notes how far the steps reach whose alerts are out."""

    done_to = 0
    _taken_to = 0

    def process(
        self, idle_sources: Collection[str], limit: int, bound: Position | None = None
    ) -> PipelineResult:
        """See ``Pipeline``: called again once what the step before gave is published."""
        self.done_to = self._taken_to
        result = super().process(idle_sources, limit, bound)
        self._taken_to = max(result.applied.values(), default=0)
        return result


@dataclass
class Platform:
    """Topics of one partition, workers one at a time."""

    place: Installation
    crash_at: str = ""
    written: int = 0
    newest: Watched | None = None

    def happens(self) -> None:
        """Write a batch of events, in which every model finds odd ones."""
        number = pl.int_range(self.written, self.written + BATCH)
        frame = pl.select(number=number).with_columns(
            event_id="e" + pl.col("number").cast(pl.String),
            request_id="r" + pl.col("number").cast(pl.String),
            type=pl.lit("generation.requested"),
            user_id="u" + (pl.col("number").pow(2) % 31 % USERS).cast(pl.String),
            time_ms=START_MS + 1_700 * pl.col("number"),
            account_created_ms=pl.lit(START_MS),
            tier=pl.lit("free"),
        )
        write_kafka(iter([complete(frame)]), [self.place.bootstrap], self.place.names.inputs)
        self.written += BATCH

    def reach(self, failpoint: str) -> None:
        """Called by the worker, here and there."""
        if failpoint == self.crash_at:
            raise Crash(failpoint)

    def worker(self, roles: Roles) -> Worker:
        """One that scores with what ``roles`` has, and writes a checkpoint only at its end."""
        topology = Topology(PACK, max_users=100, block_rows=8, models=roles)
        warm_up(topology)
        settings = self.place.settings(checkpoint=CheckpointSettings(interval_s=3_600.0))

        def pipeline(_partition: int) -> Watched:
            self.newest = Watched(topology, self.place.names.inputs)
            return self.newest

        self.newest = None
        return Worker(settings, pipeline, failpoint=self.reach)

    def wait_until_done(self, state: RunningWorker) -> None:
        """Until the worker has done all there is."""

        def done() -> bool:
            return self.newest is not None and self.newest.done_to == self.written

        wait_until(lambda: state.failure is not None or done(), "all events are done")
        assert state.failure is None, state.failure

    def work(self, roles: Roles) -> None:
        """A worker does all there is and is stopped in order."""
        with running(self.worker(roles)) as state:
            self.wait_until_done(state)
        assert state.failure is None, state.failure
        assert self.place.committed()[self.place.names.generation_events, 0] == self.written

    def progress(self) -> Progress:
        """What the group has committed."""
        found = committed_offsets(self.place.bootstrap, self.place.group)
        return parse_committed({t: CommittedOffset(*entry) for (t, _), entry in found.items()})

    def alerts(self) -> list[bytes]:
        """Every alert that was published, as it is."""
        return [record.value for record in self.place.read(self.place.names.alerts)]

    def expected(self, swaps: dict[int, ModelPair]) -> list[bytes]:
        """The alerts of one pass over the topic that takes to models at these offsets."""
        names = self.place.names
        pipeline = PartitionPipeline(Topology(PACK, models=Roles(PAIRS[0])), names.inputs)
        records = self.place.read(names.generation_events)
        found: list[bytes] = []
        for start, end in pairwise([*swaps, len(records)]):
            pipeline.use_models(swaps[start].name)
            pipeline.push(_chunk(names.generation_events, records[start:end]))
            result = pipeline.process(names.inputs, BATCH)
            messages = finding_messages(result, names, self.place.settings().event_source)
            found += [m.value for m in messages if m.topic == names.alerts and m.value]
        return found


def _chunk(topic: str, records: list[Any]) -> RecordChunk:
    values, offsets = [r.value for r in records], [r.offset for r in records]
    return RecordChunk(topic, 0, values, offsets, [r.timestamp for r in records])


def crashed_after_a_swap(bootstrap: str, crash_at: str) -> Platform:
    """A worker took to the second model after the first batch; and crashed at the next alert."""
    platform = Platform(Installation.create(bootstrap, partitions=1))
    roles = Roles(PAIRS[0])
    platform.happens()
    with running(platform.worker(roles)) as state:
        platform.wait_until_done(state)
        platform.crash_at = crash_at
        roles.current = PAIRS[1]
        platform.happens()
        assert isinstance(state.wait_failed().__cause__, Crash)
    platform.crash_at = ""
    progress = platform.progress()
    assert progress.checkpoint is None
    assert [models for _, models in progress.switches] == [pair.name for pair in PAIRS[:2]]
    return platform


@pytest.mark.parametrize("crash_at", ["cuts-committed", "alerts-acknowledged"])
def test_a_crash_replay_scores_each_event_with_the_model_of_then(
    kafka: KafkaBroker | ExistingBroker, crash_at: str
) -> None:
    """Byte for byte what a run without a crash gives; the newest champion comes after that."""
    platform = crashed_after_a_swap(kafka.bootstrap, crash_at)
    before = platform.alerts()
    newest = Roles(PAIRS[2])
    platform.work(newest)
    swaps = {0: PAIRS[0], BATCH: PAIRS[1], 2 * BATCH: PAIRS[2]}
    assert set(platform.alerts()) == set(platform.expected(dict(list(swaps.items())[:2])))
    platform.happens()
    platform.work(newest)
    alerts = platform.alerts()
    expected = platform.expected(swaps)
    assert set(alerts) == set(expected)
    # Of the step that crashed after it was published, and of no other.
    assert (len(alerts) > len(expected)) == (crash_at == "alerts-acknowledged")
    assert alerts[: len(before)] == before
    used = [json.loads(alert)["data"]["anomaly"]["model_id"] for alert in expected]
    assert min(Counter(used)[pair.champion.model_id] for pair in PAIRS if pair.champion) > 20


def test_a_model_that_is_gone_from_the_registry_stops_the_worker(
    kafka: KafkaBroker | ExistingBroker,
) -> None:
    """It says which one; with the model back it goes on."""
    platform = crashed_after_a_swap(kafka.bootstrap, "alerts-acknowledged")
    without = Roles(PAIRS[2], pairs=(PAIRS[0], PAIRS[2]))
    with running(platform.worker(without)) as state:
        failure = state.wait_failed()
    assert isinstance(failure, WorkerError)
    assert f"there is no model {PAIRS[1].name}" in str(failure)
    platform.work(Roles(PAIRS[2]))
    assert set(platform.alerts()) == set(platform.expected({0: PAIRS[0], BATCH: PAIRS[1]}))
