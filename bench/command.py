"""``python -m bench``: Floodwatch beside its peers, on one broker, in one run.

Each runs as a process of its own on one core, in rounds A B C A B C; the broker has the other
cores. bench/README.md tells what is compared, and how. Prints a table, writes build/bench.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.alone import ALONE, measure_alone
from bench.contenders import CONTENDERS
from bench.coordination import measure_coordination
from bench.coordination_stream import measure_coordination_stream
from bench.corpus import Corpus, make_corpus
from bench.errors import BenchError
from bench.forest import measure_forest
from bench.machine import Cores, describe_machine, versions
from bench.process import REPOSITORY
from bench.recovery import measure_recovery
from bench.rounds import PARTITIONS, Sizes, run_rounds
from bench.store import measure_store
from bench.summary import summarise
from bench.table import print_alone, print_contenders, print_forest

__all__ = ["main"]

_RESULT: Final = REPOSITORY / "build" / "bench.json"
_FULL: Final = Sizes(
    events=1_000_000, short_events=100_000, rounds=3, users=200_000, keys=1_000_000
)
_QUICK: Final = Sizes(events=100_000, short_events=10_000, rounds=1, users=20_000, keys=20_000)
_RECOVERY: Final = "recovery"
_FOREST: Final = "forest"
_COORDINATION: Final = "coordination"
_STREAM: Final = "coordination_stream"
_STORE: Final = "store"
_STORE_ALERTS_PER_S: Final = 5_000
_WITHOUT_CORPUS: Final = frozenset({_RECOVERY, _FOREST, _COORDINATION, _STREAM, _STORE})
_NAMES: Final = (
    *(contender.name for contender in CONTENDERS),
    _RECOVERY,
    *ALONE,
    _FOREST,
    _COORDINATION,
    _STREAM,
    _STORE,
)


def main() -> int:
    """Measure, print and write; 1 when a figure could not be taken."""
    options = _parse()
    default = _QUICK if options.quick else _FULL
    sizes = Sizes(
        events=options.events or default.events,
        short_events=options.short_events or default.short_events,
        rounds=options.rounds or default.rounds,
        users=options.users or default.users,
        keys=options.keys or default.keys,
    )
    console = Console()
    try:
        cores = Cores.divide()
        os.sched_setaffinity(0, cores.others)
        with tempfile.TemporaryDirectory(prefix="floodwatch-bench-") as folder:
            figures = _measure(options.only, Path(folder), sizes, cores, console)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    _RESULT.parent.mkdir(exist_ok=True)
    _RESULT.write_text(json.dumps(figures, indent=2) + "\n")
    console.print(f"Written to {_RESULT.relative_to(REPOSITORY)}")
    return 0


def _measure(
    names: list[str], folder: Path, sizes: Sizes, cores: Cores, console: Console
) -> dict[str, object]:
    """All figures of ``build/bench.json``; the tables are printed on the way."""
    figures: dict[str, object] = {}
    machine = describe_machine(cores)  # Now: its load is that of others.
    if _RECOVERY in names:
        figures |= _recovery(sizes.keys, cores, console)
    if _FOREST in names:
        figures |= _forest(sizes.rounds, cores, console)
    if _COORDINATION in names:
        figures |= measure_coordination(sizes.rounds, cores.measured, console.print)
    if _STREAM in names:
        figures |= measure_coordination_stream(
            sizes.rounds, sizes.events, sizes.keys, cores.measured, console.print
        )
    if _STORE in names:
        seconds = 60 if sizes.rounds > 1 else 5
        figures |= measure_store(seconds, _STORE_ALERTS_PER_S, cores, console.print)
    if set(names) - _WITHOUT_CORPUS:
        console.print(f"simulating {sizes.events:,} events")
        corpus = make_corpus(folder, sizes.events)
        figures["bytes_per_event"] = round(corpus.bytes_per_event)
        figures |= _beside_peers_and_alone(names, corpus, sizes, cores, console)
    return {
        **figures,
        "partitions": PARTITIONS,
        "machine": machine,
        "versions": versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _recovery(keys: int, cores: Cores, console: Console) -> dict[str, object]:
    figures = measure_recovery(keys, cores.measured, console.print)
    whole_s, own_s = figures["recovery_s"], figures["recovery_without_start_s"]
    console.print(
        f"recovery of {keys:,} users: {whole_s:.1f} s from the start of the process, "
        f"{own_s:.1f} s from its first answer"
    )
    return {**{name: round(value, 1) for name, value in figures.items()}, "recovery_keys": keys}


def _forest(rounds: int, cores: Cores, console: Console) -> dict[str, object]:
    console.print("scoring rows by the forest and its peers")
    figures = measure_forest(rounds, cores.measured)
    print_forest(console, figures)
    return figures


def _beside_peers_and_alone(
    names: list[str], corpus: Corpus, sizes: Sizes, cores: Cores, console: Console
) -> dict[str, object]:
    figures: dict[str, object] = {}
    contenders = [contender for contender in CONTENDERS if contender.name in names]
    if contenders:
        results = run_rounds(contenders, corpus.ndjson, sizes, cores, console.print)
        print_contenders(console, contenders, results)
        figures |= summarise(results)
    alone = [name for name in ALONE if name in names]
    if alone:
        spreads = measure_alone(alone, corpus, sizes, cores.measured, console.print)
        print_alone(console, spreads)
        figures |= {name: round(spread.median) for name, spread in spreads.items()}
        figures["alone"] = {
            name: {"low": round(spread.low), "high": round(spread.high)}
            for name, spread in spreads.items()
        }
    return figures


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in _NAMES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(_NAMES)}")
    return names


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small round, for CI")
    parser.add_argument(
        "--only",
        type=_names,
        default=list(_NAMES),
        metavar="NAME,...",
        help=f"measure some of: {', '.join(_NAMES)}",
    )
    parser.add_argument("--rounds", type=int, help=f"rounds ({_FULL.rounds})")
    parser.add_argument("--events", type=int, help=f"events ({_FULL.events:,})")
    parser.add_argument(
        "--short-events", type=int, help=f"events for stock Faust ({_FULL.short_events:,})"
    )
    parser.add_argument("--users", type=int, help=f"users held in memory ({_FULL.users:,})")
    parser.add_argument("--keys", type=int, help=f"users to recover ({_FULL.keys:,})")
    return parser.parse_args()
