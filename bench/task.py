"""What one measured process is told, how it keeps time and what it hands back.

Standard library only: it runs in the environment of every peer.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

__all__ = ["Measurement", "Stopwatch", "Task"]


@dataclass(frozen=True, slots=True)
class Task:
    """Read ``events`` messages, all there are, from ``topics`` and write a result file.

    ``group`` is a fresh consumer group, ``folder`` an empty one for state and the result.
    """

    bootstrap: str
    topics: tuple[str, ...]
    events: int
    partitions: int
    group: str
    folder: str

    @classmethod
    def from_command_line(cls) -> Task:
        """The task in the only argument of the process."""
        fields = json.loads(sys.argv[1])
        fields["topics"] = tuple(fields["topics"])
        return cls(**fields)

    def to_argument(self) -> str:
        """The argument that ``from_command_line`` reads."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Measurement:
    """``events`` were processed in ``elapsed_s``, start-up and first batch excluded.

    ``cpu_s`` is the processor time of all threads meanwhile: it shows how much of its core the
    process got. ``total`` counts all that were read, ``check`` is the sum of the peer's counts
    (None where it does not count): both must equal the events there are.
    """

    total: int
    check: int | None
    events: int
    elapsed_s: float
    cpu_s: float

    @property
    def events_per_s(self) -> float:
        """The rate by the clock on the wall."""
        return self.events / self.elapsed_s

    @property
    def events_per_cpu_s(self) -> float:
        """The rate by processor time: what a core of its own would give."""
        return self.events / self.cpu_s

    @classmethod
    def load(cls, folder: Path) -> Measurement:
        """The result that a process left in the folder of its task."""
        return cls(**json.loads((folder / "result.json").read_text()))


class Stopwatch:
    """Runs from the end of the first batch of messages to the end of the last."""

    __slots__ = ("_expected", "_first", "_folder", "_start_cpu_s", "_start_s", "seen")

    def __init__(self, task: Task) -> None:
        self._expected = task.events
        self._folder = Path(task.folder)
        self._first = 0
        self._start_s = 0.0
        self._start_cpu_s = 0.0
        self.seen = 0

    def batch(self, size: int) -> bool:
        """Count ``size`` messages as processed; True when they were the last."""
        if self.seen == 0:
            self._start_s = time.monotonic()
            self._start_cpu_s = time.process_time()
            self._first = size
        self.seen += size
        return self.seen >= self._expected

    def finish(self, check: int | None = None) -> NoReturn:
        """Write the measurement and end the process, however many threads it has."""
        elapsed_s = time.monotonic() - self._start_s
        cpu_s = time.process_time() - self._start_cpu_s
        measurement = Measurement(self.seen, check, self.seen - self._first, elapsed_s, cpu_s)
        partial = self._folder / "result.partial"
        partial.write_text(json.dumps(asdict(measurement)))
        partial.rename(self._folder / "result.json")
        os._exit(0)
