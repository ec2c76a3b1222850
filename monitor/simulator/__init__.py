"""The simulator: a platform with honest users and planted attacks, as events with the truth beside.

``simulate`` makes a whole run, ``simulate_chunks`` the same in bounded memory, ``run`` writes one
to a file or to Kafka. Everything follows from (scenario, seed, users, minutes, start).
"""

from __future__ import annotations

from monitor.simulator.engine import (
    DEFAULT_START_MS,
    Chunk,
    Simulation,
    simulate,
    simulate_chunks,
)
from monitor.simulator.errors import OutputError, ScenarioError, SimulationError
from monitor.simulator.run import SimulateOptions, SimulateResult, run
from monitor.simulator.scenario import Scenario, builtin_scenarios, load_scenario
from monitor.simulator.wire_json import to_wire_json

__all__ = [
    "DEFAULT_START_MS",
    "Chunk",
    "OutputError",
    "Scenario",
    "ScenarioError",
    "SimulateOptions",
    "SimulateResult",
    "Simulation",
    "SimulationError",
    "builtin_scenarios",
    "load_scenario",
    "run",
    "simulate",
    "simulate_chunks",
    "to_wire_json",
]
