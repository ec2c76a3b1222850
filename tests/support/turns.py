"""Tests that want the machine for themselves, where several run at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["turn"]


@contextmanager
def turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Wait until a test may run: beside those of other processes of pytest-xdist, or ``alone``.

    The locks are files in ``folder``.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "tests.door").open("a") as door, (folder / "tests.room").open("a") as room:
        # Who waits to be alone stands in the door: else the others would go in and out for ever.
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
