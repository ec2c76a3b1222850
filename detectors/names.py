"""Names behind hashes: who is meant is said in words, while all else works on 64-bit hashes.

A bounded table of the newest identifiers. A name that was evicted is not known; whoever shows it
then shows the hash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from detectors.keys import KeyTable
from detectors.state.fields import Field, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from detectors.keys import Flags, Hashes, Rows
    from detectors.state.blocks import Array

__all__ = ["MAX_NAME_BYTES", "NameTable"]

MAX_NAME_BYTES: Final = 128
"""What is longer is cut, at the end of a character."""

_DEFAULT_BLOCK_ROWS: Final = 512


class NameTable:
    """The strings of up to ``capacity`` hashes; a ``RowPart`` over a key table of its own.

    The string of a hash that is known is not looked at: hashes are those of ``detectors.keys``, so
    a hash stands for one string. Zero bytes fill a row up, so a name does not end in one.
    """

    def __init__(self, capacity: int, block_rows: int = _DEFAULT_BLOCK_ROWS) -> None:
        self.keys = KeyTable(capacity, block_rows)
        self._names = np.zeros((capacity, MAX_NAME_BYTES), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def bytes_per_row(self) -> int:
        """Memory of one name, its key apart, bytes."""
        return MAX_NAME_BYTES

    @property
    def row_arrays(self) -> dict[str, Array]:
        """See ``RowPart``."""
        return {"names": self._names}

    @property
    def fields(self) -> tuple[Field, ...]:
        """See ``RowPart``."""
        return (Field("name", {"kind": "name"}, {"names": [Span(0, 1, MAX_NAME_BYTES)]}),)

    def clear_rows(self, rows: slice) -> None:
        """See ``RowPart``."""
        self._names[rows] = 0

    def complete_rows(self, rows: slice) -> None:
        """See ``RowPart``: nothing follows."""

    def note(self, hashes: Hashes, strings: pl.Series) -> tuple[Rows, Flags]:
        """Remember the n ``strings`` of n hashes, in order; none of them is null.

        Returns their rows (n,), and which of these start empty (n,).
        """
        rows, fresh = self.keys.rows(hashes)
        new = np.flatnonzero(fresh)
        if len(new):
            # Of several new names of one row the last stays, as numpy assigns in order.
            self._names[rows[new]] = _as_bytes(strings.gather(new).to_list())
        return rows, fresh

    @property
    def room(self) -> int:
        """How many more names fit before others go."""
        return self.keys.capacity - len(self.keys)

    def names(self, hashes: Hashes) -> list[str | None]:
        """The string of each hash, None where it is not known; nothing is touched."""
        rows = (self.keys.find(key) for key in hashes.tolist())
        return [
            None if row is None else self._names[row].tobytes().rstrip(b"\0").decode()
            for row in rows
        ]


def _as_bytes(names: Sequence[str]) -> npt.NDArray[np.uint8]:
    """UTF-8 in rows of ``MAX_NAME_BYTES``, filled up with zeros."""
    encoded = [_cut(name.encode()).ljust(MAX_NAME_BYTES, b"\0") for name in names]
    return np.frombuffer(b"".join(encoded), dtype=np.uint8).reshape(-1, MAX_NAME_BYTES)


def _cut(name: bytes) -> bytes:
    if len(name) <= MAX_NAME_BYTES:
        return name
    return name[:MAX_NAME_BYTES].decode(errors="ignore").encode()
