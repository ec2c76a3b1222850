"""The verdict on a section: what is on the broker, beside what one pass over its topics gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from detectors.compiled import compile_pack
from detectors.stages import UserStage
from detectors.state import state_digest
from detectors.topology import Topology
from monitor.packs import load_pack
from monitor.pipeline import warm_up
from tests.chaos.control import ControlFigures, judge_control
from tests.chaos.errors import ChaosError
from tests.chaos.final_state import read_final_state
from tests.chaos.history import compare_with_history
from tests.chaos.oracle import expect, read_log
from tests.chaos.place import PARTITIONS
from tests.chaos.published import (
    Comparison,
    Published,
    compare,
    read_published,
    rows_in_store,
)
from tests.chaos.section import Outcome
from tests.chaos.user_counts import miscount

__all__ = ["PartitionVerdict", "Verdict", "judge"]


@dataclass(frozen=True, slots=True)
class PartitionVerdict:
    """Of one partition. ``problem`` says why there is no state to compare, if there is none.

    ``uncommitted`` are records at the end of the topics that no checkpoint covers; ``lost`` and
    ``doubled`` are events by users' counts. ``equal`` is None where the order of the topics
    was not determined.
    """

    partition: int
    records: int
    uncommitted: int
    lost: int
    doubled: int
    equal: bool | None
    digest: str
    expected_digest: str
    leftover_keys: int
    changelog_bytes: int
    problem: str = ""


@dataclass(slots=True)
class Verdict:
    """Of a section."""

    outcome: Outcome
    partitions: list[PartitionVerdict] = field(default_factory=list)
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    contradictory: dict[str, list[str]] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    published: dict[str, int] = field(default_factory=dict)
    store_rows: dict[str, int] = field(default_factory=dict)
    stages: list[UserStage] = field(default_factory=list)
    control: ControlFigures | None = None
    distinct: dict[str, int] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """Events that lay in the topics."""
        return sum(partition.records for partition in self.partitions)

    @property
    def events_lost(self) -> int:
        """Events that no checkpoint covers, or that a user's counts lack."""
        return sum(partition.uncommitted + partition.lost for partition in self.partitions)

    @property
    def events_doubled(self) -> int:
        """Events that a user's counts have twice."""
        return sum(partition.doubled for partition in self.partitions)

    @property
    def state_mismatches(self) -> int:
        """Partitions without a state, or with another than one pass gives."""
        return sum(p.equal is False or bool(p.problem) for p in self.partitions)

    @property
    def missing(self) -> int:
        """Messages (alerts, decisions, incidents) that should have been published."""
        return sum(len(comparison.missing) for comparison in self.comparisons.values())

    @property
    def wrong_messages(self) -> int:
        """Ids that should not be there, with other content, or of which two copies differ."""
        wrong = sum(len(c.unexpected) + len(c.different) for c in self.comparisons.values())
        return wrong + sum(map(len, self.contradictory.values()))

    @property
    def not_once_in_store(self) -> int:
        """How far the rows of the SQLite store are from one for each id."""
        return sum(abs(rows - self.distinct[table]) for table, rows in self.store_rows.items())


def judge(outcome: Outcome, tell: Callable[[str], None]) -> Verdict:
    """Read everything back and compare. Writes what is wrong into the section's folder."""
    topology = Topology(compile_pack(load_pack("default")))
    warm_up(topology)
    verdict = Verdict(outcome)
    names = outcome.place.names
    expected: dict[str, dict[str, bytes]] = {topic: {} for topic in names.outputs}
    for partition in range(PARTITIONS):
        tell(f"one pass over partition {partition}")
        _judge_partition(verdict, topology, partition, expected)
    tell("what was published")
    _judge_published(verdict, expected)
    place = outcome.place
    if place.control_topic is not None:
        tell("what the control counted")
        verdict.control = judge_control(
            place.bootstrap, place.control_group, place.control_topic, PARTITIONS
        )
    return verdict


def _judge_partition(
    verdict: Verdict,
    topology: Topology,
    partition: int,
    expected: Mapping[str, dict[str, bytes]],
) -> None:
    outcome = verdict.outcome
    place, names = outcome.place, outcome.place.names
    log = read_log(place.bootstrap, names, partition)
    one_pass = expect(topology, names, log)
    for topic, messages in one_pass.messages.items():
        expected[topic].update(messages)
    records = sum(log.ends.values())
    wanted = state_digest(one_pass.stage)
    try:
        state = read_final_state(topology, place, partition)
    except ChaosError as error:
        verdict.partitions.append(
            PartitionVerdict(partition, records, 0, records, 0, None, "", wanted, 0, 0, str(error))
        )
        return
    verdict.stages.append(state.stage)
    digest = state_digest(state.stage)
    equal = digest == wanted if outcome.section.exact else None
    counted = miscount(topology, state.stage, one_pass.stage, log.newest_by_key())
    uncommitted = sum(end - state.position.get(topic, 0) for topic, end in log.ends.items())
    verdict.partitions.append(
        PartitionVerdict(
            partition,
            records,
            uncommitted,
            counted.lost,
            counted.doubled,
            equal,
            digest,
            wanted,
            state.leftover,
            state.changelog_bytes,
        )
    )


def _judge_published(verdict: Verdict, expected: Mapping[str, Mapping[str, bytes]]) -> None:
    outcome = verdict.outcome
    place = outcome.place
    topics = [read_published(place.bootstrap, topic, PARTITIONS) for topic in place.names.outputs]
    for published in topics:
        topic = published.topic
        verdict.published[topic] = len(published.messages)
        verdict.duplicates[topic] = published.duplicates
        verdict.contradictory[topic] = published.contradictory
        if outcome.section.exact:
            verdict.comparisons[topic] = compare(published, expected[topic])
    alerts, decisions, incidents = topics
    if not outcome.section.exact and len(verdict.stages) == PARTITIONS:
        by_state = compare_with_history(verdict.stages, alerts, incidents)
        verdict.comparisons = {comparison.topic: comparison for comparison in by_state}
    verdict.distinct = {
        "alerts": len(alerts.copies),
        "decisions": len(decisions.copies),
        "incidents": len({name.partition(":")[0] for name in incidents.copies}),
        "incident_updates": len(incidents.copies),
    }
    store = outcome.journal.path.with_name("store.db")
    store.unlink(missing_ok=True)
    verdict.store_rows = rows_in_store(store, topics)
    _write_differences(outcome, topics, verdict.comparisons, expected)


def _write_differences(
    outcome: Outcome,
    topics: Sequence[Published],
    comparisons: Mapping[str, Comparison],
    expected: Mapping[str, Mapping[str, bytes]],
) -> None:
    """What was published, and what should have been, of every id that is not as it should be."""
    path = outcome.journal.path.with_name("differences.jsonl")
    with path.open("w", encoding="utf-8") as file:
        for published in topics:
            topic = published.topic
            comparison = comparisons.get(topic)
            wrong = dict.fromkeys(published.contradictory, "copies differ")
            if comparison is not None:
                wrong |= dict.fromkeys(comparison.missing, "missing")
                wrong |= dict.fromkeys(comparison.unexpected, "unexpected")
                wrong |= dict.fromkeys(comparison.different, "different")
            for name, what in wrong.items():
                line = {
                    "topic": topic,
                    "id": name,
                    "what": what,
                    "expected": expected[topic].get(name, b"").decode(),
                    "published": [copy.decode() for copy in published.copies.get(name, ())],
                }
                file.write(json.dumps(line) + "\n")
