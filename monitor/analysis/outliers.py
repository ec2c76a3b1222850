"""The rows of a table that are unlike the others, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.ensemble import IsolationForest

from monitor.analysis.errors import AnalysisError
from monitor.models.scales import Scale, scaled
from monitor.models.sklearn_forest import flatten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from detectors.forest import Forest
    from monitor.analysis.tables import Table

__all__ = ["OUTLIER_COLUMNS", "OutlierAnalysis", "Reason", "analyze_outliers"]

Floats: TypeAlias = npt.NDArray[np.float64]

OUTLIER_COLUMNS: Final = ("anomaly_score", "anomaly_rank")
_SAMPLE_ROWS: Final = 256
_HEAVY_TAIL: Final = 10.0
"""Where the outer percentiles are so many times further from the median than the quartiles are."""


@dataclass(frozen=True, slots=True)
class Reason:
    """What a column adds to the score of a row; the shares of rows that have less, and more."""

    column: str
    value: float
    less: float
    more: float
    contribution: float


@dataclass(frozen=True, slots=True)
class OutlierAnalysis:
    """Scores of n rows by k columns; ``notes`` say what was left out or filled in."""

    forest: Forest
    rows: Floats  # (n, k)
    score: Floats  # (n,)
    notes: tuple[str, ...]

    @property
    def columns(self) -> tuple[pl.Series, pl.Series]:
        """What is added to the table: the score, and the share of rows that have a lower one."""
        score = pl.Series(OUTLIER_COLUMNS[0], self.score)
        below = (score.rank("min").cast(pl.Int64) - 1) / len(score)
        return score, below.alias(OUTLIER_COLUMNS[1])

    def top(self, count: int) -> list[int]:
        """The rows with the highest scores, highest first, earlier ones first where equal."""
        return [int(row) for row in np.argsort(-self.score, kind="stable")[:count]]

    def reasons(self, row: int, count: int) -> list[Reason]:
        """The columns that made the score of a row, the most telling first."""
        _, contributions = self.forest.explain(self.rows[row])
        order = np.argsort(-contributions, kind="stable")[:count]
        return [
            Reason(
                self.forest.features[at],
                float(self.rows[row, at]),
                float((self.rows[:, at] < self.rows[row, at]).mean()),
                float((self.rows[:, at] > self.rows[row, at]).mean()),
                float(contributions[at]),
            )
            for at in order
            if contributions[at] > 0
        ]


def analyze_outliers(
    table: Table, columns: Sequence[str] = (), *, seed: int = 0, trees: int = 200
) -> OutlierAnalysis:
    """Train an isolation forest on the table and score its rows by it.

    ``columns`` are those to compare by; without any, all that hold numbers or true/false. A value
    that is missing counts as the median of its column, and one that is infinite as further out
    than all finite ones. Columns with heavy tails are compared on a logarithmic scale.

    Raises:
        AnalysisError: an unknown column, one without numbers, or none that differs between rows.
    """
    table.check_new_columns(OUTLIER_COLUMNS)
    names, rows, notes = _choose(table, columns)
    finite = np.where(np.isfinite(rows), rows, np.nan)
    fill = np.nanmedian(finite, axis=0)
    edges = np.stack((np.nanmin(finite, axis=0), np.nanmax(finite, axis=0)))
    known = np.clip(np.where(np.isnan(rows), fill, rows), *edges)
    scales = [_scale(known[:, at]) for at in range(len(names))]
    forest = IsolationForest(
        n_estimators=trees, max_samples=min(_SAMPLE_ROWS, len(rows)), random_state=seed
    )
    forest.fit(scaled(known, scales))
    flat = flatten(forest, names, fill, scales)
    return OutlierAnalysis(flat, rows, flat.score(rows), tuple(notes))


def _choose(table: Table, asked: Sequence[str]) -> tuple[list[str], Floats, list[str]]:
    """The columns to compare by, their values (n, k), and what to say about the others."""
    for name in asked:
        table.column(name)
    typed = table.values()
    usable = [
        name for name, dtype in typed.schema.items() if dtype.is_numeric() or dtype == pl.Boolean
    ]
    for name in asked:
        if name not in usable:
            raise AnalysisError(
                f"{table.path}: column {name!r} holds {typed.schema[name]}, not numbers;"
                f" columns with numbers: {', '.join(usable) or 'none'}"
            )
    names, series, notes = [], [], []
    for name in dict.fromkeys(asked or usable):
        column = typed[name].cast(pl.Float64).fill_nan(None)
        known = column.drop_nulls()
        if not len(known.filter(known.is_finite())):
            notes.append(f"{name}: no values, left out")
        elif known.n_unique() == 1:
            notes.append(f"{name}: the same in all rows, left out")
        else:
            names.append(name)
            series.append(column.to_numpy())
            if column.null_count():
                notes.append(f"{name}: {column.null_count():,} missing, taken as the median")
    if not names:
        why = "; ".join(notes) or "no column holds numbers"
        raise AnalysisError(f"{table.path}: nothing to compare rows by: {why}")
    return names, np.column_stack(series), notes


def _scale(values: Floats) -> Scale:
    """Logarithmic where outer values are far further out than the middle half is wide."""
    low, first, median, third, high = np.quantile(values, (0.001, 0.25, 0.5, 0.75, 0.999))
    middle = max(third - median, median - first)
    outer = max(high - median, median - low)
    return "log" if outer > _HEAVY_TAIL * middle else "linear"
