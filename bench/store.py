"""What storing 5,000 alerts a second costs the process that detects, with either database.

``python -m bench.store URL SECONDS ALERTS_PER_S OTHER_CORES...`` is the process that measures; it
prints the figures as JSON. Its main thread detects on one core, with and without a ``StoreWriter``
that gets alerts, each with its incident, by the clock; rounds take turns. The writer's thread and
the database have the other cores, but the interpreter is one: what its thread needs is felt.
PostgreSQL waits for the disk at every commit, as it comes; SQLite is as the demo has it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import polars as pl
from prometheus_client import CollectorRegistry

from bench.alone import figures_of
from bench.errors import BenchError
from bench.summary import Spread
from detectors.compiled import compile_pack
from detectors.incidents import Output
from detectors.topology import Topology
from monitor.packs import load_pack
from monitor.runner import Runner
from monitor.simulator import load_scenario, simulate_chunks
from monitor.store.spool import Spool
from monitor.store.store import Store
from monitor.store.writer import StoreWriter
from monitor.store_metrics import StoreMetrics
from tests.postgres import PostgresServer
from tests.support.outputs import an_alert, an_incident

if TYPE_CHECKING:
    from bench.machine import Cores
    from detectors.compiled import CompiledPack

__all__ = ["measure", "measure_store"]

_SOURCE: Final = "simulated"
_EVENTS: Final = 60_000
_BATCH_EVENTS: Final = 4_000
_USERS: Final = 20_000
_SPOOL_BYTES: Final = 1 << 30


def measure_store(
    seconds: int, alerts_per_s: int, cores: Cores, say: Callable[[str], None]
) -> dict[str, object]:
    """The part of ``build/bench.json`` about the store. Raises BenchError."""
    figures: dict[str, object] = {"store_alerts_per_s": alerts_per_s, "store_seconds": seconds}
    with tempfile.TemporaryDirectory(prefix="floodwatch-bench-") as folder:
        places = {"sqlite": f"sqlite:///{folder}/store.db"}
        with PostgresServer(durable=True) as server:
            places["postgresql"] = server.url(server.new_database())
            for name, url in places.items():
                arguments = ("bench.store", url, str(seconds), str(alerts_per_s))
                found = figures_of((*arguments, *map(str, sorted(cores.others))), cores.measured)
                say(
                    f"store, {name}: {found['stored']:,.0f} alerts stored of {found['given']:,.0f} "
                    f"given at {alerts_per_s:,}/s for {seconds} s; detection at "
                    f"{found['speed']:.1%} of its speed without "
                    f"({found['speed_by_cpu_time']:.1%} by processor time)"
                )
                figures |= {f"store_{name}_{key}": value for key, value in found.items()}
    return figures


class _Time(NamedTuple):
    """How long detection took: on the wall, and of the processor in its thread."""

    clock_s: float
    cpu_s: float


@dataclass(slots=True)
class _Feed:
    """Gives a writer what is due by the clock."""

    writer: StoreWriter
    alerts_per_s: int
    given: int = 0
    ready: list[list[Output]] = field(default_factory=list)

    def prepare(self, seconds: float) -> None:
        """Make outputs ahead: it is detection that makes them, stored or not."""
        wanted = round(self.alerts_per_s * seconds) - len(self.ready)
        first = self.given + len(self.ready)
        for number in range(first, first + max(0, wanted)):
            self.ready.append([an_incident(number), an_alert(number)])

    def give(self, elapsed_s: float, before: int) -> None:
        """What is due ``elapsed_s`` into a round that began with ``before`` given."""
        due = min(round(self.alerts_per_s * elapsed_s) - (self.given - before), len(self.ready))
        if due > 0:
            self.writer.write([output for pair in self.ready[:due] for output in pair])
            del self.ready[:due]
            self.given += due


def measure(url: str, seconds: int, alerts_per_s: int, others: Sequence[int]) -> dict[str, float]:
    """Rounds without and with the writer, until it was at work for ``seconds``."""
    own = os.sched_getaffinity(0)
    batches = list(_batches())
    pack = compile_pack(load_pack("default"))
    registry = CollectorRegistry()
    with tempfile.TemporaryDirectory(prefix="floodwatch-bench-") as folder:
        spool = Spool(Path(folder) / "spool", _SPOOL_BYTES)
        os.sched_setaffinity(0, others)  # of the writer's thread, which inherits it
        writer = StoreWriter(Store(url), spool, observer=StoreMetrics(registry))
        os.sched_setaffinity(0, own)
        feed = _Feed(writer, alerts_per_s)
        alone = _detect(pack, batches, None)  # compiles
        ratios: list[tuple[float, float]] = []
        at_work_s, spooled = 0.0, 0
        while at_work_s < seconds:
            alone = _detect(pack, batches, None)
            feed.prepare(2.0 * alone.clock_s)
            before = feed.given
            beside = _detect(pack, batches, feed)
            cost_s = (beside.cpu_s - alone.cpu_s) / max(1, feed.given - before)
            at_work_s += beside.clock_s
            spooled = max(spooled, len(spool))
            ratios.append((alone.clock_s / beside.clock_s, 1.0 - alerts_per_s * cost_s))
        writer.close()
        if writer.waiting or writer.dropped:
            raise BenchError(f"{writer.waiting} wait and {writer.dropped} are lost")
    with closing(Store(url)) as store:
        stored = store.counts()["alerts"]
    if stored != feed.given:
        raise BenchError(f"{feed.given} alerts were given, {stored} are stored")
    clock, cpu = (Spread.of(values) for values in zip(*ratios, strict=True))
    return {
        "speed": round(clock.median, 3),
        "speed_low": round(clock.low, 3),
        "speed_by_cpu_time": round(cpu.median, 3),
        "given": feed.given,
        "stored": stored,
        "spooled": spooled,
        "rounds": len(ratios),
    }


def _detect(pack: CompiledPack, batches: Sequence[pl.DataFrame], feed: _Feed | None) -> _Time:
    """Detect in all batches with an empty state; ``feed`` gives its writer what is due."""
    runner = Runner(Topology(pack, _USERS), [_SOURCE], 1)
    before = 0 if feed is None else feed.given
    started_s, started_cpu_s = time.perf_counter(), time.thread_time()
    for batch in batches:
        runner.push_frame(_SOURCE, batch, int(batch["time_ms"][-1]))
        runner.run()
        if feed is not None:
            feed.give(time.perf_counter() - started_s, before)
    return _Time(time.perf_counter() - started_s, time.thread_time() - started_cpu_s)


def _batches() -> Iterator[pl.DataFrame]:
    chunks = simulate_chunks(load_scenario("baseline"), seed=1, users=_USERS, minutes=600.0)
    events = pl.concat(islice((chunk.events for chunk in chunks), 60)).sort("time_ms")[:_EVENTS]
    if len(events) < _EVENTS:
        raise BenchError(f"only {len(events)} events were simulated")
    yield from events.iter_slices(_BATCH_EVENTS)


if __name__ == "__main__":
    print(
        json.dumps(
            measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), [*map(int, sys.argv[4:])])
        )
    )
