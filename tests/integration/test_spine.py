"""The whole spine on a real broker: real traffic, every attack, and malformed records between.

Counts are taken from outside of the worker where they can be: what lies in the topics.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from detectors.compiled import compile_pack
from detectors.topology import Topology
from monitor.kafka.dlq import decode_dead_letter
from monitor.kafka.observer import IgnoringObserver
from monitor.kafka.worker import Worker
from monitor.packs import load_pack
from monitor.pipeline import Counts, PartitionPipeline, PipelineResult, warm_up
from monitor.runner import Runner
from monitor.simulator import Simulation, load_scenario, simulate
from monitor.simulator.kafka_output import write_kafka
from tests.integration.kafka_harness import Installation, running
from tests.kafka import ExistingBroker, KafkaBroker
from tests.support.attacks import SEEN_BY_ONE_USER
from tests.support.azure import AZURE_TRACES, azure_events
from tests.support.malformed import malformed_records
from tests.support.waiting import wait_until

PARTITIONS = 4
MALFORMED = 10_000
SEED = 11
NEEDS_MORE_THAN_AN_HOUR = frozenset({("slow-drip", "slow-drip-2")})
"""A drip every 90 s or so with a human-like rhythm: its rule looks at a whole day."""


@dataclass(slots=True)
class Counting(IgnoringObserver):
    """Sums what the worker says it did."""

    counts: Counts = field(default_factory=Counts)
    dead: Counter[str] = field(default_factory=Counter)

    def chunk_processed(self, partition: int, result: PipelineResult, elapsed_s: float) -> None:
        """Add a result."""
        self.counts.events.update(result.counts.events)
        self.counts.late += result.counts.late
        self.dead.update(letter.reason for letter in result.dead_letters)


@dataclass(frozen=True, slots=True)
class Spine:
    """What went in and what came out."""

    simulation: Simulation
    azure: pl.DataFrame
    installation: Installation
    alerts: list[dict[str, Any]]
    observer: Counting
    inputs: dict[str, list[Any]]


def mix_in_malformed(installation: Installation, events: pl.DataFrame) -> None:
    """Write events in pieces, with malformed records of every kind between the pieces."""
    bad = malformed_records(MALFORMED)
    piece = len(events) // 40 + 1
    names = installation.names
    for start in range(0, len(events), piece):
        write_kafka(iter([events[start : start + piece]]), [installation.bootstrap], names.inputs)
        records = [
            (names.inputs[number % 3], number % PARTITIONS, record)
            for number, record in zip(range(MALFORMED // 40), bad, strict=False)
        ]
        installation.produce(records, linger_ms=50)


@pytest.fixture(scope="module")
def spine(kafka: KafkaBroker | ExistingBroker, data_dir: Path) -> Spine:
    """One run of the worker with the default pack over everything, from the earliest offset."""
    installation = Installation.create(kafka.bootstrap, partitions=PARTITIONS)
    simulation = simulate(load_scenario("all-attacks"), seed=SEED, users=4_000)
    azure = pl.concat([azure_events(data_dir, trace) for trace in AZURE_TRACES]).sort("time_ms")
    write_kafka(iter([azure]), [installation.bootstrap], installation.names.inputs)
    mix_in_malformed(installation, simulation.events)
    topology = Topology(compile_pack(load_pack("default")))
    warm_up(topology)
    observer = Counting()
    worker = Worker(
        installation.settings(),
        lambda _: PartitionPipeline(topology, installation.names.inputs),
        observer,
    )
    inputs = {topic: installation.read(topic) for topic in installation.names.inputs}
    ends = Counter((r.topic, r.partition) for records in inputs.values() for r in records)

    def all_committed() -> bool:
        committed = installation.committed()
        return all(committed.get(tp) == end for tp, end in ends.items())

    with running(worker) as state:
        wait_until(
            lambda: state.failure is not None or all_committed(), "all committed", deadline_s=180
        )
        assert state.failure is None, state.failure
    alerts = [json.loads(record.value) for record in installation.read(installation.names.alerts)]
    return Spine(simulation, azure, installation, alerts, observer, inputs)


def alerted_users(spine: Spine) -> set[str]:
    """Users with an alert of a live rule."""
    return {alert["data"]["key"] for alert in spine.alerts if alert["data"]["mode"] == "live"}


def test_every_record_is_processed_late_or_a_dead_letter(spine: Spine) -> None:
    """Counts in = processed + dead-lettered + late, and in is what the topics hold."""
    records_in = sum(len(records) for records in spine.inputs.values())
    assert records_in == len(spine.azure) + len(spine.simulation.events) + MALFORMED
    counts = spine.observer.counts
    assert counts.events.total() + counts.late + spine.observer.dead.total() == records_in
    assert counts.late == 0


def test_every_malformed_record_is_in_the_dead_letters_with_its_offset(spine: Spine) -> None:
    """Each points at the record it was made from; no good record is among them."""
    names = spine.installation.names
    found: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
    for topic in names.inputs:
        by_offset = {(r.partition, r.offset): r.value for r in spine.inputs[topic]}
        for record in spine.installation.read(names.dead_letters(topic)):
            letter = decode_dead_letter(record.value)
            at = (letter.source.partition, letter.source.offset)
            value = by_offset[at]
            assert letter.raw_size_bytes == len(value or b"")
            assert letter.reason
            found[topic].add(at)
    assert sum(map(len, found.values())) == MALFORMED


def test_every_attack_that_user_rules_can_see_is_alerted(spine: Spine) -> None:
    """At least one actor of each such attack; the groups among the rest are for later stages."""
    users = alerted_users(spine)
    actors = spine.simulation.actors.filter(pl.col("attack_kind").is_in(SEEN_BY_ONE_USER))
    subjects = dict(report_subjects(spine.simulation))
    found = {
        (kind, attack)
        for user, kind, attack in actors.select("user_id", "attack_kind", "attack_id").iter_rows()
        if user in users or subjects.get(attack) in users
    }
    attacks = set(actors.select("attack_kind", "attack_id").unique().iter_rows())
    assert {kind for kind, _ in attacks} == SEEN_BY_ONE_USER
    assert attacks - found <= NEEDS_MORE_THAN_AN_HOUR


def report_subjects(simulation: Simulation) -> Iterator[tuple[str, str]]:
    """The victim of each report bombing: what its alert is about."""
    reports = simulation.labels.filter(pl.col("attack_kind") == "report-bombing")
    joined = reports.join(simulation.events.select("event_id", "subject_user_id"), on="event_id")
    yield from joined.select("attack_id", "subject_user_id").unique().iter_rows()


def test_no_alert_on_real_benign_traffic(spine: Spine) -> None:
    """Both Azure traces, 400 users each, at their real times."""
    assert [alert for alert in spine.alerts if alert["data"]["key"].startswith("azure-")] == []


def test_live_and_replay_give_the_same_alerts(spine: Spine) -> None:
    """The topics read back through the in-process runner: the same alerts, byte for byte."""
    names = spine.installation.names
    # One source a topic and partition, as the worker merges them.
    alerts: dict[str, Any] = {}
    topology = Topology(compile_pack(load_pack("default")))
    for partition in range(PARTITIONS):
        runner = Runner(topology, names.inputs)
        for topic in names.inputs:
            records = [r for r in spine.inputs[topic] if r.partition == partition]
            runner.push_records(topic, [r.value for r in records], [r.timestamp for r in records])
            runner.end(topic)
        found = (alert for alert in runner.run().alerts if alert.key_space == "user")
        alerts |= {alert.alert_id: alert for alert in found}
    live = {event["data"]["alert_id"]: event["data"] for event in spine.alerts}
    assert live.keys() == alerts.keys()
    assert len(live) == len(spine.alerts), "an alert was published twice"
    for alert_id, data in live.items():
        alert = alerts[alert_id]
        assert data["summary"] == alert.summary
        assert data["event_id"] == alert.event_id
        assert [e["value"] for e in data["evidence"]] == [e.value for e in alert.evidence]
