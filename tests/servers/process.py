"""Child processes that cannot outlive the process that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

__all__ = ["die_with_parent"]

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> Callable[[], None] | None:
    """A ``preexec_fn`` that has Linux kill the child when the thread that started it ends.

    It holds even where the parent is killed with SIGKILL. Start the child from a thread that
    lives as long as the child should (the main thread). None where the system has no such thing.
    """
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None, use_errno=True)  # Loaded here: the fork must only make calls.
    parent = os.getpid()

    def arm() -> None:
        if library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
        if os.getppid() != parent:  # The parent ended before the call above took effect.
            os.kill(os.getpid(), signal.SIGKILL)

    return arm
