"""Who is compared, and how one is measured once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.errors import BenchError
from bench.process import failure, launch
from bench.task import Measurement, Task
from bench.worker import (
    measure_users_only,
    measure_with_forest,
    measure_without_checkpoints,
    measure_worker,
)

__all__ = ["CONTENDERS", "Contender"]

_DEADLINE_S: Final = 600


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that consumes the events. ``name`` is its prefix in ``build/bench.json``.

    The slow ones read a ``short`` copy of the topics, a tenth, so that a round takes a minute.
    """

    name: str
    label: str
    short: bool
    measure: Callable[[Task, int], Measurement]


def _peer(module: str) -> Callable[[Task, int], Measurement]:
    """Measures a program of ``bench.peers``: it keeps the time itself."""

    def measure(task: Task, core: int) -> Measurement:
        log = Path(task.folder) / "log"
        command = [sys.executable, "-m", f"bench.peers.{module}", task.to_argument()]
        with launch(command, log, core) as process:
            try:
                code = process.wait(_DEADLINE_S)
            except subprocess.TimeoutExpired:
                raise failure(f"{module} had not finished after {_DEADLINE_S} s", log) from None
        if code != 0:
            raise failure(f"{module} ended with code {code}", log)
        measurement = Measurement.load(Path(task.folder))
        if measurement.total != task.events or measurement.check not in {None, task.events}:
            raise BenchError(f"{module} should have counted {task.events} events: {measurement}")
        return measurement

    return measure


CONTENDERS: Final = (
    Contender("stock_faust", "Faust, reading only", True, _peer("faust_read")),
    Contender("stock_faust_table", "Faust, counting", True, _peer("faust_table")),
    Contender("quix", "Quix, counting", False, _peer("quix_count")),
    Contender("bytewax", "Bytewax, counting", False, _peer("bytewax_count")),
    Contender("worker", "Floodwatch, whole pack", False, measure_worker),
    Contender(
        "worker_without_checkpoints",
        "Floodwatch, no checkpoints",
        False,
        measure_without_checkpoints,
    ),
    Contender("worker_users_only", "Floodwatch, users only", False, measure_users_only),
    Contender("worker_with_forest", "Floodwatch, with a model", False, measure_with_forest),
)
