"""Speed of ``floodwatch replay``: ``python -m bench.replay FILE`` prints the figures as JSON.

Start-up does not count, as for everybody else: a replay of the first events in the same process
comes before the one that is timed, so that the code is loaded and the kernels are ready.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Final

import polars as pl

from monitor.replay_command import replay

__all__ = ["main", "measure"]

_WARM_UP_EVENTS: Final = 20_000


def measure(file: Path) -> dict[str, float]:
    """Events per second of a replay of ``file`` (.ndjson or .parquet), results written.

    By the clock as ``floodwatch replay`` itself reports them; by processor time of all of it.
    """
    with tempfile.TemporaryDirectory(prefix="floodwatch-bench-") as folder:
        beginning = Path(folder) / f"beginning{file.suffix}"
        _copy_beginning(file, beginning)
        replay([beginning], out=Path(folder) / "warm-up")
        start_cpu_s = time.process_time()
        replay([file], out=Path(folder) / "out")
        cpu_s = time.process_time() - start_cpu_s
        summary = json.loads((Path(folder) / "out" / "summary.json").read_text())
    name = f"replay_{file.suffix.removeprefix('.')}_eps"
    return {
        name: summary["events"] / summary["elapsed_s"],
        f"{name}_by_cpu_time": summary["events"] / cpu_s,
    }


def _copy_beginning(source: Path, target: Path) -> None:
    if source.suffix == ".parquet":
        pl.scan_parquet(source).head(_WARM_UP_EVENTS).sink_parquet(target)
        return
    with source.open("rb") as lines, target.open("wb") as output:
        output.writelines(islice(lines, _WARM_UP_EVENTS))


def main() -> None:
    """Measure in this process, of which nothing else is asked."""
    print(json.dumps(measure(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
