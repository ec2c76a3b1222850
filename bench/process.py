"""Processes that are measured: bound to one core, with a log, ended when the benchmark ends."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from bench.errors import BenchError
from tests.servers import die_with_parent

__all__ = ["REPOSITORY", "cpu_seconds", "failure", "launch"]

REPOSITORY: Final = Path(__file__).resolve().parents[1]
_LOG_LINES: Final = 25


@contextmanager
def launch(
    command: Sequence[str],
    log: Path,
    core: int,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``command`` from the repository, on ``core`` with all its threads; kill it at the end.

    Output goes to ``log``; ``environment`` comes on top of ours.
    """
    end_with_us = die_with_parent()

    def prepare() -> None:
        os.sched_setaffinity(0, {core})
        if end_with_us is not None:
            end_with_us()

    with log.open("wb") as output:
        process = subprocess.Popen(
            list(command),
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=prepare,  # noqa: PLW1509 - The harness has one thread.
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def cpu_seconds(process_id: int) -> float:
    """Processor time that a living process has used, all threads, in seconds."""
    # The name, in parentheses, may hold spaces; the fields after it do not.
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # utime and stime
    return ticks / os.sysconf("SC_CLK_TCK")


def failure(what: str, log: Path) -> BenchError:
    """An error that ends with the last lines of the process's log."""
    lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    return BenchError("\n".join([f"{what}; its last lines:", *lines]))
