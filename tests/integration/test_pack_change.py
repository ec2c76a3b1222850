"""A worker with a changed pack takes over from the checkpoint of the one before."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any, Final

import msgspec
import polars as pl
import pytest
from kafka import KafkaProducer

from detectors.compiled import compile_pack
from detectors.pack import FeatureSpec, LimitsSpec, Pack, RuleSpec, WindowSpec
from detectors.state.blocks import STATE_FORMAT
from detectors.topology import Topology
from monitor.checkpoint.codec import Manifest, decode_manifest, encode_manifest
from monitor.kafka.errors import WorkerError
from monitor.kafka.worker import Worker
from monitor.pipeline import PartitionPipeline, warm_up
from monitor.simulator.kafka_output import write_kafka
from tests.chaos.reading import committed_offsets, read_partition
from tests.integration.kafka_harness import IGNORE_SOCKETS, Installation, running
from tests.kafka import ExistingBroker, KafkaBroker
from tests.support.events import complete
from tests.support.waiting import wait_until

pytestmark = IGNORE_SOCKETS

FIRST_MS: Final = 1_750_000_000_000
REQUESTED: Final = "generation.requested"
BLOCKED: Final = "generation.blocked"
SHARED: Final = "share.created"


def rule(name: str, when: str) -> RuleSpec:
    return RuleSpec(name, name.title(), when, "medium", 60_000, f"docs/runbooks/{name}.md")


BEFORE: Final = Pack(
    name="before",
    windows=(WindowSpec("1m", 60_000, 6), WindowSpec("10m", 600_000, 5)),
    features=(
        FeatureSpec("generations", "count", ("1m", "10m"), f"type = '{REQUESTED}'"),
        FeatureSpec("shares", "count", ("1m",), f"type = '{SHARED}'"),
    ),
    derived=(),
    rules=(rule("burst", "generations_1m >= 8"), rule("marathon", "generations_10m >= 9")),
    limits=LimitsSpec(),
)
AFTER: Final = replace(
    BEFORE,
    name="after",
    windows=(BEFORE.windows[0], WindowSpec("10m", 600_000, 10)),
    features=(
        FeatureSpec("blocked", "count", ("1m",), f"type = '{BLOCKED}'"),
        BEFORE.features[0],
    ),
    rules=(*BEFORE.rules, rule("probing", "blocked_1m >= 3")),
)


class Platform:
    """Events one second apart, to topics of one partition; workers one at a time."""

    def __init__(self, bootstrap: str) -> None:
        self.place = Installation.create(bootstrap, partitions=1)
        self.changelog = self.place.names.checkpoints(self.place.group)
        self._numbers = count()

    def happens(self, *deeds: tuple[str, str, int]) -> None:
        """Write (user, event type, how often), in this order."""
        rows = [(user, kind, next(self._numbers)) for user, kind, n in deeds for _ in range(n)]
        frame = pl.DataFrame(rows, ["user_id", "type", "number"], orient="row").with_columns(
            event_id="e" + pl.col("number").cast(pl.String),
            request_id="r" + pl.col("number").cast(pl.String),
            asset_id="a" + pl.col("number").cast(pl.String),
            time_ms=FIRST_MS + 1_000 * pl.col("number"),
            account_created_ms=FIRST_MS,
            tier=pl.lit("free"),
        )
        frames = iter([complete(frame)])
        write_kafka(frames, [self.place.bootstrap], self.place.names.inputs)

    def worker(self, pack: Pack) -> Worker:
        topology = Topology(compile_pack(pack), max_users=100, block_rows=8)
        warm_up(topology)
        return Worker(
            self.place.settings(), lambda _: PartitionPipeline(topology, self.place.names.inputs)
        )

    def work(self, pack: Pack) -> None:
        """A worker does all there is and is stopped in order."""
        ends = {(topic, 0): len(self.place.read(topic)) for topic in self.place.names.inputs}
        ends = {tp: end for tp, end in ends.items() if end}
        with running(self.worker(pack)) as state:
            wait_until(
                lambda: state.failure is not None or self.place.committed() == ends,
                "all is committed",
            )
            assert state.failure is None, state.failure

    def alerts(self) -> list[tuple[str, str, int]]:
        """Of each alert the rule, the user and the number of the event at which it came."""
        found = [
            json.loads(record.value)["data"] for record in self.place.read(self.place.names.alerts)
        ]
        return [(a["rule_id"], a["key"], int(a["event_id"][1:])) for a in found]

    def durable(self) -> tuple[object, list[tuple[bytes, bytes | None]]]:
        """All that a worker keeps: the committed offsets with metadata, and the changelog."""
        records = read_partition(self.place.bootstrap, self.changelog, 0)
        committed = committed_offsets(self.place.bootstrap, self.place.group)
        return committed, [(record.key, record.value) for record in records]

    def manifest(self) -> tuple[bytes, bytes]:
        """Key and value of the only manifest that is not a tombstone."""
        newest = dict(self.durable()[1])
        ((key, value),) = ((k, v) for k, v in newest.items() if k.endswith(b"/manifest") and v)
        return key, value

    def overwrite(self, key: bytes, value: bytes) -> None:
        """Put a record into the changelog."""
        producer = KafkaProducer(bootstrap_servers=self.place.bootstrap, acks="all")
        try:
            producer.send(self.changelog, key=key, value=value, partition=0).get()
        finally:
            producer.close()


def test_what_a_new_pack_keeps_goes_on_and_the_rest_is_said(
    kafka: KafkaBroker | ExistingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """A feature comes, one goes, a window changes, a rule comes; cooldowns go on as well."""
    platform = Platform(kafka.bootstrap)
    platform.happens(("mallory", REQUESTED, 5), ("mallory", BLOCKED, 2), ("mallory", SHARED, 1))
    platform.happens(("eve", REQUESTED, 8))
    platform.work(BEFORE)
    assert platform.alerts() == [("burst", "eve", 15)]

    platform.happens(("mallory", REQUESTED, 4), ("eve", REQUESTED, 1), ("mallory", BLOCKED, 3))
    platform.happens(("zoe", REQUESTED, 9))
    platform.work(AFTER)
    assert platform.alerts() == [
        ("burst", "eve", 15),  # and not again at 20: it is the same incident
        ("burst", "mallory", 18),  # the eighth: 5 before the change, 3 after it
        ("probing", "mallory", 23),  # the third that was counted; nobody counted those before
        ("burst", "zoe", 31),
        ("marathon", "zoe", 32),  # mallory and eve had 9 too, most of them before the change
    ]
    said = [r.message for r in caplog.records if r.name == "monitor.checkpoint.partition"]
    assert said == [
        "partition 0: feature blocked_1m: is new: starts empty",
        "partition 0: feature generations_10m: pane_ms is 60000 now, was 120000: starts empty",
        "partition 0: feature shares_1m: is not kept any more: dropped",
    ]


def newer_manifest(manifest: Manifest) -> Manifest:
    return msgspec.structs.replace(manifest, format=manifest.format + 1)


def newer_state(manifest: Manifest) -> Manifest:
    layout: Mapping[str, Any] = manifest.layout
    return msgspec.structs.replace(manifest, layout={**layout, "format": STATE_FORMAT + 1})


@pytest.mark.parametrize(
    ("newer", "words"),
    [
        (newer_manifest, "has format 2, this version reads 1; run the version that wrote it"),
        (newer_state, f"format {STATE_FORMAT + 1} is newer than {STATE_FORMAT}"),
    ],
)
def test_a_checkpoint_of_a_newer_version_is_refused_and_left_alone(
    kafka: KafkaBroker | ExistingBroker, newer: Callable[[Manifest], Manifest], words: str
) -> None:
    """The worker stops and says why; who can read the checkpoint goes on as if nothing was."""
    platform = Platform(kafka.bootstrap)
    platform.happens(("mallory", REQUESTED, 5))
    platform.work(BEFORE)
    key, ours = platform.manifest()
    checkpoint = key.decode().split("/")[1]
    platform.overwrite(key, encode_manifest(newer(decode_manifest(checkpoint, ours))))
    platform.happens(("mallory", REQUESTED, 3))
    before = platform.durable()
    with running(platform.worker(BEFORE)) as state:
        failure = state.wait_failed()
    assert isinstance(failure, WorkerError)
    assert words in str(failure)
    assert platform.durable() == before
    assert platform.alerts() == []

    platform.overwrite(key, ours)
    platform.work(BEFORE)
    assert platform.alerts() == [("burst", "mallory", 7)]
