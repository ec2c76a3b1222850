"""What all attacks have in common: when and how often they start."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pydantic import BaseModel, ConfigDict, Field

from monitor.simulator.attacks.stage import Stage
from monitor.simulator.rows import Rows

__all__ = ["Attack"]


class Attack(BaseModel, ABC):
    """One entry of a scenario's ``attacks``. ``kind`` says which; see its subclasses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    count: int = Field(default=1, ge=1, le=1000, description="Instances that start together.")
    start_s: float = Field(default=60.0, ge=0, description="When the first starts, seconds in.")
    within_s: float = Field(
        default=0.0, ge=0, description="Instances start at random within so many seconds."
    )
    every_s: float | None = Field(
        default=None, ge=1, description="They start again so often; null: once."
    )

    @abstractmethod
    def plan(self, stage: Stage) -> Rows:
        """All events of one instance, in any order, none before ``stage.start_ms``."""
