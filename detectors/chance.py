"""How unlikely by chance: of meetings, of counts, and of the smallest of many probabilities.

Two accounts *meet* on an object (an asset, a template, a url) when they act on it within a window
of each other. The null hypothesis of a tie: the same accounts acted on the same objects at the same
times, but who acted when is random, as if the accounts of each object were shuffled. Then

- an object's *close share* f is the share of its pairs of actions that lie within the window;
- a with m and b with n actions on it meet there with a chance of m n f: exact for one action each,
  otherwise an upper bound (Boole's; 1 - (1 - f)^(m n) is none, as places are drawn without return);
- the expected number of objects on which they meet is the sum over all that they *share*, also
  where they did not meet, and the observed one has at most a Poisson's upper tail: a sum of
  independent events is less spread than Poisson (Hoeffding, On the Distribution of the Number of
  Successes in Independent Trials, Annals of Mathematical Statistics 27, 1956).

All three err towards "chance". An object on which everybody acts within the window has a close
share of 1: that two met there says nothing about the two.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numba
import numpy as np

if TYPE_CHECKING:
    from detectors._windows import Floats, Int64s

__all__ = ["false_discovery_rates", "meeting_chance", "poisson_tail", "poisson_tails"]

_PRECISION: Final = 1e-17
_STIRLING_FROM: Final = 16.0
_LOG_TWO_PI: Final = math.log(2.0 * math.pi)


@numba.njit(cache=True)
def meeting_chance(close_share: float, first_actions: float, second_actions: float) -> float:
    """At most this is the chance that two accounts meet on an object with this close share.

    A kernel: call it from kernels.
    """
    return min(1.0, close_share * (first_actions * second_actions))


@numba.njit(cache=True)
def poisson_tail(count: float, mean: float) -> float:
    """P(X >= count) for a Poisson X; ``count`` is whole, ``mean`` 0 or more.

    The smaller tail is summed by itself, never as one minus the other: relative error below 1e-12
    for counts up to 10,000, 1e-9 for a million, down to 1e-300. A kernel: call it from kernels.
    """
    if count <= 0.0:
        return 1.0
    if mean <= 0.0:
        return 0.0
    if count > mean:
        term, total, at = 1.0, 1.0, count
        while term > _PRECISION * total:
            at += 1.0
            term *= mean / at
            total += term
        return min(1.0, total * _poisson_chance(count, mean))
    at = count - 1.0
    term, total = 1.0, 1.0
    while at > 0.0 and term > _PRECISION * total:
        term *= at / mean
        at -= 1.0
        total += term
    return max(0.0, 1.0 - total * _poisson_chance(count - 1.0, mean))


@numba.njit(cache=True)
def _poisson_chance(count: float, mean: float) -> float:
    """P(X = count), by Stirling's series for large counts: its error does not grow with them."""
    if count < _STIRLING_FROM:
        return math.exp(count * math.log(mean) - mean - math.lgamma(count + 1.0))
    excess = (mean - count) / count
    square = 1.0 / (count * count)
    series = (1.0 / 12 - square * (1.0 / 360 - square * (1.0 / 1260 - square / 1680))) / count
    log_ratio = math.log1p(excess) if abs(excess) < 0.5 else math.log(mean / count)
    log_chance = count * (log_ratio - excess)
    return math.exp(log_chance - 0.5 * (_LOG_TWO_PI + math.log(count)) - series)


def poisson_tails(counts: Int64s, means: Floats) -> Floats:
    """``poisson_tail`` of n counts and means; (n,)."""
    assert counts.shape == means.shape
    assert not len(means) or means.min() >= 0.0
    tails = np.empty(len(counts))
    _fill_tails(counts, means, tails)
    return tails


@numba.njit(cache=True)
def _fill_tails(counts: Int64s, means: Floats, tails: Floats) -> None:
    for i in range(len(counts)):
        tails[i] = poisson_tail(float(counts[i]), means[i])


def false_discovery_rates(probabilities: Floats, tests: int | Int64s) -> Floats:
    """The q value of each of n tests; (n,).

    Where all with q <= 0.05 are taken for real, at most 5 % of them are chance, on average.
    ``tests`` is how many tests there were: those that are not given have a probability of 1. An
    upper bound will do; it makes q too high. Or it says, for each probability (n,), how many of the
    tests could have come to one so low: a pair with two objects in common never gets far, so it
    takes nothing from those that can.

    Sources: Benjamini and Hochberg, Controlling the False Discovery Rate, JRSS B 57 (1995); for
    the latter, Heyse, A False Discovery Rate Procedure for Categorical Data (2011), proven by
    Döhler, Durand, Roquain, New FDR Bounds for Discrete and Heterogeneous Tests, EJS 12 (2018),
    but for a factor of 1 / (1 - p) of the largest p that is taken.
    """
    count = len(probabilities)
    order = np.argsort(probabilities, kind="stable")
    among = np.broadcast_to(np.asarray(tests, dtype=np.float64), (count,))[order]
    assert (among >= np.arange(1, count + 1)).all()
    raised = probabilities[order] * among / np.arange(1.0, count + 1)
    rates = np.empty(count)
    rates[order] = np.minimum(1.0, np.minimum.accumulate(raised[::-1])[::-1])
    return rates
