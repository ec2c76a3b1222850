"""Speed of scoring: the forest beside scikit-learn and onnxruntime, on one core and one thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from bench.alone import figures_of
from bench.summary import Spread

__all__ = ["BATCHES", "OURS", "PEERS", "measure_forest"]

OURS: Final = "floodwatch"
PEERS: Final[Mapping[str, str]] = MappingProxyType(
    {"sklearn": "scikit-learn", "onnxruntime": "onnxruntime"}
)
"""By what the figures call them: their names."""

BATCHES: Final = (1, 1_000, 100_000)
"""How many rows are scored in one call."""


def measure_forest(rounds: int, core: int) -> dict[str, object]:
    """The part of ``build/bench.json`` about the forest. Raises BenchError.

    ``forest_NAME_rows_per_s_BATCH`` are medians, ``forest_ratio_to_NAME_BATCH`` medians of the
    ratios of each round; ``forest`` has the spreads.
    """
    rates: dict[str, dict[str, Sequence[float]]] = figures_of(("bench.scoring", str(rounds)), core)
    figures: dict[str, object] = {}
    spreads: dict[str, object] = {}
    for batch, of_batch in rates.items():
        for name, taken in of_batch.items():
            spread = Spread.of(taken)
            figures[f"forest_{name}_rows_per_s_{batch}"] = round(spread.median)
            spreads[f"{name}_{batch}"] = {"low": round(spread.low), "high": round(spread.high)}
        for name in PEERS:
            pairs = zip(of_batch[OURS], of_batch[name], strict=True)
            ratio = Spread.of([own / other for own, other in pairs])
            figures[f"forest_ratio_to_{name}_{batch}"] = round(ratio.median, 1)
            spreads[f"ratio_to_{name}_{batch}"] = {
                "low": round(ratio.low, 1),
                "high": round(ratio.high, 1),
            }
    return {**figures, "forest": spreads}
