"""Tables in files: CSV, Parquet and NDJSON, told by their ending."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import polars as pl
from polars.exceptions import PolarsError

from detectors.errors import near_match
from monitor.analysis.errors import AnalysisError

__all__ = ["Table", "check_output", "read_table"]

_CSV: Final = frozenset({".csv"})
_JSON: Final = frozenset({".ndjson", ".jsonl"})
_PARQUET: Final = frozenset({".parquet"})
_CODE: Final = r"^\s*-?0\d"  # 007 names somebody, it does not count


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it was found in ``path``.

    Of a CSV file all columns are texts, as they stand there: 007 stays 007. ``values`` reads them.
    """

    path: Path
    frame: pl.DataFrame

    @property
    def is_text(self) -> bool:
        """Whether columns are texts because the file has no types."""
        return self.path.suffix in _CSV

    def values(self) -> pl.DataFrame:
        """The columns with types: a CSV column is numbers or true/false where all of it is."""
        return self.frame.select(map(_typed, self.frame)) if self.is_text else self.frame

    def column(self, name: str) -> pl.Series:
        """A column as it was found.

        Raises:
            AnalysisError: there is none of that name.
        """
        if name not in self.frame.columns:
            hint = near_match(name, self.frame.columns)
            raise AnalysisError(
                f"{self.path}: no column {name!r}; {hint or f'there are: {self._names()}'}"
            )
        return self.frame[name]

    def place(self, row: int) -> str:
        """How to find a row (from 0) in the file."""
        found = f"{self.path}: row {row + 1:,}"
        return f"{found} (line {row + 2:,})" if self.is_text else found

    def check_new_columns(self, names: Collection[str]) -> None:
        """See that columns of these names can be added.

        Raises:
            AnalysisError: there is one already.
        """
        for name in names:
            if name in self.frame.columns:
                raise AnalysisError(
                    f"{self.path}: has a column {name!r} already, the name of a result;"
                    " rename or drop it"
                )

    def write_with(self, columns: Collection[pl.Series], path: Path) -> None:
        """Write all columns and ``columns`` after them.

        Raises:
            AnalysisError: the file cannot be written, or not in this format.
        """
        frame = self.frame if path.suffix in _CSV else self.values()
        try:
            _WRITERS[path.suffix](frame.with_columns(columns), path)
        except (PolarsError, OSError) as error:
            raise AnalysisError(f"{path}: cannot be written ({error})") from error

    def _names(self) -> str:
        return ", ".join(self.frame.columns)


def read_table(path: Path) -> Table:
    """Read ``.csv``, ``.parquet``, ``.ndjson`` or ``.jsonl``.

    Raises:
        AnalysisError: no such file, another ending, not what its ending says, or no row in it.
    """
    if not path.is_file():
        raise AnalysisError(f"{path}: no such file")
    if path.suffix not in _READERS:
        raise AnalysisError(f"{path}: unknown ending; use {', '.join(_READERS)}")
    try:
        frame = _READERS[path.suffix](path)
    except (PolarsError, OSError, UnicodeDecodeError) as error:
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise AnalysisError(f"{path}: cannot be read as {path.suffix} ({text})") from error
    if not frame.height or not frame.width:
        raise AnalysisError(f"{path}: has no rows, so there is nothing to compare")
    return Table(path, frame)


def check_output(path: Path, source: Path) -> None:
    """See, before anything is computed, that a result can be written to ``path``.

    Raises:
        AnalysisError: another ending, no such folder, or it is the ``source``.
    """
    if path.suffix not in _WRITERS:
        raise AnalysisError(f"{path}: unknown ending of --out; use {', '.join(_WRITERS)}")
    if not path.parent.is_dir():
        raise AnalysisError(f"{path}: there is no folder {path.parent}; make it first")
    if path.exists() and path.samefile(source):
        raise AnalysisError(f"{path}: is the input itself; name another file")


def _read_csv(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema=False)


def _typed(column: pl.Series) -> pl.Series:
    truths = column.str.to_lowercase().replace_strict(
        {"true": 1, "false": 0}, default=None, return_dtype=pl.Int8
    )
    if column.null_count() == len(column) or column.str.contains(_CODE).any():
        return column
    if truths.null_count() == column.null_count():
        return truths.cast(pl.Boolean)
    for dtype in (pl.Int64, pl.Float64):
        numbers = column.str.strip_chars().cast(dtype, strict=False)
        if numbers.null_count() == column.null_count():
            return numbers
    return column


_READERS: Final[Mapping[str, Callable[[Path], pl.DataFrame]]] = MappingProxyType(
    {
        **dict.fromkeys(_CSV, _read_csv),
        **dict.fromkeys(_PARQUET, pl.read_parquet),
        **dict.fromkeys(_JSON, lambda path: pl.read_ndjson(path, infer_schema_length=None)),
    }
)
_WRITERS: Final[Mapping[str, Callable[[pl.DataFrame, Path], None]]] = MappingProxyType(
    {
        **dict.fromkeys(_CSV, lambda frame, path: frame.write_csv(path)),
        **dict.fromkeys(_PARQUET, lambda frame, path: frame.write_parquet(path)),
        **dict.fromkeys(_JSON, lambda frame, path: frame.write_ndjson(path)),
    }
)
