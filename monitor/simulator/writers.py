"""Event tables to files, a table at a time: NDJSON, compressed NDJSON and Parquet.

A file appears under its name only when it is complete; until then it has ``.part`` behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import polars as pl
import zstandard
from polars.io.plugins import register_io_source

from detectors.events import event_schema
from monitor.simulator.errors import OutputError
from monitor.simulator.wire_json import to_wire_json

__all__ = [
    "FILE_SUFFIXES",
    "file_stem",
    "write_file",
    "write_ndjson",
    "write_parquet",
    "write_table",
]

_ZSTD_LEVEL: Final = 3
_PARQUET_ZSTD_LEVEL: Final = 1
_ROW_GROUP_ROWS: Final = 131_072


def write_file(frames: Iterator[pl.DataFrame], path: Path) -> None:
    """Write event tables to ``path``, in the format that its name ends in.

    Raises OutputError for another ending, and for a file that cannot be written.
    """
    writer = _WRITERS[_suffix(path)]
    try:
        writer(frames, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error}") from error


def file_stem(path: Path) -> Path:
    """``path`` without the ending of its format: ``out/run.ndjson.zst`` gives ``out/run``.

    Raises OutputError for another ending.
    """
    return path.with_name(path.name.removesuffix(_suffix(path)))


def write_ndjson(frames: Iterator[pl.DataFrame], path: Path) -> None:
    """One JSON object of the wire schema a line; zstd-compressed where the name ends in .zst."""
    with _complete(path) as part, part.open("wb") as file:
        if path.name.endswith(".zst"):
            compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
            with compressor.stream_writer(file) as stream:
                _write_lines(frames, stream)
        else:
            _write_lines(frames, file)


def write_parquet(frames: Iterator[pl.DataFrame], path: Path) -> None:
    """The flat columns of ``detectors.events``, zstd-compressed, in row groups of 131,072."""

    def produce(
        _columns: list[str] | None,
        predicate: pl.Expr | None,
        row_count: int | None,
        _batch_rows: int | None,
    ) -> Iterator[pl.DataFrame]:
        """All tables; the sink below asks neither for a selection of columns nor of rows."""
        assert predicate is None
        assert row_count is None
        yield from frames

    with _complete(path) as part:
        register_io_source(produce, schema=event_schema()).sink_parquet(
            part,
            compression="zstd",
            compression_level=_PARQUET_ZSTD_LEVEL,
            row_group_size=_ROW_GROUP_ROWS,
            # Identifiers are random: their least and greatest value rule nothing out.
            statistics=False,
        )


def write_table(table: pl.DataFrame, path: Path) -> None:
    """A small table to Parquet. Raises OutputError where the file cannot be written."""
    try:
        with _complete(path) as part:
            table.write_parquet(part)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error}") from error


def _write_lines(
    frames: Iterator[pl.DataFrame], stream: IO[bytes] | zstandard.ZstdCompressionWriter
) -> None:
    for frame in frames:
        if frame.height:
            lines = to_wire_json(frame).str.join("\n").item()
            stream.write(f"{lines}\n".encode())


@contextmanager
def _complete(path: Path) -> Iterator[Path]:
    """A name to write to; renamed to ``path`` at the end, removed where something went wrong."""
    part = path.with_name(path.name + ".part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


_WRITERS: Final[dict[str, Callable[[Iterator[pl.DataFrame], Path], None]]] = {
    ".ndjson": write_ndjson,
    ".ndjson.zst": write_ndjson,
    ".parquet": write_parquet,
}
FILE_SUFFIXES: Final = tuple(_WRITERS)
"""The endings of file names that can be written."""


def _suffix(path: Path) -> str:
    for suffix in FILE_SUFFIXES:
        if path.name.endswith(suffix) and path.name != suffix:
            return suffix
    raise OutputError(
        f"{path}: unknown kind of output; end the name in {', '.join(FILE_SUFFIXES)}, "
        "or give kafka://host:port"
    )
