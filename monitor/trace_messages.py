"""Traces on their way to the stage of shared keys: one message per step and target partition.

A message holds the rows of one step of one source partition that go to one target: a header that
says which stretch of the source's traces the step made, then the rows as an Arrow stream. A target
gets every step, also where no row is for it: so it knows how far the source has come, and notices
when something is missing.

Before them stands a checksum of all that follows. Arrow has none: damaged bytes would be other
traces, or end the process inside the reader.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from detectors.keys import hash_string, hash_strings
from detectors.traces import SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

__all__ = ["Outgoing", "TraceMessage", "TraceMessageError", "decode_traces", "encode_traces"]

_FORMAT: Final = 1
_MOST_BYTES: Final = 4 * 1024 * 1024
"""Of a step in memory, so that its messages are far below 8 MiB even if all goes to one target."""
_NUMBER_BYTES: Final = 4


class TraceMessageError(ValueError):
    """A message that is not one of ours, or from a newer version."""


class _Format(msgspec.Struct, frozen=True, kw_only=True):
    format: int = _FORMAT


class _Header(_Format, frozen=True, kw_only=True):
    source: int
    sources: int
    lineage: str
    start: int
    end: int
    newest_ms: int
    idle: bool
    spaces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The traces ``start`` to ``end`` of a partition, made when its newest event was ``newest_ms``.

    ``frame`` holds all of them, ``spaces`` are the key spaces of the sender's pack. ``idle`` says
    that nothing more is on its way for the moment.
    """

    frame: pl.DataFrame
    spaces: tuple[str, ...]
    start: int
    end: int
    newest_ms: int
    idle: bool = False

    def pieces(self) -> Iterator[Outgoing]:
        """The same in steps that fit into messages, however few targets there are."""
        rows = len(self.frame)
        most = max(1, rows * _MOST_BYTES // max(int(self.frame.estimated_size()), _MOST_BYTES))
        for first in range(0, max(rows, 1), most):
            last = min(first + most, rows)
            if last == rows:
                yield replace(self, frame=self.frame[first:], start=self.start + first)
            else:
                yield replace(
                    self,
                    frame=self.frame[first:last],
                    start=self.start + first,
                    end=self.start + last,
                    newest_ms=int(self.frame["order_ms"][last - 1]),
                    idle=False,
                )


@dataclass(frozen=True, slots=True)
class TraceMessage:
    """What a target partition is told about a step of a source partition, one of ``sources``.

    ``lineage`` names the run of the source since it last started without state: ordinals of another
    lineage have nothing to do with these. ``frame`` holds those of the traces ``start`` to ``end``
    that are for this target; ``spaces`` names the numbers in its column ``space``, from 1.
    """

    source: int
    sources: int
    lineage: str
    start: int
    end: int
    newest_ms: int
    idle: bool
    spaces: tuple[str, ...]
    frame: pl.DataFrame | None


def encode_traces(
    outgoing: Outgoing, source: int, sources: int, lineage: str, targets: int
) -> Iterator[bytes]:
    """The messages for each of ``targets`` partitions, in their order."""
    header = msgspec.json.encode(
        _Header(
            source=source,
            sources=sources,
            lineage=lineage,
            start=outgoing.start,
            end=outgoing.end,
            newest_ms=outgoing.newest_ms,
            idle=outgoing.idle,
            spaces=outgoing.spaces,
        )
    )
    head = _number(len(header)) + header
    frame = outgoing.frame
    target_of = _targets(frame, outgoing.spaces, targets)
    if targets > 1 and len(frame):
        frame = frame[np.argsort(target_of, kind="stable")]
    edges = np.searchsorted(np.sort(target_of), np.arange(targets + 1)).tolist()
    for first, end in pairwise(edges):
        message = head + (_arrow(frame[first:end]) if end > first else b"")
        yield _number(zlib.crc32(message)) + message


def decode_traces(value: bytes | None) -> TraceMessage:
    """The inverse, for one message. Raises TraceMessageError."""
    if not value:
        raise TraceMessageError("it is empty")
    message = value[_NUMBER_BYTES:]
    if value[:_NUMBER_BYTES] != _number(zlib.crc32(message)):
        raise TraceMessageError("it is damaged, or no message of traces")
    body_at = _NUMBER_BYTES + int.from_bytes(message[:_NUMBER_BYTES], "big")
    header_bytes, body = message[_NUMBER_BYTES:body_at], message[body_at:]
    try:
        written = msgspec.json.decode(header_bytes, type=_Format).format
        if written > _FORMAT:
            raise TraceMessageError(
                f"format {written} is newer than {_FORMAT}, the newest that can be read here; "
                "update this worker"
            )
        header = msgspec.json.decode(header_bytes, type=_Header)
        frame = pl.read_ipc_stream(io.BytesIO(body)) if body else None
    except (msgspec.MsgspecError, PolarsError) as error:
        raise TraceMessageError(f"it is no message of traces: {error}") from error
    return TraceMessage(
        source=header.source,
        sources=header.sources,
        lineage=header.lineage,
        start=header.start,
        end=header.end,
        newest_ms=header.newest_ms,
        idle=header.idle,
        spaces=header.spaces,
        frame=frame,
    )


def _targets(frame: pl.DataFrame, spaces: Sequence[str], targets: int) -> npt.NDArray[np.int64]:
    """Which partition each trace goes to: that of its key in its key space."""
    if targets == 1 or not len(frame):
        return np.zeros(len(frame), dtype=np.int64)
    salts = np.array([hash_string("segment"), *map(hash_string, spaces)], dtype=np.uint64)
    assert SEGMENTS == 0, "the first number is that of segments"
    hashes = hash_strings(frame["key"]) ^ salts[frame["space"].to_numpy()]
    return np.asarray(hashes % np.uint64(targets), dtype=np.int64)


def _number(number: int) -> bytes:
    return number.to_bytes(_NUMBER_BYTES, "big")


def _arrow(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, compression="lz4")
    return buffer.getvalue()
