"""Drift of a model's features: whether they are still spread as when it was trained.

Source: the population stability index (PSI), as in Siddiqi 2006, "Credit Risk Scorecards": below
0.1 nothing, above 0.25 a shift that matters. Rows are counted by hour of event time; at the end of
an hour with enough rows each feature's index says how far its bins have moved. Not in the first
day: before, windows of a day are filling.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_PSI", "DriftWindow", "FeatureBins", "population_stability", "worst_drift"]

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MAX_PSI: Final = 0.25
_PERIOD_MS: Final = 3_600_000
_MIN_ROWS: Final = 500
_FILLING_HOURS: Final = 24
_SHOWN: Final = 5
_LEAST_SHARE: Final = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class FeatureBins:
    """Bins of k features.

    Their upper ``edges`` (k, b - 1) are infinite where a feature has fewer bins; the ``shares``
    (k, b) of the reference in them add up to 1. What is not known (NaN) is in the last bin.
    """

    edges: Floats
    shares: Floats

    @classmethod
    def of(cls, rows: Floats, count: int = 10) -> FeatureBins:
        """Bins with about as many of n reference rows (n, k) each; equal values stay together."""
        features = rows.shape[1]
        edges = np.full((features, count - 1), np.inf)
        for feature in range(features):
            known = rows[~np.isnan(rows[:, feature]), feature]
            if len(known):
                found = np.unique(
                    np.quantile(known, np.arange(1, count) / count, method="inverted_cdf")
                )
                edges[feature, : len(found)] = found
        counts = _counted(edges, rows)
        return cls(edges, counts / max(1, len(rows)))


def _counted(edges: Floats, rows: Floats) -> Int64s:
    """How many of n rows (n, k) are in each bin (k, b)."""
    bins = edges.shape[1] + 1
    counts = np.zeros((len(edges), bins), dtype=np.int64)
    for feature in range(len(edges)):
        places = np.searchsorted(edges[feature], rows[:, feature], side="left")
        counts[feature] = np.bincount(places, minlength=bins)
    return counts


def population_stability(shares: Floats, counts: Int64s) -> Floats:
    """The index of each of k features: the reference's ``shares`` (k, b) against ``counts``.

    A bin that is empty counts as one of a thousandth, so that the index stays finite.
    """
    now = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    now, then = np.maximum(now, _LEAST_SHARE), np.maximum(shares, _LEAST_SHARE)
    return np.asarray(((now - then) * np.log(now / then)).sum(axis=1))


def worst_drift(psi: Mapping[str, float]) -> dict[str, float]:
    """What the alert about drift has to say: the worst, and the features; empty if none drifted."""
    drifted = {name: index for name, index in psi.items() if index > MAX_PSI}
    worst = sorted(drifted.items(), key=lambda item: -item[1])[:_SHOWN]
    named = {f"psi of {name}": index for name, index in worst}
    return {"drift_psi": worst[0][1], "features_drifted": len(drifted), **named} if worst else {}


@dataclass(slots=True)
class DriftWindow:
    """Counts the rows of the present hour. ``psi`` (k,) is that of the last full hour.

    An hour counts if it has ``least_rows``, and is not among the first ``filling_hours``.
    """

    bins: FeatureBins | None = None
    psi: Floats = field(default_factory=lambda: np.zeros(0))
    least_rows: int = _MIN_ROWS
    filling_hours: int = _FILLING_HOURS
    _hour: int = 0
    _first_hour: int | None = None
    _counts: Int64s = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))

    @classmethod
    def of(cls, bins: FeatureBins) -> DriftWindow:
        """An empty window for features with these bins."""
        counts = np.zeros(bins.shares.shape, dtype=np.int64)
        return cls(bins, np.zeros(len(bins.shares)), _counts=counts)

    def add(self, rows: Floats, times_ms: Int64s) -> list[tuple[int, Floats]]:
        """Count n rows (n, k) at ascending times (n,); the hours that ended.

        Returns for each hour that had enough rows the index of the first row after it, and the
        PSI of each feature (k,).
        """
        if self.bins is None or not len(times_ms):
            return []
        told = []
        hours, starts = np.unique(times_ms // _PERIOD_MS, return_index=True)
        ends = np.append(starts[1:], len(times_ms))
        for hour, start, end in zip(hours.tolist(), starts.tolist(), ends.tolist(), strict=True):
            if self._first_hour is None:
                self._first_hour = hour
            if hour > self._hour:
                full = self._hour >= self._first_hour + self.filling_hours
                if full and self._counts[0].sum() >= self.least_rows:
                    self.psi = population_stability(self.bins.shares, self._counts)
                    told.append((start, self.psi))
                self._counts[:] = 0
                self._hour = hour
            self._counts += _counted(self.bins.edges, rows[start:end])
        return told

    def state(self) -> dict[str, Any]:
        """All of it but the bins, as JSON can hold it."""
        return {
            "hour": self._hour,
            "first_hour": self._first_hour,
            "counts": self._counts.tolist(),
            "psi": self.psi.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._hour, self._first_hour = state["hour"], state["first_hour"]
        self._counts = np.array(state["counts"], dtype=np.int64).reshape(self._counts.shape)
        self.psi = np.array(state["psi"], dtype=np.float64)
