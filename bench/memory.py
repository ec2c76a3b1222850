"""Memory per active user: what the default pack's state adds to a process, divided by the users.

``python -m bench.memory EVENTS.parquet USERS`` prints the figure as JSON. The events are applied
by the in-process runner; before that, everything that has nothing to do with users (code,
kernels, the event file) is in memory already. Every user acts several times.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import polars as pl

from bench.errors import BenchError
from detectors.compiled import compile_pack
from detectors.topology import Topology
from monitor.packs import load_pack
from monitor.runner import Runner

__all__ = ["bytes_per_user", "main"]

_BATCH_EVENTS: Final = 8_192
_SOURCE: Final = "file"


def bytes_per_user(events: pl.DataFrame, users: int) -> float:
    """Growth of resident memory while ``users`` become active, divided by them.

    ``events`` is a table of ``detectors.events``; its users are replaced, in turn, by ours.
    """
    pack = compile_pack(load_pack("default"))
    received_ms = int(events["time_ms"].max())  # type: ignore[arg-type]
    _run(Runner(Topology(pack, max_users=1_024), [_SOURCE]), events, 512, received_ms)
    gc.collect()
    before = _resident_bytes()
    runner = Runner(Topology(pack, max_users=users), [_SOURCE])
    _run(runner, events, users, received_ms)
    gc.collect()
    grown = _resident_bytes() - before
    if len(runner.stages[0].keys) != users:
        raise BenchError(f"{users} users were meant to be active, {len(runner.stages[0].keys)} are")
    return grown / users


def _run(runner: Runner, events: pl.DataFrame, users: int, received_ms: int) -> None:
    for frame in _frames(events, users):
        runner.push_frame(_SOURCE, frame.select(sorted(runner.columns)), received_ms)
        runner.run()


def _frames(events: pl.DataFrame, users: int) -> Iterator[pl.DataFrame]:
    for start in range(0, len(events), _BATCH_EVENTS):
        frame = events.slice(start, _BATCH_EVENTS)
        number = pl.int_range(start, start + len(frame)) % users
        name = pl.format("user-{}", number)
        # Feedback is about its subject: that is the user who becomes active.
        subject = pl.when(pl.col("subject_user_id").is_not_null()).then(name)
        yield frame.with_columns(user_id=name, subject_user_id=subject)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measure in this process, of which nothing else is asked."""
    file, users = sys.argv[1:]
    print(json.dumps({"bytes_per_user": bytes_per_user(pl.read_parquet(file), int(users))}))


if __name__ == "__main__":
    main()
