"""Large arrays: mapped one by one."""

from __future__ import annotations

import subprocess
import sys

import pytest

_GROWTH = """
import sys
import numpy as np
from monitor.heap import map_large_arrays

def resident_mib():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096 / 2**20

if sys.argv[1] == "mapped":
    assert map_large_arrays()
for size in (8 << 20, 4 << 20):  # partitions come and go; some stay
    tables = [np.ones(size, dtype=np.uint8) for _ in range(40)]
    stay = tables[-1]
    del tables
before = resident_mib()
tables = [np.zeros(4 << 20, dtype=np.uint8) for _ in range(40)]
print(resident_mib() - before, before)
"""


def _resident_mib(how: str) -> float:
    """Of a process that has made its tables anew, with nothing in them."""
    command = [sys.executable, "-c", _GROWTH, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return sum(map(float, done.stdout.split()))


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads /proc and sets glibc: run it on Linux"
)
def test_empty_tables_take_no_memory_after_others_were_freed() -> None:
    as_it_comes, mapped = _resident_mib("as it comes"), _resident_mib("mapped")
    assert mapped < as_it_comes - 60.0, f"{mapped:.0f} MiB mapped, {as_it_comes:.0f} as it comes"
