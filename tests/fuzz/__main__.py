"""``python -m tests.fuzz``: a million damaged records; 1 unless every one is accounted for."""

from __future__ import annotations

import argparse
import sys
import time

from tests.fuzz.run import fuzz


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started_s = time.monotonic()
    result = fuzz(options.records, options.seed, lambda line: print(line, file=sys.stderr))
    for reason, count in result.dead_letters.most_common():
        print(f"{count:>12,} dead letters: {reason}")
    print(
        f"{result.records:,} records in {time.monotonic() - started_s:.0f} s: {result.processed:,} "
        f"processed, {result.late:,} late, {result.dead_letters.total():,} dead letters, "
        f"{result.unaccounted:,} unaccounted for"
    )
    return 1 if result.unaccounted or result.wrong_offsets else 0


sys.exit(main())
