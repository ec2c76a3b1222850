"""How unusual each row of a time series is, by the rows before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from detectors.series import SeriesError, SeriesScores, score_series
from monitor.analysis.errors import AnalysisError
from monitor.analysis.times import event_times_ms

if TYPE_CHECKING:
    from detectors.series import SeriesKind, Side
    from monitor.analysis.tables import Table

__all__ = ["VOLUME_COLUMNS", "VolumeAnalysis", "analyze_volume"]

Floats: TypeAlias = npt.NDArray[np.float64]
Int64s: TypeAlias = npt.NDArray[np.int64]

VOLUME_COLUMNS: Final = ("expected", "anomaly_score")
_MOST_BACK_MS: Final = 7_200_000
"""Clocks are set back by an hour, and collectors deliver late; a shuffled table goes further."""


@dataclass(frozen=True, slots=True)
class VolumeAnalysis:
    """Scores of n rows in the table's order; ``backward_rows`` had a time before an earlier one."""

    times_ms: Int64s
    values: Floats
    scores: SeriesScores
    backward_rows: int

    @property
    def columns(self) -> tuple[pl.Series, pl.Series]:
        """What is added to the table."""
        expected = pl.Series(VOLUME_COLUMNS[0], self.scores.expected, nan_to_null=True)
        return expected, pl.Series(VOLUME_COLUMNS[1], self.scores.score)


def analyze_volume(
    table: Table, time: str, value: str, *, kind: SeriesKind = "auto", side: Side = "both"
) -> VolumeAnalysis:
    """Score the column ``value`` at the times in the column ``time``.

    A row whose time is a little before an earlier one is taken as if it were at that one's time.

    Raises:
        AnalysisError: a column is missing, a row has no time or no number, or times go far back.
    """
    table.check_new_columns(VOLUME_COLUMNS)
    times_ms = event_times_ms(table, time)
    values = _numbers(table, value)
    newest_ms = np.maximum.accumulate(times_ms)
    behind_ms = newest_ms - times_ms
    far = np.flatnonzero(behind_ms > _MOST_BACK_MS)
    if len(far):
        raise AnalysisError(
            f"{table.place(int(far[0]))}: its time is {behind_ms[far[0]] / 3_600_000:,.1f} hours"
            f" before that of an earlier row; sort the table by {time!r}"
        )
    try:
        scores = score_series(newest_ms, values, kind=kind, side=side)
    except SeriesError as error:
        raise AnalysisError(f"{table.place(error.row)}: {error.message}") from error
    return VolumeAnalysis(times_ms, values, scores, int((behind_ms > 0).sum()))


def _numbers(table: Table, name: str) -> Floats:
    column = table.column(name)
    if column.dtype == pl.String:
        numbers = column.str.strip_chars().cast(pl.Float64, strict=False)
    elif column.dtype.is_numeric() or column.dtype == pl.Boolean:
        numbers = column.cast(pl.Float64)
    else:
        raise AnalysisError(f"{table.path}: column {name!r} holds {column.dtype}, not numbers")
    wrong = (~numbers.is_finite()).fill_null(value=True).arg_true()
    if len(wrong):
        row = int(wrong[0])
        raise AnalysisError(
            f"{table.place(row)}: {column[row]!r} in column {name!r} is no number;"
            " drop such rows, or fill them in"
        )
    return numbers.to_numpy()
