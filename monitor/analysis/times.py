"""Times in the columns of tables that others made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from monitor.analysis.errors import AnalysisError

if TYPE_CHECKING:
    from monitor.analysis.tables import Table

__all__ = ["event_times_ms"]

Int64s: TypeAlias = npt.NDArray[np.int64]

_ISO: Final = (
    r"^\s*(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(?::(\d{2})(?:[.,](\d+))?)?)?"
    r"\s*(?:(Z|z|UTC)|([+-])(\d{2}):?(\d{2}))?\s*$"
)
_NUMBER: Final = r"^\s*-?\d+(\.\d*)?\s*$"
_LEAST_MS: Final = 1e11
"""Seconds up to here are the years until 5138, milliseconds those after 1973."""
_LEAST_US: Final = 1e14
_LEAST_NS: Final = 1e17


def event_times_ms(table: Table, name: str) -> Int64s:
    """The column ``name`` in milliseconds since 1970, UTC where no offset is said; shape (n,).

    It may hold dates with times, ISO 8601 texts ("2014-04-01 00:00:00", fractions, offsets) or
    numbers since 1970 in seconds, milliseconds, microseconds or nanoseconds. Which of the four,
    the first row tells.

    Raises:
        AnalysisError: no such column, or a row that is no time; it names the row.
    """
    column = table.column(name)
    if column.dtype.is_temporal() and not isinstance(column.dtype, pl.Time | pl.Duration):
        times_ms = column.cast(pl.Datetime("ms")).dt.timestamp("ms")
    elif column.dtype.is_numeric():
        times_ms = _since_1970(column.cast(pl.Float64))
    elif column.dtype == pl.String:
        first = column.drop_nulls().head(1)
        numbers = len(first) and bool(first.str.contains(_NUMBER)[0])
        times_ms = (
            _since_1970(column.str.strip_chars().cast(pl.Float64, strict=False))
            if numbers
            else _from_iso(column)
        )
    else:
        raise AnalysisError(f"{table.path}: column {name!r} holds {column.dtype}, not times")
    wrong = times_ms.is_null().arg_true()
    if len(wrong):
        row = int(wrong[0])
        raise AnalysisError(
            f"{table.place(row)}: {column[row]!r} in column {name!r} is no time;"
            " use ISO 8601 or numbers since 1970"
        )
    return times_ms.to_numpy().astype(np.int64)


def _since_1970(numbers: pl.Series) -> pl.Series:
    numbers = numbers.set(~numbers.is_finite(), None)
    known = numbers.drop_nulls()
    size = abs(float(known[0])) if len(known) else 0.0
    if size < _LEAST_MS:
        per_ms = 1e-3
    elif size < _LEAST_US:
        per_ms = 1.0
    else:
        per_ms = 1e3 if size < _LEAST_NS else 1e6
    return (numbers / per_ms).round().cast(pl.Int64, strict=False)


def _from_iso(texts: pl.Series) -> pl.Series:
    parts = texts.to_frame("text").select(
        pl.col("text").str.extract(_ISO, group).alias(str(group)) for group in range(1, 9)
    )
    day = pl.col("1").str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("ms"))
    clock = pl.col("2").fill_null("00:00") + ":" + pl.col("3").fill_null("00")
    clock_ms = clock.str.to_time("%H:%M:%S", strict=False).cast(pl.Int64) // 1_000_000
    fraction_ms = pl.col("4").fill_null("0").str.pad_end(3, "0").str.slice(0, 3).cast(pl.Int64)
    minutes = pl.col("7").cast(pl.Int64) * 60 + pl.col("8").cast(pl.Int64)
    sign = pl.when(pl.col("6") == "-").then(-1).otherwise(1)
    offset_ms = (sign * minutes * 60_000).fill_null(0)
    return parts.select(day.dt.timestamp("ms") + clock_ms + fraction_ms - offset_ms).to_series()
