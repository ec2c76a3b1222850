"""A number for each row of a key table: what was last known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from detectors.state.fields import Field, Span

if TYPE_CHECKING:
    from detectors.keys import Flags, KeyTable, Rows
    from detectors.state.blocks import Array

__all__ = ["Marks"]

Floats = npt.NDArray[np.float64]


class Marks:
    """The newest value of each row of ``keys``, NaN where none is known; a ``RowPart``.

    ``name`` says what it is the value of, in a checkpoint.
    """

    def __init__(self, keys: KeyTable, name: str) -> None:
        self.name = name
        self._keys = keys
        self._values = np.full(keys.capacity, np.nan, dtype=np.float32)

    @property
    def row_arrays(self) -> dict[str, Array]:
        """See ``RowPart``."""
        return {self.name: self._values}

    @property
    def fields(self) -> tuple[Field, ...]:
        """See ``RowPart``."""
        return (Field(self.name, {"kind": "mark"}, {self.name: [Span(0, 1, 1)]}),)

    def clear_rows(self, rows: slice) -> None:
        """See ``RowPart``."""
        self._values[rows] = np.nan

    def complete_rows(self, rows: slice) -> None:
        """See ``RowPart``: nothing follows."""

    def note(self, rows: Rows, fresh: Flags, values: Floats) -> None:
        """Values of n rows in order, NaN where one is not known; ``fresh`` rows start empty."""
        told = np.flatnonzero(fresh | ~np.isnan(values))
        # Of several of one row the last stays, as numpy assigns in order.
        self._values[rows[told]] = values[told]

    def values(self, hashes: npt.NDArray[np.uint64]) -> Floats:
        """The value of each of n keys, NaN where it is not known; nothing is touched."""
        rows = (self._keys.find(key) for key in hashes.tolist())
        return np.array([np.nan if row is None else self._values[row] for row in rows])

    def mean_of(self, hashes: npt.NDArray[np.uint64]) -> float:
        """Of the values of n keys that are known; NaN if none is."""
        return _mean(self.values(hashes))

    @property
    def mean(self) -> float:
        """Of all values that are known; NaN if none is."""
        return _mean(self._values)


def _mean(values: npt.NDArray[np.floating]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean(dtype=np.float64)) if len(known) else float("nan")
