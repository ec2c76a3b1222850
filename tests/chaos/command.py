"""``python -m tests.chaos``: the simulation and a real broker, all figures in one place.

Prints a table and writes build/chaos.json; docs/chaos.md says what is shown and how each figure is
measured. Ends with 1 when one is not what it must be: logs, journals and differences then lie
in build/chaos.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from detectors.compiled import compile_pack
from detectors.topology import Topology
from monitor.packs import load_pack
from monitor.pipeline import warm_up
from tests.chaos.corpus import make_corpus
from tests.chaos.errors import ChaosError
from tests.chaos.figures import broker_figures, failures
from tests.chaos.judge import Verdict, judge
from tests.chaos.place import PARTITIONS
from tests.chaos.plan import Section, full_plan, short_plan
from tests.chaos.report import Reporter, print_figures
from tests.chaos.section import run_section
from tests.chaos.simulating import simulating
from tests.kafka import KafkaBroker
from tests.kafka.jars import JarsError
from tests.servers import ServerError

__all__ = ["main", "run_sections"]

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_RESULT: Final = _REPOSITORY / "build" / "chaos.json"
_FOLDER: Final = _REPOSITORY / "build" / "chaos"
_FULL_EVENTS: Final = 2_200_000
_SHORT_EVENTS: Final = 60_000
_FULL_SEEDS: Final = 520
_SHORT_SEEDS: Final = 10
_SURPLUS: Final = 1.25
_INTERRUPTED: Final = 130
_REPORT_EVERY_S: Final = 0.1


def main() -> int:
    """Run, print and write; 1 when something was lost or could not be measured."""
    options = _parse()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what was started, as Ctrl-C
    console = Console()
    shutil.rmtree(_FOLDER, ignore_errors=True)
    _FOLDER.mkdir(parents=True)
    reporter = Reporter(console)
    reporter.say(f"seed {options.seed}; logs and journals in {_FOLDER.relative_to(_REPOSITORY)}")
    figures: dict[str, Any] = {"seed": options.seed}
    try:
        with reporter.running(), ExitStack() as stack:
            simulated = None
            if options.only != "broker":
                seeds = options.seeds or (_SHORT_SEEDS if options.short else _FULL_SEEDS)
                simulated = stack.enter_context(simulating(_FOLDER, seeds))
            verdicts: list[Verdict] = []
            if options.only != "simulation":
                broker = stack.enter_context(KafkaBroker(folder=_FOLDER / "kafka"))
                verdicts = run_sections(broker, _plan(options), _FOLDER, options.seed, reporter)
                figures |= broker_figures(verdicts)
            if simulated is not None:
                reporter.step("waiting for the simulation")
                figures |= simulated()
    except (ChaosError, ServerError, JarsError) as error:
        _plainly(console, f"{error}\nSeed {options.seed}; what happened is in {_FOLDER}")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    failed = failures(figures, verdicts, full=not options.short)
    print_figures(console, figures, failed)
    _RESULT.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    console.print(f"Written to {_RESULT.relative_to(_REPOSITORY)}")
    if failed:
        _plainly(console, f"Seed {options.seed}; what happened is in {_FOLDER}")
        return 1
    shutil.rmtree(_FOLDER / "kafka", ignore_errors=True)
    return 0


def run_sections(
    broker: KafkaBroker,
    sections: Sequence[Section],
    folder: Path,
    seed: int,
    reporter: Reporter,
) -> list[Verdict]:
    """Run and judge sections one after the other. Raises ChaosError where one cannot be."""
    reporter.step("compiling kernels, which workers then find in the cache")
    warm_up(Topology(compile_pack(load_pack("default")), max_users=1))
    verdicts = []
    for number, section in enumerate(sections):
        reporter.step(f"simulating {section.events:,} events")
        corpus = make_corpus(
            int(section.events * _SURPLUS),
            partitions=PARTITIONS,
            report_every=max(1, int(section.events_per_s * _REPORT_EVERY_S)),
            seed=seed + number,
        )
        outcome = run_section(
            broker, section, corpus, folder / section.name, seed + number, reporter.progress
        )
        verdicts.append(judge(outcome, reporter.step))
        reporter.say(_summary(verdicts[-1]))
    return verdicts


def _plainly(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def _summary(verdict: Verdict) -> str:
    journal = verdict.outcome.journal
    return (
        f"[bold]{verdict.outcome.section.name}[/]: {verdict.records:,} events, "
        f"{journal.kills} kills, {verdict.outcome.rebalances} rebalances: "
        f"{verdict.events_lost:,} events lost, {verdict.events_doubled:,} doubled, "
        f"{verdict.state_mismatches} of {PARTITIONS} states differ, "
        f"{verdict.missing:,} messages missing, {verdict.wrong_messages:,} wrong"
    )


def _plan(options: argparse.Namespace) -> tuple[Section, ...]:
    if options.short:
        return short_plan(options.seed, options.events or _SHORT_EVENTS)
    return full_plan(options.seed, options.events or _FULL_EVENTS)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a minute, as in the tests")
    parser.add_argument("--only", choices=("simulation", "broker"), help="one of the two")
    parser.add_argument(
        "--seed",
        type=int,
        default=secrets.randbelow(1_000_000),
        help="decides the events, the faults and their order; drawn if not given",
    )
    parser.add_argument("--events", type=int, help=f"events at least ({_FULL_EVENTS:,})")
    parser.add_argument("--seeds", type=int, help=f"of the simulation ({_FULL_SEEDS})")
    return parser.parse_args()
