"""Places at which a test can have this process killed, as a crash would: see docs/chaos.md."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Final, TypeAlias

__all__ = ["FAILPOINTS", "FAILPOINT_VARIABLE", "Failpoint", "failpoint_from", "no_failpoint"]

FAILPOINT_VARIABLE: Final = "FLOODWATCH_FAILPOINT"
FAILPOINTS: Final = (
    "cuts-committed",
    "alerts-acknowledged",
    "blocks-acknowledged",
    "manifest-acknowledged",
    "checkpoint-committed",
    "tombstones-acknowledged",
)

Failpoint: TypeAlias = Callable[[str], None]


def no_failpoint(name: str) -> None:
    """Go on."""


def failpoint_from(setting: str) -> Failpoint:
    """From ``NAME:COUNT``, a function that kills this process the COUNTth time it gets NAME.

    Raises ValueError for anything else; the empty string is ``no_failpoint``.
    """
    if not setting:
        return no_failpoint
    wanted, _, count = setting.partition(":")
    if wanted not in FAILPOINTS or not count.isdigit() or int(count) < 1:
        raise ValueError(
            f"{FAILPOINT_VARIABLE}={setting!r}: expected NAME:COUNT with a name of "
            f"{', '.join(FAILPOINTS)} and a count from 1"
        )
    left = int(count)

    def reached(name: str) -> None:
        nonlocal left
        if name == wanted:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return reached
