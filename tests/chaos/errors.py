"""What keeps a run from giving figures at all."""

from __future__ import annotations

__all__ = ["ChaosError"]


class ChaosError(Exception):
    """The run cannot go on or cannot be judged; the message says where to look."""
