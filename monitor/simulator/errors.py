"""What can go wrong in the simulator, each said with what to do about it."""

from __future__ import annotations

__all__ = ["OutputError", "ScenarioError", "SimulationError"]


class SimulationError(Exception):
    """The simulator was asked for something it cannot do."""


class ScenarioError(SimulationError):
    """A scenario file is wrong; the message names the key and the values allowed."""


class OutputError(SimulationError):
    """The output cannot be written: an unknown kind of output, or a failing destination."""
