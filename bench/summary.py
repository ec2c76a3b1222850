"""From single measurements to the figures that are published."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.task import Measurement

__all__ = ["OURS", "Ratio", "Spread", "ratios", "summarise"]

OURS = "worker"


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, with the least and the greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one value or more."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times the rate of a peer ours is, and the same by processor time."""

    by_clock: Spread
    by_cpu_time: Spread


def ratios(results: Mapping[str, Sequence[Measurement]]) -> dict[str, Ratio]:
    """Our rate to that of each peer, taken round by round: machines drift."""
    found: dict[str, Ratio] = {}
    for name, peers in results.items():
        pairs = list(zip(results.get(OURS, ()), peers, strict=False))
        if name != OURS and pairs:
            found[name] = Ratio(
                Spread.of([own.events_per_s / peer.events_per_s for own, peer in pairs]),
                Spread.of([own.events_per_cpu_s / peer.events_per_cpu_s for own, peer in pairs]),
            )
    return found


def summarise(results: Mapping[str, Sequence[Measurement]]) -> dict[str, object]:
    """The part of ``build/bench.json`` about the contenders.

    ``NAME_eps`` are medians, ``ratio_to_NAME`` medians of the ratios of each round; ``rounds`` has
    what they were made of.
    """
    figures: dict[str, object] = {}
    rounds: dict[str, object] = {}
    for name, measurements in results.items():
        rates = Spread.of([measurement.events_per_s for measurement in measurements])
        figures[f"{name}_eps"] = round(rates.median)
        rounds[name] = {
            "events": measurements[0].total,
            "eps": [round(measurement.events_per_s) for measurement in measurements],
            "eps_low": round(rates.low),
            "eps_high": round(rates.high),
            "eps_by_cpu_time": [
                round(measurement.events_per_cpu_s) for measurement in measurements
            ],
        }
    for name, ratio in ratios(results).items():
        figures[f"ratio_to_{name}"] = round(ratio.by_clock.median, 2)
        rounds[f"ratio_to_{name}"] = {
            "low": round(ratio.by_clock.low, 2),
            "high": round(ratio.by_clock.high, 2),
            "by_cpu_time": round(ratio.by_cpu_time.median, 2),
        }
    return {**figures, "rounds": rounds}
