"""Runs the contenders in rounds, A B C A B C, so that all share the drift of the machine."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.contenders import Contender
from bench.load import load
from bench.machine import Cores
from bench.task import Measurement, Task
from monitor.kafka.topics import TopicNames, create_topics, declare_topics
from tests.kafka import KafkaBroker

__all__ = ["PARTITIONS", "Sizes", "run_rounds"]

PARTITIONS: Final = 4
_ALL: Final = TopicNames()
_SHORT: Final = TopicNames.with_prefix("short-")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured, and how often.

    ``events`` are for the fast contenders, ``short_events`` for the slow ones; ``users`` become
    active where memory is measured, ``keys`` are recovered.
    """

    events: int
    short_events: int
    rounds: int
    users: int
    keys: int


def run_rounds(
    contenders: Sequence[Contender],
    events_file: Path,
    sizes: Sizes,
    cores: Cores,
    say: Callable[[str], None],
) -> dict[str, list[Measurement]]:
    """Measurements of each contender, one a round, on one broker with the events loaded before.

    Run it with the harness bound to ``cores.others``: the broker inherits that. ``say`` gets a
    line for each step. Raises BenchError when one contender fails: a table with holes is none.
    """
    results: dict[str, list[Measurement]] = {contender.name: [] for contender in contenders}
    with KafkaBroker() as broker:
        for names, count in ((_ALL, sizes.events), (_SHORT, sizes.short_events)):
            say(f"loading {count:,} events into three topics of {PARTITIONS} partitions")
            create_topics([broker.bootstrap], declare_topics(names, partitions=PARTITIONS))
            load(broker.bootstrap, events_file, count, names)
        for number in range(1, sizes.rounds + 1):
            for contender in contenders:
                measurement = _measure(contender, broker.bootstrap, sizes, cores)
                results[contender.name].append(measurement)
                rate = f"{measurement.events_per_s:,.0f} events/s"
                say(f"round {number} of {sizes.rounds}: {contender.label}: {rate}")
    return results


def _measure(contender: Contender, bootstrap: str, sizes: Sizes, cores: Cores) -> Measurement:
    with tempfile.TemporaryDirectory(prefix="floodwatch-bench-") as folder:
        task = Task(
            bootstrap=bootstrap,
            topics=(_SHORT if contender.short else _ALL).inputs,
            events=sizes.short_events if contender.short else sizes.events,
            partitions=PARTITIONS,
            group=f"bench-{contender.name}-{uuid.uuid4().hex[:8]}",
            folder=folder,
        )
        return contender.measure(task, cores.measured)
