"""Scales: how a feature is stretched before trees split it.

A count that ranges from 0 to a million is split at random somewhere in the hundreds of thousands;
on a logarithm its small values count as well. Trees only ask which of two values is greater, so
what they learned on logarithms can be said of the values themselves, with other thresholds, and
nobody computes logarithms when rows are scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Floats32", "Scale", "greatest_below", "scaled", "unscaled_thresholds"]

Floats: TypeAlias = npt.NDArray[np.float64]
Floats32: TypeAlias = npt.NDArray[np.float32]
Scale: TypeAlias = Literal["linear", "log"]

_GREATEST: Final = np.iinfo(np.int32).max
_MAX_KEY: Final = int(np.array(np.finfo(np.float32).max, dtype=np.float32).view(np.int32))
_KEY_BITS: Final = 32


def scaled(rows: npt.NDArray[np.floating], scales: Sequence[Scale]) -> Floats32:
    """What trees are trained on: ``rows`` (n, k) with the scale of each column applied.

    ``log`` is log(1 + x), mirrored for negative values; ``linear`` leaves a value as it is. Values
    are rounded to float32 before (as the kernel that scores reads them) and after.
    """
    values = _to_float32(rows)
    for column, scale in enumerate(scales):
        if scale == "log":
            values[:, column] = _log(values[:, column])
    return values


def greatest_below(thresholds: Floats) -> Floats32:
    """The greatest float32 that is at most each of ``thresholds``.

    A float32 is at most the one exactly if it is at most the other.
    """
    rounded = _to_float32(thresholds)
    with np.errstate(over="ignore"):  # Below the least is -inf.
        lower = np.nextafter(rounded, np.float32(-np.inf))
    below: Floats32 = np.where(rounded > thresholds, lower, rounded)
    return below


def unscaled_thresholds(thresholds: Floats32) -> Floats32:
    """For each threshold t of a ``log`` column the b so that log(x) <= t exactly if x <= b.

    For every float32 x: b is found by bisection among all of them, with the logarithm of
    ``scaled``. It is -inf where even the least finite x is above t.
    """
    low = np.full(thresholds.shape, -_MAX_KEY - 2, dtype=np.int64)  # log(low) <= t, or -inf
    high = np.full(thresholds.shape, _MAX_KEY + 1, dtype=np.int64)  # log(high) > t, or inf
    for _ in range(_KEY_BITS):
        middle = (low + high) >> 1
        below = _log(_from_keys(middle)) <= thresholds
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return _from_keys(low)


def _log(values: Floats32) -> Floats32:
    exact = np.ascontiguousarray(values, dtype=np.float64)
    return np.copysign(np.log1p(np.abs(exact)), exact).astype(np.float32)


def _to_float32(values: npt.NDArray[np.floating]) -> Floats32:
    with np.errstate(over="ignore"):  # To infinity, as meant.
        return values.astype(np.float32)


def _from_keys(keys: npt.NDArray[np.int64]) -> Floats32:
    """All float32 values in ascending order: -1 is -0.0, 0 is 0.0."""
    bits = keys.astype(np.int32)
    return np.where(bits < 0, bits ^ _GREATEST, bits).astype(np.int32).view(np.float32)
