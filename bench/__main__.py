"""``python -m bench``; see ``bench.command``."""

from __future__ import annotations

import sys

try:
    from bench.command import main
except ModuleNotFoundError as error:
    sys.exit(f"{error}. The benchmark has an environment of its own: run it with 'make bench'.")

if __name__ == "__main__":
    sys.exit(main())
