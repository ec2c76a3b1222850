"""The spool: what waits on disk while the database is away.

A folder of segments, NDJSON files that are only appended to. An appended batch is the system's at
once, so it outlives the process; a segment is forced to the disk when it is full and when the spool
is closed, so what a power cut can take is at most the one being written. One process at a time.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from monitor.store.entries import Entry, EntryKind, read_entry
from monitor.store.errors import StoreError

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["Segment", "Spool"]

_log = logging.getLogger(__name__)
_SEGMENT_BYTES: Final = 8 * 1024 * 1024
_SUFFIX: Final = ".ndjson"
_NAMES: Final = "[0-9]" * 8 + _SUFFIX


class _Line(msgspec.Struct, frozen=True, gc=False):
    kind: EntryKind
    data: msgspec.Raw


@dataclass(slots=True)
class Segment:
    """One file: so many entries in so many bytes."""

    path: Path
    entries: int
    size_bytes: int


class Spool:
    """At most ``max_bytes`` of entries in ``folder``; takes over what an earlier process left.

    Threads may append while one stores and removes.

    Raises:
        StoreError: the folder cannot be used, or another process uses it.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._encoder = msgspec.json.Encoder()
        self._file: BinaryIO | None = None
        self._mutex = threading.RLock()
        self._lock = _locked(folder)
        self._segments = [_found(path) for path in sorted(folder.glob(_NAMES))]
        self._next = 1 + max((int(s.path.stem) for s in self._segments), default=0)

    def __len__(self) -> int:
        """How many entries wait."""
        with self._mutex:
            return sum(segment.entries for segment in self._segments)

    @property
    def size_bytes(self) -> int:
        """How large they are."""
        with self._mutex:
            return sum(segment.size_bytes for segment in self._segments)

    def append(self, entries: Sequence[Entry]) -> int:
        """Keep entries; how many found room, the first ones. Raises OSError if the disk fails."""
        with self._mutex:
            room = self._max_bytes - self.size_bytes
            pieces: list[bytes] = []
            for entry in entries:
                line = self._encoder.encode(_Line(entry.kind, entry.data)) + b"\n"
                room -= len(line)
                if room < 0:
                    break
                pieces.append(line)
            if pieces:
                self._write(b"".join(pieces), len(pieces))
            return len(pieces)

    def oldest(self) -> Segment | None:
        """The segment to store next; nothing more is appended to it."""
        with self._mutex:
            if not self._segments:
                return None
            if len(self._segments) == 1:
                self._seal()
            return self._segments[0]

    def read(self, segment: Segment) -> list[Entry]:
        """Its entries. A line that was cut off by a crash is said and left out."""
        entries = []
        for number, line in enumerate(segment.path.read_bytes().splitlines(), 1):
            try:
                found = msgspec.json.decode(line, type=_Line)
                entries.append(read_entry(found.kind, found.data))
            except msgspec.MsgspecError as error:
                _log.error("%s line %d is damaged and left out: %s", segment.path, number, error)
        return entries

    def remove(self, segment: Segment) -> None:
        """Forget a segment: its entries are stored."""
        with self._mutex:
            segment.path.unlink()
            self._segments.remove(segment)

    def close(self) -> None:
        """Force what waits to the disk and let go of the folder."""
        with self._mutex:
            self._seal()
        self._lock.close()
        if not self._segments:
            with suppress(OSError):  # Somebody keeps other things there.
                (self.folder / "lock").unlink()
                self.folder.rmdir()

    def _write(self, lines: bytes, entries: int) -> None:
        if self._file is None:
            path = self.folder / f"{self._next:08d}{_SUFFIX}"
            self._next += 1
            self._file = path.open("ab", buffering=0)
            self._segments.append(Segment(path, 0, 0))
        segment = self._segments[-1]
        try:
            self._file.write(lines)
        except OSError:
            # Half a batch may be there: as if it were not.
            self._file.truncate(segment.size_bytes)
            raise
        segment.entries += entries
        segment.size_bytes += len(lines)
        if segment.size_bytes >= _SEGMENT_BYTES:
            self._seal()

    def _seal(self) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


def _locked(folder: Path) -> BinaryIO:
    """The folder, made if need be, for this process alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("ab")
    except OSError as error:
        raise StoreError(f"spool {folder}: cannot be used: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise StoreError(
            f"spool {folder}: another process uses it; give each its own (store.spool)"
        ) from error
    return lock


def _found(path: Path) -> Segment:
    content = path.read_bytes()
    return Segment(path, content.count(b"\n"), len(content))
