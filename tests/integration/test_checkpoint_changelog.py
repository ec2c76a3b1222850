"""The changelog of checkpoints stays as small as the state, however many were written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import polars as pl
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from detectors.compiled import compile_pack
from detectors.topology import Topology
from monitor.checkpoint.codec import generation_of
from monitor.checkpoint.partition import CheckpointSettings
from monitor.failpoints import no_failpoint
from monitor.kafka.observer import IgnoringObserver
from monitor.kafka.topics import check_topics, declare_topics
from monitor.kafka.worker import Worker
from monitor.pipeline import PartitionPipeline, warm_up
from monitor.simulator.kafka_output import write_kafka
from tests.chaos.final_state import FinalState, read_final_state
from tests.chaos.place import Place
from tests.chaos.reading import read_partition
from tests.integration.kafka_harness import IGNORE_SOCKETS, Installation, running
from tests.kafka import ExistingBroker, KafkaBroker
from tests.support.events import START_MS, complete, random_events, small_pack
from tests.support.waiting import wait_until

pytestmark = IGNORE_SOCKETS

BLOCK_ROWS: Final = 8
USERS: Final = 30
PIECE: Final = 100
PIECES: Final = 4
"""Of events, one after the other, for each worker: so many checkpoints at least."""
AGO_MS: Final = 86_400_000 * 365  # long before any clock that a broker may have


@dataclass(slots=True)
class Written(IgnoringObserver):
    """Counts checkpoints."""

    count: int = 0

    def checkpoint_written(
        self, partition: int, *, elapsed_s: float, blocks: int, stored_bytes: int
    ) -> None:
        """Count one that is valid."""
        self.count += 1


@dataclass(slots=True)
class FailingBeforeCommit:
    """Between a manifest and the commit that would make it valid, at the ``left``-th time."""

    left: int

    def __call__(self, name: str) -> None:
        if name == "manifest-acknowledged":
            self.left -= 1
            if not self.left:
                raise RuntimeError("struck")


@dataclass(slots=True)
class Bench:
    """One partition, its events still to come, and workers one after the other."""

    place: Installation
    topology: Topology
    folder: Path
    events: list[pl.DataFrame] = field(default_factory=list)
    written: Written = field(default_factory=Written)

    def produce(self) -> None:
        """Write the next piece of events."""
        write_kafka(iter([self.events.pop(0)]), [self.place.bootstrap], self.place.names.inputs)

    def produce_and_wait(self) -> None:
        """Write the next piece of events and wait for a checkpoint."""
        before = self.written.count
        self.produce()
        wait_until(lambda: self.written.count > before, "a checkpoint is written")

    def worker(self, failpoint: Callable[[str], None] = no_failpoint) -> Worker:
        """Checkpoints as often as it can."""
        return Worker(
            self.place.settings(checkpoint=CheckpointSettings(interval_s=0.01, share=1.0)),
            lambda _: PartitionPipeline(self.topology, self.place.names.inputs),
            self.written,
            failpoint,
        )

    def work(self) -> None:
        """A worker that writes a checkpoint after each piece, and stops in order."""
        with running(self.worker()) as state:
            for _ in range(PIECES):
                self.produce_and_wait()
            assert state.failure is None

    def work_and_wait_for_compaction(self) -> None:
        """Then the broker removes something of what the worker left in the changelog."""
        before = self.removed()
        self.work()
        wait_until(lambda: self.removed() > before, "more is removed from the changelog")

    def fail(self) -> None:
        """A worker that writes one checkpoint and a second one that never becomes valid."""
        with running(self.worker(FailingBeforeCommit(left=2))) as state:
            self.produce_and_wait()
            self.produce()
            state.wait_failed()

    def final_state(self) -> FinalState:
        """As chaos reads it: from outside."""
        names, group = self.place.names, self.place.group
        place = Place(self.place.bootstrap, names, group, None, self.folder, 0)
        return read_final_state(self.topology, place, 0)

    def changelog(self) -> dict[str, bytes | None]:
        """The newest record of each key: what compaction leaves."""
        return {record.key.decode(): record.value for record in self.records()}

    def records(self) -> list[Any]:
        """What the changelog holds."""
        topic = self.place.names.checkpoints(self.place.group)
        return read_partition(self.place.bootstrap, topic, 0)

    def removed(self) -> int:
        """How many records the broker has removed from the changelog."""
        records = self.records()
        return int(records[-1].offset) + 1 - len(records) if records else 0


def quiet_users(first_ms: int) -> pl.DataFrame:
    """Users who fill two blocks, and do nothing ever after."""
    users = range(2 * BLOCK_ROWS)
    return complete(
        pl.DataFrame(
            {
                "event_id": [f"quiet-{user}" for user in users],
                "type": "report.filed",
                "time_ms": first_ms,
                "user_id": "reporter",
                "subject_user_id": [f"quiet-{user}" for user in users],
                "account_created_ms": first_ms,
                "tier": "free",
            }
        )
    )


def bench(bootstrap: str, folder: Path) -> Bench:
    topology = Topology(compile_pack(small_pack()), max_users=100, block_rows=BLOCK_ROWS)
    warm_up(topology)
    events = random_events(9, PIECE * 3 * PIECES, users=USERS, late_share=0.0)
    events = events.with_columns(pl.col("time_ms") - AGO_MS)
    pieces = [events[start : start + PIECE] for start in range(0, len(events), PIECE)]
    pieces[0] = pl.concat([quiet_users(START_MS - AGO_MS - 1), pieces[0]])
    return Bench(Installation.create(bootstrap, partitions=1), topology, folder, pieces)


@contextmanager
def eager_cleaner(bootstrap: str) -> Iterator[None]:
    """The broker looks for what can be compacted ten times a second, not every 15 s."""
    eager = ConfigResource(ConfigResourceType.BROKER, "1", {"log.cleaner.backoff.ms": "100"})
    usual = ConfigResource(
        ConfigResourceType.BROKER, "1", {"log.cleaner.backoff.ms": ("DELETE", None)}
    )
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.alter_configs([eager])
        yield
    finally:
        admin.alter_configs([usual])
        admin.close()


def generations(keys: Collection[str]) -> set[int]:
    """The generations in which keys were written."""
    return {generation_of(key.split("/")[1]) for key in keys}


def test_only_what_the_newest_manifest_names_has_a_value(
    kafka: KafkaBroker | ExistingBroker, tmp_path: Path
) -> None:
    """After many checkpoints of three workers, of whom one failed between manifest and commit."""
    workers = bench(kafka.bootstrap, tmp_path)
    workers.work()
    first = generations(workers.changelog())
    workers.fail()
    assert workers.final_state().leftover > 0, "of the checkpoint that never became valid"
    workers.work()
    final = workers.final_state()
    assert workers.written.count >= 2 * PIECES + 1
    assert final.leftover == 0
    changelog = workers.changelog()
    live = {key for key, value in changelog.items() if value is not None}
    assert len(live) == len(final.stage.snapshot(full=True).names) + 1, "a manifest and its blocks"
    assert min(generations(live)) in first, "a block that nobody touched is not written again"
    dead = changelog.keys() - live
    assert len(generations(dead)) == 3, "each generation has keys that are not needed any more"
    manifests = {key for key in dead if key.endswith("/manifest")}
    assert len(manifests) >= workers.written.count


def test_the_changelog_is_compacted_as_declared(kafka: KafkaBroker | ExistingBroker) -> None:
    """The broker has every setting of the declaration: it cleans up soon, and not by age."""
    place = Installation.create(kafka.bootstrap, partitions=2)
    specs = declare_topics(place.names, group=place.group, partitions=2)
    name = place.names.checkpoints(place.group)
    (spec,) = (spec for spec in specs if spec.name == name)
    assert spec.configuration["cleanup.policy"] == "compact"
    assert {"max.compaction.lag.ms", "delete.retention.ms"} <= spec.configuration.keys()
    (status,) = check_topics([place.bootstrap], [spec])
    assert (status.state, status.differences) == ("exists", ())


def test_what_compaction_leaves_is_restored(own_kafka: KafkaBroker, tmp_path: Path) -> None:
    """The broker does remove what has a tombstone, and workers go on from what is left."""
    workers = bench(own_kafka.bootstrap, tmp_path)
    at_once = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "0"}
    workers.place.configure(workers.place.names.checkpoints(workers.place.group), at_once)
    with eager_cleaner(own_kafka.bootstrap):
        for _ in range(3):
            workers.work_and_wait_for_compaction()
    final = workers.final_state()
    assert final.leftover == 0
    assert len(final.stage.keys) == USERS + 2 * BLOCK_ROWS
