"""A simulation from scenario to output: what ``floodwatch simulate`` does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import polars as pl

from monitor.simulator.engine import DEFAULT_START_MS, Chunk, actors_of, simulate_chunks
from monitor.simulator.errors import OutputError
from monitor.simulator.kafka_output import write_kafka
from monitor.simulator.scenario import load_scenario
from monitor.simulator.writers import file_stem, write_file, write_table

__all__ = ["SimulateOptions", "SimulateResult", "run"]

_KAFKA_SCHEME: Final = "kafka://"


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """What to simulate, and where the events go.

    ``scenario`` is a built-in name or a YAML file; what is None is as the scenario says.
    ``out`` ends in .ndjson, .ndjson.zst or .parquet, or is kafka://host:port[,host:port].
    ``labels`` is the stem of the two files with the ground truth; None: that of ``out``, and for
    Kafka none are written.
    """

    scenario: str
    out: str
    seed: int = 1
    users: int | None = None
    minutes: float | None = None
    events_per_s: float | None = None
    start_ms: int = DEFAULT_START_MS
    labels: Path | None = None


@dataclass(frozen=True, slots=True)
class SimulateResult:
    """What came of it: ``attackers`` counts accounts, ``paths`` are the files written."""

    events: int
    attack_events: int
    attackers: int
    attacks: int
    seconds: float
    out: str
    paths: tuple[Path, ...]

    @property
    def events_per_s(self) -> float:
        """How fast events were made and written."""
        return self.events / max(self.seconds, 1e-9)

    def summary(self) -> str:
        """The result in a line."""
        return (
            f"{self.events:,} events, {self.attack_events:,} of them in {self.attacks:,} attacks "
            f"by {self.attackers:,} accounts; {self.seconds:.1f} s "
            f"({self.events_per_s:,.0f} events/s); "
            + ", ".join([self.out, *(str(path) for path in self.paths if str(path) != self.out)])
        )


def run(options: SimulateOptions) -> SimulateResult:
    """Simulate and write the events, then the ground truth beside them.

    Raises ScenarioError, SimulationError or OutputError, each with what to do about it.
    """
    started_s = time.perf_counter()
    scenario = load_scenario(options.scenario)
    if options.events_per_s is not None:
        baseline = scenario.baseline.model_copy(update={"events_per_s": options.events_per_s})
        scenario = scenario.model_copy(update={"baseline": baseline})
    brokers = _brokers(options.out)
    stem = options.labels
    if stem is None and not brokers:
        stem = file_stem(Path(options.out))
    chunks = simulate_chunks(
        scenario,
        seed=options.seed,
        users=options.users,
        minutes=options.minutes,
        start_ms=options.start_ms,
    )
    tally = _Tally(chunks)
    if brokers:
        write_kafka(tally.frames(), brokers)
        paths: list[Path] = []
    else:
        write_file(tally.frames(), Path(options.out))
        paths = [Path(options.out)]
    actors = actors_of(tally.truth)
    if stem is not None:
        tables = {".labels.parquet": tally.labels(), ".actors.parquet": actors}
        for suffix, table in tables.items():
            path = stem.with_name(stem.name + suffix)
            write_table(table, path)
            paths.append(path)
    return SimulateResult(
        events=tally.events,
        attack_events=int(actors["events"].sum()),
        attackers=actors["user_id"].n_unique(),
        attacks=actors["attack_id"].n_unique(),
        seconds=time.perf_counter() - started_s,
        out=options.out,
        paths=tuple(paths),
    )


class _Tally:
    """Passes event tables on, counts them and keeps their labels (a small part of them)."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self.events = 0
        self.truth: list[Chunk] = []

    def frames(self) -> Iterator[pl.DataFrame]:
        """The event tables, one after the other."""
        for chunk in self._chunks:
            self.events += chunk.events.height
            self.truth.append(chunk.without_events())
            yield chunk.events

    def labels(self) -> pl.DataFrame:
        """The labels of all tables that were passed on."""
        return pl.concat([chunk.labels for chunk in self.truth])


def _brokers(out: str) -> tuple[str, ...]:
    """The brokers that ``out`` names; none for a file. Raises OutputError for a wrong address."""
    if not out.startswith(_KAFKA_SCHEME):
        return ()
    brokers = tuple(out.removeprefix(_KAFKA_SCHEME).rstrip("/").split(","))
    for broker in brokers:
        try:
            parts = urlsplit(f"//{broker}")
            usable = bool(parts.hostname) and parts.port is not None and parts.path == ""
        except ValueError:
            usable = False
        if not usable:
            raise OutputError(f"{out}: {broker!r} is no broker; give kafka://host:port")
    return brokers
