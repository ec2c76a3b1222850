"""The simulation, run beside the real broker at the lowest priority."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.chaos.errors import ChaosError
from tests.kafka.process import die_with_parent

__all__ = ["simulating"]

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_DEADLINE_S: Final = 1_800.0
_LOG_LINES: Final = 40
_LOWEST_PRIORITY: Final = 19


@contextmanager
def simulating(folder: Path, seeds: int) -> Iterator[Callable[[], dict[str, Any]]]:
    """Start ``python -m tests.simulation``; gives what waits for it and returns its figures.

    That raises ChaosError, with what the simulation said last, where it left no figures. It is
    killed at the end if it still runs.
    """
    result, log = folder / "simulation.json", folder / "simulation.log"
    command = [sys.executable, "-m", "tests.simulation", "--seeds", str(seeds)]
    with_parent = die_with_parent()

    def prepare() -> None:
        os.nice(_LOWEST_PRIORITY)
        if with_parent is not None:
            with_parent()

    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--json", str(result)],
            cwd=_REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=prepare,
        )

    def figures() -> dict[str, Any]:
        process.wait(_DEADLINE_S)
        if not result.exists():
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
            raise ChaosError(f"the simulation ended with code {process.returncode}:\n{tail}")
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return found

    try:
        yield figures
    finally:
        process.kill()
        process.wait()
