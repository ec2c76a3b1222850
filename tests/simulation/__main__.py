"""``python -m tests.simulation``: many seeds, or one again with everything that happens in it.

The last line is JSON, with the figures of all seeds:

- ``sim_seeds``: runs, each with a world, a workload and faults of its own;
- ``sim_crash_points``: how often a worker was killed at a point (``faults``) and started anew;
- ``sim_events_lost``: records of the logs that the state which counts has not taken, as the
  accepted commits and the steps of pipelines tell (``history``);
- ``sim_state_mismatches``: partitions whose state, in the last worker or restored from the
  changelog, differs in a byte from that of a single pass (``oracle``);
- ``sim_rows_wrong``: rows from one stage to the next that did not come through exactly once, of
  ``sim_rows`` (in worlds with more than the first stage);
- ``sim_missing_alerts``, ``sim_unexpected_alerts``, ``sim_differing_alerts``: ids of alerts,
  incidents, decisions and dead letters that the single pass gives and the topics lack, the other
  way round, or have with another content;
- ``sim_failed_seeds``: runs with any of these, or in which a worker failed or never came to rest;
- ``sim_duplicates``: messages beyond the first of their id, which are allowed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import IO, Any, Final

_PROGRESS_S: Final = 10.0
_TOLD_PROBLEMS: Final = 3
_SUMS: Final = {
    "sim_events": "events",
    "sim_events_lost": "events_lost",
    "sim_state_mismatches": "state_mismatches",
    "sim_missing_alerts": "missing",
    "sim_unexpected_alerts": "unexpected",
    "sim_differing_alerts": "differing",
    "sim_messages": "messages",
    "sim_duplicates": "duplicates",
    "sim_checkpoints": "checkpoints",
    "sim_swaps": "swaps",
    "sim_rows": "rows",
    "sim_rows_wrong": "rows_wrong",
    "sim_forced_orders": "forced_orders",
    "sim_pauses": "pauses",
    "sim_rebalances": "rebalances",
    "sim_fenced_commits": "fenced_commits",
    "sim_points": "points",
}


def main() -> int:
    """Run what the arguments ask for; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seeds", type=int, default=500, help="how many seeds (500)")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes to run them in (1)")
    parser.add_argument("--seed", type=int, help="only this seed, telling what happens")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return _run_seeds(arguments)
    if arguments.seed is not None:
        with _child("--seed", arguments.seed, output=None) as child:
            return child.wait()
    return _run_children(arguments)


def _child(*arguments: object, output: int | None) -> subprocess.Popen[str]:
    """This program in an environment that replays: sets have an order in it, Polars no threads."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "POLARS_MAX_THREADS": "1"}
    command = [sys.executable, "-m", "tests.simulation", "--child", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=output, text=True)


def _run_seeds(arguments: argparse.Namespace) -> int:
    """In a child: a line of JSON for each seed; or one seed in words."""
    from tests.simulation.run import simulate  # noqa: PLC0415 - only now is the environment right

    logging.disable(logging.CRITICAL)  # A worker that is killed over and over has much to say.
    if arguments.seed is not None:
        verdict = simulate(arguments.seed, tell=print)
        print(json.dumps(asdict(verdict), indent=2))
        return int(verdict.wrong)
    last = arguments.first_seed + arguments.seeds
    for seed in range(arguments.first_seed, last, arguments.jobs):
        print(json.dumps(asdict(simulate(seed))), flush=True)
    return 0


def _run_children(arguments: argparse.Namespace) -> int:
    """Run all seeds, tell how it goes, print the figures."""
    last = arguments.first_seed + arguments.seeds
    children = [
        _child(
            "--first-seed",
            first,
            "--seeds",
            last - first,
            "--jobs",
            arguments.jobs,
            output=subprocess.PIPE,
        )
        for first in range(arguments.first_seed, min(last, arguments.first_seed + arguments.jobs))
    ]
    verdicts: list[dict[str, Any]] = []
    started_s = told_s = time.monotonic()
    for line in _lines([child.stdout for child in children if child.stdout]):
        verdict = json.loads(line)
        verdicts.append(verdict)
        for problem in verdict["problems"][:_TOLD_PROBLEMS]:
            print(f"seed {verdict['seed']}: {problem}")
        if verdict["problems"]:
            print(f"to see it again: python -m tests.simulation --seed {verdict['seed']}")
        if time.monotonic() - told_s > _PROGRESS_S or len(verdicts) == arguments.seeds:
            told_s = time.monotonic()
            crashes = sum(sum(v["crashes"].values()) for v in verdicts)
            print(
                f"{len(verdicts)} of {arguments.seeds} seeds, {crashes:,} crashes, "
                f"{told_s - started_s:.0f} s",
                flush=True,
            )
    codes = [child.wait() for child in children]
    failed = any(codes) or len(verdicts) != arguments.seeds
    figures = _figures(verdicts)
    print(json.dumps(figures))
    return int(failed or figures["sim_failed_seeds"] > 0)


def _lines(outputs: list[IO[str]]) -> Iterator[str]:
    """A line of each in turn: they take about as long."""
    while outputs:
        for output in list(outputs):
            line = output.readline()
            if line:
                yield line
            else:
                outputs.remove(output)


def _figures(verdicts: list[dict[str, Any]]) -> dict[str, Any]:
    crashes: Counter[str] = Counter()
    for verdict in verdicts:
        crashes.update(verdict["crashes"])
    return {
        "sim_seeds": len(verdicts),
        "sim_crash_points": crashes.total(),
        "sim_failed_seeds": sum(bool(verdict["problems"]) for verdict in verdicts),
        **{name: sum(v[field] for v in verdicts) for name, field in _SUMS.items()},
        "sim_crashes_by_kind": dict(sorted(crashes.items())),
    }


if __name__ == "__main__":
    sys.exit(main())
