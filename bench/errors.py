"""The one error of the benchmarks."""

from __future__ import annotations

__all__ = ["BenchError"]


class BenchError(Exception):
    """A figure could not be taken; the message says which, why, and what the process said."""
