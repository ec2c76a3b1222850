"""The events that everybody reads: the simulator's baseline traffic, the same in every run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from bench.errors import BenchError
from monitor.simulator.errors import SimulationError
from monitor.simulator.run import SimulateOptions, run
from monitor.simulator.writers import write_file

__all__ = ["Corpus", "make_corpus"]

_SEED: Final = 1
# As many people as would make that many events of an afternoon: a user's own pace is what decides
# how many windows roll and how many rows are touched.
_USERS: Final = 500_000
_EVENTS_PER_S: Final = 300.0
_SURPLUS: Final = 1.1
_CHUNK_EVENTS: Final = 50_000


@dataclass(frozen=True, slots=True)
class Corpus:
    """The same ``events`` events in both formats."""

    events: int
    ndjson: Path
    parquet: Path

    @property
    def bytes_per_event(self) -> float:
        """Mean length of an event's JSON."""
        return self.ndjson.stat().st_size / self.events - 1


def make_corpus(folder: Path, events: int) -> Corpus:
    """Simulate honest traffic and keep the first ``events`` events. Raises BenchError."""
    simulated = folder / "simulated.parquet"
    options = SimulateOptions(
        scenario="baseline",
        out=str(simulated),
        seed=_SEED,
        users=_USERS,
        minutes=_SURPLUS * events / _EVENTS_PER_S / 60,
        events_per_s=_EVENTS_PER_S,
    )
    try:
        run(options)
        frame = pl.read_parquet(simulated).head(events)
        corpus = Corpus(events, folder / "events.ndjson", folder / "events.parquet")
        for file in (corpus.ndjson, corpus.parquet):
            write_file(frame.iter_slices(_CHUNK_EVENTS), file)
    except SimulationError as error:
        raise BenchError(f"simulating {events} events failed: {error}") from error
    if len(frame) < events:
        raise BenchError(f"the simulation gave {len(frame)} events instead of {events}")
    return corpus
