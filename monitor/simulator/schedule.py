"""When the attacks of a scenario start: every instance with its own id and random generator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.simulator.attacks.attack import Attack
from monitor.simulator.attacks.stage import INSTANCES_MAX, Stage
from monitor.simulator.errors import ScenarioError
from monitor.simulator.rows import Rows
from monitor.simulator.scenario import Scenario

__all__ = ["Instance", "schedule_attacks"]


@dataclass(frozen=True, slots=True)
class Instance:
    """One attack that happens: ``index`` among all of them, ``attack_id`` such as burst-bot-2."""

    attack: Attack
    index: int
    attack_id: str
    start_ms: int
    seed: tuple[int, int, int]

    def plan(self, users: int) -> Rows:
        """All its events; ``users`` is the number of honest accounts there are."""
        rng = np.random.default_rng(self.seed)
        rows = self.attack.plan(Stage(rng, self.index, self.start_ms, users))
        assert (rows["time_ms"] >= self.start_ms).all(), f"{self.attack_id} acts before its start"
        return rows


def schedule_attacks(
    scenario: Scenario, seed: int, start_ms: int, end_ms: int
) -> tuple[Instance, ...]:
    """All instances that start in [start, end), by their start.

    Raises ScenarioError where they are more than ``INSTANCES_MAX``.
    """
    starts: list[tuple[int, int, int]] = []
    for entry, attack in enumerate(scenario.attacks):
        rng = np.random.default_rng([seed, 1, entry])
        first_ms = start_ms + int(1000 * attack.start_s)
        every_ms = end_ms if attack.every_s is None else int(1000 * attack.every_s)
        rounds = range(first_ms, end_ms, every_ms)
        if len(starts) + len(rounds) * attack.count > INSTANCES_MAX:
            raise ScenarioError(
                f"{scenario.name}: attacks[{entry}] makes more than {INSTANCES_MAX} attacks: "
                "raise every_s, or lower count or the minutes"
            )
        for number, round_ms in enumerate(rounds):
            delays_ms = rng.random(attack.count) * 1000.0 * attack.within_s
            for copy, delay_ms in enumerate(delays_ms):
                moment_ms = round_ms + int(delay_ms)
                if moment_ms < end_ms:
                    starts.append((moment_ms, entry, number * attack.count + copy))
    instances: list[Instance] = []
    numbers: dict[str, int] = {}
    for index, (moment_ms, entry, copy) in enumerate(sorted(starts)):
        attack = scenario.attacks[entry]
        numbers[attack.kind] = numbers.get(attack.kind, 0) + 1
        attack_id = f"{attack.kind}-{numbers[attack.kind]}"
        attack_seed = (seed, 2 + entry, copy)
        instances.append(Instance(attack, index, attack_id, moment_ms, attack_seed))
    return tuple(instances)
