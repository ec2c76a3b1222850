"""What every sink can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from detectors.incidents import Output
    from monitor.wire import DeadLetter

__all__ = ["Sink"]


class Sink(Protocol):
    """Takes outputs in log order; ``write`` returns when they are safe.

    Ids are stable, so a sink that can tell keeps each output once however often it comes.
    """

    def write(self, outputs: Sequence[Output], dead_letters: Sequence[DeadLetter] = ()) -> None:
        """Write one batch, whole or not at all where the medium allows it."""
        ...

    def close(self) -> None:
        """Let go of files and connections; nothing may be written after it."""
        ...
