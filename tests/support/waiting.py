"""Waiting for what happens in another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

__all__ = ["DEADLINE_S", "wait_until"]

DEADLINE_S: Final = 60.0
_POLL_S: Final = 0.02


def wait_until(condition: Callable[[], bool], what: str, *, deadline_s: float = DEADLINE_S) -> None:
    """Return once ``condition`` holds; fail with ``what`` when it has not within the deadline."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {deadline_s:g} s: {what}"
        time.sleep(_POLL_S)
