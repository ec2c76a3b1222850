"""When simulated time is due: real time or faster, held back when processing cannot keep up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Schedule"]

_MAX_LAG_S: Final = 2.0


@dataclass(slots=True)
class Schedule:
    """Maps event times to the clock: ``start_ms`` is due at ``start``, the rest at ``speed``.

    Back-pressure: once the lag exceeds ``max_lag_s``, ``hold_back`` moves all that is still to
    come by the excess, so the lag has a bound and the speed gives way.
    """

    start_ms: int
    speed: float
    clock: Callable[[], float]
    max_lag_s: float = _MAX_LAG_S
    slipped_s: float = 0.0
    started_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """``start_ms`` is due now."""
        self.started_s = self.clock()
        self.slipped_s = 0.0

    def due_s(self, time_ms: int) -> float:
        """When an event of ``time_ms`` is due, on the clock."""
        return self.started_s + self.slipped_s + (time_ms - self.start_ms) / 1_000 / self.speed

    def lag_s(self, time_ms: int) -> float:
        """How long ago an event of ``time_ms`` was due."""
        return self.clock() - self.due_s(time_ms)

    def hold_back(self, time_ms: int) -> None:
        """Everything up to ``time_ms`` is processed: bound the lag."""
        self.slipped_s += max(0.0, self.lag_s(time_ms) - self.max_lag_s)
