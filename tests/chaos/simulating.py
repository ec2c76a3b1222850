"""The simulation, run beside the real broker at the lowest priority."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tests.chaos.errors import ChaosError
from tests.servers import die_with_parent

__all__ = ["simulating"]

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_DEADLINE_S: Final = 2_400.0
_LOG_LINES: Final = 40
_LOWEST_PRIORITY: Final = 19


@contextmanager
def simulating(folder: Path, seeds: int) -> Iterator[Callable[[], dict[str, Any]]]:
    """Start ``python -m tests.simulation``; gives what waits for it and returns its figures.

    That raises ChaosError, with what the simulation said last, where it leaves no figures. It is
    killed at the end if it still runs.
    """
    log = folder / "simulation.log"
    with_parent = die_with_parent()

    def prepare() -> None:
        os.nice(_LOWEST_PRIORITY)
        if with_parent is not None:
            with_parent()

    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.simulation", "--seeds", str(seeds)],
            cwd=_REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=prepare,
        )

    def figures() -> dict[str, Any]:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_DEADLINE_S)
        return _read_figures(log, process.poll())

    try:
        yield figures
    finally:
        with suppress(ProcessLookupError):  # it and its children have ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _read_figures(log: Path, code: int | None) -> dict[str, Any]:
    """The last line of what the simulation says is JSON."""
    lines = log.read_text(errors="replace").splitlines()
    found: object = None
    if code is not None and lines:
        with suppress(json.JSONDecodeError):
            found = json.loads(lines[-1])
    if not isinstance(found, dict):
        ended = "has not ended" if code is None else f"ended with code {code}"
        tail = "\n".join(lines[-_LOG_LINES:])
        raise ChaosError(f"the simulation {ended} and gave no figures:\n{tail}")
    return found
