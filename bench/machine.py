"""The machine: what it is, and which core does what."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from bench.errors import BenchError

__all__ = ["Cores", "describe_machine", "versions"]

_COMPARED: Final = ("faust-streaming", "aiokafka", "quixstreams", "confluent-kafka", "bytewax")


@dataclass(frozen=True, slots=True)
class Cores:
    """The measured process has ``measured`` to itself; broker and harness have ``others``."""

    measured: int
    others: frozenset[int]

    @classmethod
    def divide(cls) -> Cores:
        """Divide the cores this process may use. Raises BenchError where that cannot be done."""
        if not hasattr(os, "sched_getaffinity"):
            raise BenchError("processes can be bound to a core on Linux only; run it there")
        allowed = os.sched_getaffinity(0)
        if len(allowed) < 2:
            raise BenchError("two cores are needed: one for the broker, one that is measured")
        measured = max(allowed)
        return cls(measured, frozenset(allowed - {measured}))


def describe_machine(cores: Cores) -> dict[str, str | float]:
    """What the figures are taken on, and how busy others keep it."""
    return {
        "cpu": _cpu_model(),
        "cores": 1 + len(cores.others),
        "memory_gib": round(_memory_bytes() / 2**30),
        "python": platform.python_version(),
        "load_average_1m": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    """The versions of what is compared."""
    return {name: metadata.version(name) for name in _COMPARED}


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    match = re.search(r"^model name\s*:\s*(.+)$", information, re.MULTILINE)
    return match[1].strip() if match else platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
