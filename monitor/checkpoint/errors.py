"""What can be wrong with a checkpoint."""

from __future__ import annotations

__all__ = ["CheckpointError", "FencedError"]


class CheckpointError(Exception):
    """A checkpoint that cannot be read or is not complete: what is wrong, and what to do."""


class FencedError(Exception):
    """The group has given the partition to somebody else: what was done here does not count."""
