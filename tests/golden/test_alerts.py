"""What the default pack says of a fixed simulation: any change of it must be meant.

``make test PYTEST="tests/golden --update-golden"`` writes the file anew; read the diff.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from detectors.compiled import compile_pack
from detectors.topology import Topology
from monitor.packs import load_pack
from monitor.runner import Runner
from monitor.simulator import load_scenario, simulate

GOLDEN: Final = Path(__file__).parent / "all-attacks-seed-3.txt"
SEED: Final = 3
USERS: Final = 1_000


def alert_lines() -> list[str]:
    """One line an alert: id, time, rule, key and the evidence in words."""
    simulation = simulate(load_scenario("all-attacks"), seed=SEED, users=USERS)
    runner = Runner(Topology(compile_pack(load_pack("default")), 10_000), ("simulation",))
    newest_ms = int(simulation.events["time_ms"][-1])
    runner.push_frame("simulation", simulation.events.select(sorted(runner.columns)), newest_ms)
    runner.end("simulation")
    return [
        f"{alert.alert_id} {alert.time_ms} {alert.severity} {alert.rule_id} {alert.key} "
        f"{alert.summary}"
        for alert in runner.run().alerts
    ]


def test_the_alerts_are_the_golden_ones(*, update_golden: bool) -> None:
    """Ids, times, rules, users and evidence of every alert, in order."""
    lines = alert_lines()
    if update_golden:
        GOLDEN.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert lines == GOLDEN.read_text(encoding="utf-8").splitlines()
