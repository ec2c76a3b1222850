"""What was done to the workers and what came of it, in the order in which it happened."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Journal", "Resumption"]


@dataclass(frozen=True, slots=True)
class Resumption:
    """Seconds from a fault until every partition had moved on.

    ``how`` is ``restarted`` (the killed worker came back at once), ``taken over`` (others had to
    notice) or the name of another fault; ``membership`` is ``static`` or ``dynamic``.
    """

    how: str
    membership: str
    seconds: float


@dataclass(slots=True)
class Journal:
    """Counts and a file with a line of JSON for each thing that happened."""

    path: Path
    counts: Counter[str] = field(default_factory=Counter)
    at_failpoint: Counter[str] = field(default_factory=Counter)
    resumptions: list[Resumption] = field(default_factory=list)

    def note(self, what: str, **details: Any) -> None:  # noqa: ANN401 - whatever JSON takes
        """Count ``what`` and write it down."""
        self.counts[what] += 1
        line = json.dumps({"at_s": round(time.time(), 3), "what": what, **details})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def resumed(self, how: str, membership: str, seconds: float) -> None:
        """Note how long it took."""
        self.resumptions.append(Resumption(how, membership, seconds))
        self.note("resumed", how=how, membership=membership, seconds=round(seconds, 2))

    @property
    def kills(self) -> int:
        """Workers that were killed with SIGKILL, by us or by themselves at a failpoint."""
        return self.counts["kill"] + self.counts["killed at failpoint"]
