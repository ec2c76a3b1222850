"""The version of what runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["program_version"]


def program_version() -> str:
    """The version of the installed distribution; ``unknown`` in a bare source tree."""
    try:
        return version("floodwatch")
    except PackageNotFoundError:
        return "unknown"
