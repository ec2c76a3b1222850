"""Kernels of tail probabilities: the incomplete beta function, and what follows from it.

The smaller tail is computed by itself, never as one minus the other: what matters here are
probabilities like 1e-15. Its relative error is below 1e-10, but for means above 10,000 with almost
no more variance than Poisson's, where it may reach 1e-4.

Source: Press and others, Numerical Recipes, 3rd edition, 6.4 (continued fraction by Lentz).
"""

from __future__ import annotations

import math
from typing import Final

import numba

__all__ = ["beta_tail", "count_tails"]

_MAX_TERMS: Final = 20_000
_TINY: Final = 1e-300
_PRECISION: Final = 1e-13


@numba.njit(cache=True)
def beta_tail(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), with a, b > 0 and 0 <= x <= 1."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    log_front = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    front = math.exp(log_front)
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _fraction(a, b, x) / a
    return 1.0 - front * _fraction(b, a, 1.0 - x) / b


@numba.njit(cache=True)
def count_tails(count: float, mean: float, variance: float) -> tuple[float, float]:
    """P(Y >= count) and P(Y <= count) for a negative binomial Y.

    Mean > 0 and variance > mean say which one: its size is mean² / (variance - mean).
    """
    size = mean * mean / (variance - mean)
    share = mean / variance  # of the chance of "no more", as in (1 - p)
    upper = 1.0 if count <= 0.0 else beta_tail(count, size, 1.0 - share)
    lower = beta_tail(size, count + 1.0, share)
    return upper, lower


@numba.njit(cache=True)
def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function."""
    c = 1.0
    d = 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > _TINY else _TINY)
    value = d
    for m in range(1, _MAX_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        d = 1.0 + even * d
        d = 1.0 / (d if abs(d) > _TINY else _TINY)
        c = 1.0 + even / c
        c = c if abs(c) > _TINY else _TINY
        value *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        d = 1.0 + odd * d
        d = 1.0 / (d if abs(d) > _TINY else _TINY)
        c = 1.0 + odd / c
        c = c if abs(c) > _TINY else _TINY
        value *= d * c
        if abs(d * c - 1.0) < _PRECISION:
            break
    return value
