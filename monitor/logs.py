"""Incident logs as sources of a runner: NDJSON, compressed NDJSON and Parquet, read in pieces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

import polars as pl
import zstandard
from polars.exceptions import PolarsError

from detectors.events import event_schema
from monitor.wire.records import split_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from monitor.pipeline import PipelineResult
    from monitor.runner import Runner

__all__ = ["LogError", "LogFile", "open_log", "replay_logs"]

_CHUNK_EVENTS: Final = 16_000
"""What is pushed at a time, at most: as much as the runner takes for one batch."""
_READ_EVENTS: Final = 8 * _CHUNK_EVENTS
"""What is read of a Parquet file at a time. Each time whole pages are decoded, used or not."""
_READ_BYTES: Final = 8_388_608
_MAX_LINE_BYTES: Final = 67_108_864


class LogError(Exception):
    """A log that cannot be read: the message names the file and what to do."""


class LogFile(Protocol):
    """A log file that is pushed piece by piece into a runner; ``done`` and ``size`` in bytes."""

    name: str
    size_bytes: int
    done_bytes: int

    def push_next(self, runner: Runner) -> bool:
        """Push the next piece; False when there is none."""
        ...


class _JsonLines:
    """NDJSON, plain or zstd."""

    def __init__(self, path: Path, received_ms: int) -> None:
        self.name = str(path)
        self.size_bytes = path.stat().st_size
        self.done_bytes = 0
        self._received_ms = received_ms
        self._pieces = self._read(path)

    def push_next(self, runner: Runner) -> bool:
        lines = next(self._pieces, None)
        if lines is None:
            return False
        runner.push_records(self.name, lines, self._received_ms)
        return True

    def _read(self, path: Path) -> Iterator[Sequence[bytes]]:
        rest = b""
        with path.open("rb") as file:
            stream = file if path.suffix != ".zst" else _decompressed(file)
            while True:
                try:
                    piece = stream.read(_READ_BYTES)
                except zstandard.ZstdError as error:
                    raise LogError(f"{self.name}: damaged zstd data ({error})") from error
                self.done_bytes = file.tell()
                if not piece:
                    break
                lines, rest = split_lines(rest, piece)
                if len(rest) > _MAX_LINE_BYTES:
                    raise LogError(
                        f"{self.name}: a line of over {_MAX_LINE_BYTES} bytes; not NDJSON?"
                    )
                # Equal parts, so that none is a batch of few.
                parts = -(-len(lines) // _CHUNK_EVENTS)
                for part in range(parts):
                    yield lines[len(lines) * part // parts : len(lines) * (part + 1) // parts]
        if rest.strip():
            yield [rest]


def _decompressed(file: BinaryIO) -> zstandard.ZstdDecompressionReader:
    return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)


class _Parquet:
    """Parquet with the flat columns of ``detectors.events``; missing ones are null."""

    def __init__(self, path: Path, received_ms: int) -> None:
        self.name = str(path)
        self.size_bytes = path.stat().st_size
        self.done_bytes = 0
        self._path = path
        self._received_ms = received_ms
        self._row = 0
        self._read = pl.DataFrame()
        try:
            found = pl.read_parquet_schema(path)
            self._rows = int(pl.scan_parquet(path).select(pl.len()).collect().item())
        except (PolarsError, OSError) as error:
            raise LogError(f"{path}: not a Parquet file ({error})") from error
        self._found = frozenset(found)
        for name in ("event_id", "type", "time_ms", "user_id"):
            if name not in found:
                raise LogError(
                    f"{path}: no column {name!r}; columns are those of "
                    "`floodwatch simulate --out X.parquet` (docs/schema)"
                )

    def push_next(self, runner: Runner) -> bool:
        if self._row >= self._rows:
            return False
        place = self._row % _READ_EVENTS
        if not place:
            self._read = self._read_from(self._row, runner.columns)
        runner.push_frame(self.name, self._read[place : place + _CHUNK_EVENTS], self._received_ms)
        self._row += _CHUNK_EVENTS
        self.done_bytes = self.size_bytes * min(self._row, self._rows) // self._rows
        return True

    def _read_from(self, row: int, names: frozenset[str]) -> pl.DataFrame:
        schema = event_schema()
        columns = [
            pl.col(name).cast(schema[name], strict=False).alias(name)
            if name in self._found
            else pl.lit(None, dtype=schema[name]).alias(name)
            for name in schema
            if name in names
        ]
        try:
            return pl.scan_parquet(self._path).slice(row, _READ_EVENTS).select(columns).collect()
        except PolarsError as error:
            raise LogError(f"{self.name}: {error}") from error


def open_log(path: Path, received_ms: int) -> LogFile:
    """Open a log by its ending: ``.ndjson``, ``.jsonl`` (also ``.zst``) or ``.parquet``.

    ``received_ms`` is the newest time an event can honestly have: events after it (and a bit) are
    refused. For a recorded log that is now.

    Raises:
        LogError: no such file, another ending, or not what its ending says.
    """
    if not path.is_file():
        raise LogError(f"{path}: no such file")
    name = path.name.removesuffix(".zst")
    if name.endswith((".ndjson", ".jsonl")):
        return _JsonLines(path, received_ms)
    if path.suffix == ".parquet":
        return _Parquet(path, received_ms)
    raise LogError(f"{path}: unknown ending; use .ndjson, .jsonl, .ndjson.zst or .parquet")


def replay_logs(runner: Runner, logs: Sequence[LogFile]) -> Iterator[PipelineResult]:
    """Push the logs through the runner, merged by event time; yields results as they come."""
    live = list(logs)
    while live:
        for log in list(live):
            if not runner.waiting(log.name) and not log.push_next(runner):
                runner.end(log.name)
                live.remove(log)
        yield runner.run()
