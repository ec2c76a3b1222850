"""The error of analyses."""

from __future__ import annotations

__all__ = ["AnalysisError"]


class AnalysisError(Exception):
    """A table that cannot be read, analysed or written: what is wrong, where, what to do."""
