"""Dead letters and a worker: what it put aside, driven again past a crash, it processes once."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from detectors.compiled import compile_pack
from detectors.topology import Topology
from monitor.kafka.observer import IgnoringObserver
from monitor.kafka.worker import Worker
from monitor.packs import load_pack
from monitor.pipeline import PartitionPipeline, PipelineResult, warm_up
from tests.integration.dlq_harness import PARTITIONS, Place, killed_redrive, write_settings
from tests.integration.kafka_harness import Installation, running
from tests.kafka import ExistingBroker, KafkaBroker
from tests.support.letters import event_bytes, letter_message
from tests.support.waiting import wait_until

GOOD = 50
BAD = 20


@dataclass(slots=True)
class Counting(IgnoringObserver):
    """Sums what the worker says it did."""

    events: Counter[str] = field(default_factory=Counter)
    dead: int = 0

    def chunk_processed(self, partition: int, result: PipelineResult, elapsed_s: float) -> None:
        self.events.update(result.counts.events)
        self.events["late"] += result.counts.late

    def dead_letter(self, source: str, reason: str) -> None:
        self.dead += 1


def test_a_worker_processes_a_redriven_event_once_and_puts_aside_again_what_is_bad(
    kafka: KafkaBroker | ExistingBroker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The re-drive is killed after it has sent and before it could note that."""
    installation = Installation.create(kafka.bootstrap, partitions=PARTITIONS)
    names = installation.names
    place = Place(kafka.bootstrap, names, write_settings(kafka.bootstrap, names, tmp_path))
    topology = Topology(compile_pack(load_pack(tmp_path / "pack")), 1_000)
    warm_up(topology)
    observer = Counting()
    worker = Worker(
        installation.settings(),
        lambda _: PartitionPipeline(topology, names.inputs),
        observer,
    )
    with running(worker) as state:
        state.wait_ready()
        installation.produce(
            (place.source, n % PARTITIONS, event_bytes(time="soon")) for n in range(BAD)
        )
        wait_until(lambda: len(place.letters()) == BAD, "what is bad is put aside")
        place.put(
            letter_message(event_bytes(event_id=f"e{n}"), offset=1_000 + n, names=names)
            for n in range(GOOD)
        )
        killed_redrive(place, "letters-sent", 1)
        code, out, _ = place.run(capfd, "redrive", "--json", "--topic", place.source)
        assert code == 0
        (topic,) = json.loads(out)["topics"]
        assert (topic["settled"], topic["sent"]) == (GOOD + BAD, 0)
        wait_until(lambda: observer.dead == 2 * BAD, "what is bad is put aside again")
        wait_until(lambda: observer.events.total() >= GOOD, "what is good is processed")
        ends = {(place.source, n): 0 for n in range(PARTITIONS)}
        for record in place.records(place.source):
            ends[place.source, record.partition] = record.offset + 1
        wait_until(
            lambda: all(installation.committed().get(at, 0) >= end for at, end in ends.items()),
            "everything is done",
        )
    assert observer.events.total() == GOOD
    assert observer.dead == 2 * BAD
    _, out, _ = place.run(capfd, "list", "--each", "--json", "--limit", "1000")
    letters = [json.loads(line) for line in out.splitlines()]
    assert Counter((line["attempts"], line["redriven"]) for line in letters) == {
        (0, True): GOOD + BAD,
        (1, False): BAD,
    }
