"""Random choices for whole columns."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from monitor.simulator.rows import Integers

__all__ = ["Floats", "choose", "choose_by", "cumulative", "heavy_tailed", "log_uniform"]

Floats: TypeAlias = NDArray[np.float64]


def cumulative(weights: Floats) -> Floats:
    """Weights along the last axis as cumulative shares that end at 1. Weights are 0 or more."""
    sums = np.cumsum(weights, axis=-1, dtype=np.float64)
    shares: Floats = sums / sums[..., -1:]
    return shares


def choose(rng: np.random.Generator, shares: Floats, count: int) -> Integers:
    """``count`` codes drawn with the cumulative ``shares``."""
    drawn = np.searchsorted(shares, rng.random(count), side="right")
    return np.minimum(drawn, len(shares) - 1)


def choose_by(rng: np.random.Generator, table: Floats, codes: NDArray[np.int8]) -> Integers:
    """One code for each entry of ``codes``, drawn with that row of the cumulative ``table``."""
    dice = rng.random(len(codes))
    chosen = np.zeros(len(codes), dtype=np.int64)
    for column in range(table.shape[1] - 1):
        chosen += dice >= table[codes, column]
    return chosen


def heavy_tailed(
    rng: np.random.Generator, median: Floats | float, sigma: Floats | float, count: int
) -> Floats:
    """Log-normal values: most near the median, a few many times as large."""
    values: Floats = median * np.exp(sigma * rng.standard_normal(count))
    return values


def log_uniform(rng: np.random.Generator, low: float, high: float, count: int) -> Floats:
    """Values whose logarithm is uniform between those of ``low`` and ``high`` (both above 0)."""
    values: Floats = np.exp(rng.uniform(np.log(low), np.log(high), count))
    return values
