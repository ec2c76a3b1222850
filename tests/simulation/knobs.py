"""What differs from seed to seed besides the dice: how large a world is, and how rough."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final

from monitor.checkpoint.partition import CheckpointSettings
from monitor.kafka.settings import WorkerSettings
from monitor.kafka.topics import TopicNames
from tests.simulation.app import AppSettings
from tests.simulation.faults import RandomFaults
from tests.simulation.network import NetworkSettings

__all__ = ["NEVER_S", "Knobs", "random_faults"]

NEVER_S: Final = 1e9
_MOST_KILLS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """What differs from seed to seed besides the dice.

    ``stages`` of the chain are there, ``swap_every_s`` on average another model is to score.
    """

    partitions: int
    nodes: int
    static: bool
    events: int
    span_s: float
    lag: float
    malformed_share: float
    restart_s: float
    stop_every_s: float
    compact_every_s: float
    stages: int
    swap_every_s: float
    network: NetworkSettings
    app: AppSettings
    worker: WorkerSettings

    @classmethod
    def drawn(cls, rng: random.Random) -> Knobs:
        """Swarm testing: each seed goes to some extremes and leaves others alone."""
        pick = rng.choice
        drawn = cls(
            partitions=pick((1, 1, 2, 3)),
            nodes=pick((1, 2, 2, 3)),
            static=rng.random() < 0.3,
            events=pick((150, 300)),
            span_s=pick((0.0, 60.0, 200.0, 200.0, 400.0)),
            lag=pick((0.0, 0.05, 0.3)),
            malformed_share=pick((0.0, 0.03)),
            restart_s=pick((0.2, 3.0, 15.0)),
            stop_every_s=pick((20.0, 60.0, NEVER_S)),
            compact_every_s=pick((0.5, 10.0)),
            stages=1,
            swap_every_s=NEVER_S,
            network=NetworkSettings(
                latency_s=pick((0.001, 0.02, 0.2)),
                linger_s=pick((0.0, 0.002, 0.1)),
                timeout_s=pick((0.5, 5.0)),
                failure_rate=pick((0.0, 0.01, 0.05)),
                outage_rate=pick((0.0, 0.002)),
                outage_s=10.0,
            ),
            app=AppSettings(
                fetch_records=pick((10, 40, 200)),
                fetch_wait_s=pick((0.1, 0.5, 1.0)),
                recovery_records=pick((1, 5, 50)),
                loss_rate=pick((0.0, 0.0, 0.02)),
            ),
            worker=WorkerSettings(
                topics=TopicNames(),
                max_chunk_records=pick((7, 30, 200)),
                buffer_events=pick((30, 1000)),
                process_events=pick((10, 40, 400)),
                merge_wait_ms=pick((50, 500, 5000)),
                tick_ms=50,
                checkpoint=CheckpointSettings(interval_s=pick((0.3, 1.0, 5.0)), piece_bytes=700),
                flush_timeout_s=pick((3.0, 20.0)),
            ),
        )
        return replace(drawn, stages=pick((1, 1, 1, 2, 3)), swap_every_s=pick((NEVER_S, 5.0, 30.0)))


def random_faults(seed: int) -> RandomFaults:
    """The faults of a seed."""
    rng = random.Random(f"faults {seed}")
    return RandomFaults(
        rng,
        kill_rate=rng.choice((0.02, 0.05, 0.1)),
        pause_rate=rng.choice((0.0, 0.01, 0.03)),
        rebalance_rate=rng.choice((0.0, 0.01)),
        longest_pause_s=rng.choice((3.0, 20.0, 60.0)),
        most_kills=_MOST_KILLS,
    )
