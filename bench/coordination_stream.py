"""Speed of the stages of shared keys and of groups, on one core, beside that of the users' stage.

``python -m bench.coordination_stream ROUNDS EVENTS HOT_ACTORS`` is the process that measures; it
prints the figures as JSON. Time is processor time. Traces are those that the users' stage makes of
the simulator's baseline traffic; so is what it takes without shared keys, measured beside.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from bench.alone import figures_of
from bench.errors import BenchError
from bench.summary import Spread
from detectors.batch import EventBatch
from detectors.compiled import CompiledPack, compile_pack
from detectors.group_stage import GroupStage
from detectors.pack import RuleSpec
from detectors.shared_stage import SharedStage
from detectors.stages import UserStage
from monitor.packs import load_pack
from monitor.simulator import Scenario, simulate_chunks

__all__ = ["measure", "measure_coordination_stream"]

_SEED: Final = 1
_USERS: Final = 100_000
_EVENTS_PER_S: Final = 150.0
_BATCH_EVENTS: Final = 16_000  # as the runner and the worker take them
_MAX_KEYS: Final = 262_144
_MAX_ACTORS: Final = 131_072
_HOT_KEY: Final = "the-video-that-everybody-shares"


class _Stages(NamedTuple):
    """Processor time that traces took in each stage, s."""

    shared_s: float
    groups_s: float

    @property
    def total_s(self) -> float:
        return self.shared_s + self.groups_s


def measure_coordination_stream(
    rounds: int, events: int, hot_actors: int, core: int, say: Callable[[str], None]
) -> dict[str, object]:
    """The part of ``build/bench.json`` about coordination in the stream. Raises BenchError.

    Figures are medians; ``coordination_stream`` has the spreads.
    """
    arguments = ("bench.coordination_stream", str(rounds), str(events), str(hot_actors))
    taken: dict[str, list[float]] = figures_of(arguments, core)
    spreads = {name: Spread.of(values) for name, values in taken.items()}
    medians = {name: spread.median for name, spread in spreads.items()}
    say(
        f"coordination: {medians['traces_per_s']:,.0f} traces/s on one core,"
        f" {medians['share_of_time']:.0%} of the time of all stages;"
        f" {medians['bytes_per_key']:,.0f} bytes a key; a key of {hot_actors:,} users beside:"
        f" {medians['hot_key_slowdown']:.2f}x the time of both alone"
    )
    return {
        **{f"coordination_stream_{name}": round(value, 3) for name, value in medians.items()},
        "coordination_stream": {
            name: {"low": round(spread.low, 3), "high": round(spread.high, 3)}
            for name, spread in spreads.items()
        },
    }


def measure(rounds: int, events: int, hot_actors: int) -> dict[str, list[float]]:
    """Figures of each round, after one that compiles."""
    pack = compile_pack(load_pack("default"))
    alone = compile_pack(replace(pack.pack, shared=None, rules=_rules_about_users(pack)))
    batches = _batches(events)
    traces, _ = _users(pack, batches)
    count = sum(map(len, traces))
    hot = _hot(traces, hot_actors)
    both = _interleaved(traces, hot)
    _run(pack, [frame[:2_000] for frame in both])
    _users(alone, batches[:1])
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        found = _run(pack, traces)
        _, users_s = _users(pack, batches)
        _, alone_s = _users(alone, batches)
        hot_s = _run(pack, hot).total_s
        both_s = _run(pack, both).total_s
        figures = {
            "traces_per_s": count / found.total_s,
            "shared_traces_per_s": count / found.shared_s,
            "events_per_s": events / (users_s + found.total_s),
            "users_alone_events_per_s": events / alone_s,
            "share_of_time": 1.0 - alone_s / (users_s + found.total_s),
            "bytes_per_key": _bytes_per_key(pack),
            "hot_key_traces_per_s": hot_actors / hot_s,
            "hot_key_slowdown": both_s / (hot_s + found.total_s),
        }
        for name, value in figures.items():
            taken.setdefault(name, []).append(value)
    return taken


def _rules_about_users(pack: CompiledPack) -> tuple[RuleSpec, ...]:
    return tuple(rule for rule in pack.pack.rules if rule.key == "user")


def _batches(events: int) -> list[EventBatch]:
    """The first ``events`` events of a platform with 100,000 users, as batches."""
    minutes = 1.2 * events / _EVENTS_PER_S / 60
    scenario = Scenario.model_validate(
        {"name": "bench", "baseline": {"events_per_s": _EVENTS_PER_S}}
    )
    chunks = simulate_chunks(scenario, seed=_SEED, users=_USERS, minutes=minutes)
    frame = pl.concat([chunk.events for chunk in chunks])[:events]
    if len(frame) < events:
        raise BenchError(f"the simulation gave {len(frame)} events instead of {events}")
    return [EventBatch.of(part) for part in frame.iter_slices(_BATCH_EVENTS)]


def _users(pack: CompiledPack, batches: Sequence[EventBatch]) -> tuple[list[pl.DataFrame], float]:
    """The traces of batches, if the pack has any, and the time of the users' stage."""
    stage = UserStage(pack, 2 * _USERS)
    start_s = time.process_time()
    made = [stage.process(batch).traces for batch in batches]
    spent_s = time.process_time() - start_s
    return [traces for traces in made if traces is not None], spent_s


def _run(pack: CompiledPack, traces: Sequence[pl.DataFrame]) -> _Stages:
    """Feed traces to new stages."""
    shared, groups = SharedStage(pack, _MAX_KEYS), GroupStage(pack, _MAX_ACTORS)
    shared_s = groups_s = 0.0
    for frame in traces:
        start_s = time.process_time()
        meetings = shared.process(frame).meetings
        between_s = time.process_time()
        if meetings is not None:
            groups.process(meetings)
        shared_s += between_s - start_s
        groups_s += time.process_time() - between_s
    return _Stages(shared_s, groups_s)


def _hot(traces: Sequence[pl.DataFrame], actors: int) -> list[pl.DataFrame]:
    """As many users, each once on the same video, spread over the time of ``traces``."""
    first = int(traces[0]["order_ms"][0])
    template = traces[0].filter(pl.col("space") == 1)[:1]
    edges = np.linspace(0, actors, len(traces) + 1).astype(np.int64)
    ends_ms = [int(frame["order_ms"][-1]) for frame in traces]
    made = []
    for start, end, from_ms, to_ms in zip(
        edges[:-1], edges[1:], [first, *ends_ms[:-1]], ends_ms, strict=True
    ):
        times_ms = np.linspace(from_ms, to_ms, end - start).astype(np.int64)
        numbers = pl.Series(np.arange(start, end))
        rows = template[np.zeros(end - start, dtype=np.int64)]
        made.append(
            rows.with_columns(
                pl.Series("ordinal", numbers),
                pl.Series("order_ms", times_ms),
                pl.Series("time_ms", times_ms),
                pl.lit(_HOT_KEY).alias("key"),
                pl.format("fan-{}", numbers).alias("user_id"),
                pl.format("hot-{}", numbers).alias("event_id"),
            )
        )
    return made


def _interleaved(
    traces: Sequence[pl.DataFrame], others: Sequence[pl.DataFrame]
) -> list[pl.DataFrame]:
    """Both, in the order of time."""
    pairs = zip(traces, others, strict=True)
    return [pl.concat(pair).sort("order_ms", maintain_order=True) for pair in pairs]


def _bytes_per_key(pack: CompiledPack) -> float:
    """What one key takes in the tables of the stage of shared keys."""
    stage = SharedStage(pack, 1_024)
    parts = (stage.keys, stage.features, stage.rings, stage.swarms)
    return float(sum(part.bytes_per_row for part in parts))


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:]))))
