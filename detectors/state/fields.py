"""What the columns of row arrays mean, so that they can be found again by meaning."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from detectors.state.blocks import Array

__all__ = ["Field", "RowPart", "Span", "plain_sql"]


class Span(NamedTuple):
    """Which columns of an array: so many ``columns`` from ``start``, ``step`` apart."""

    start: int
    step: int
    columns: int


@dataclass(frozen=True, slots=True)
class Field:
    """A piece of a row's state that has a meaning of its own.

    ``identity`` is that meaning: equal means that the values can be carried over. ``label`` names
    it to people. ``spans`` are its columns by array. ``reads`` are event or derived columns that
    its SQL mentions: where they are derived, their definitions are part of the meaning.
    ``reach_s`` is how far back it can remember, where that may change without spoiling it.
    """

    label: str
    identity: Mapping[str, str | int]
    spans: Mapping[str, Sequence[Span]]
    reads: frozenset[str] = frozenset()
    reach_s: int = 0


class RowPart(Protocol):
    """A component that keeps arrays with one row for each row of the key table."""

    @property
    def row_arrays(self) -> Mapping[str, Array]:
        """All that is kept for rows: arrays of shape (capacity,) or (capacity, columns)."""
        ...

    @property
    def fields(self) -> Sequence[Field]:
        """What every column of ``row_arrays`` means."""
        ...

    def clear_rows(self, rows: slice) -> None:
        """Make rows those of keys that nothing is known of."""
        ...

    def complete_rows(self, rows: slice) -> None:
        """Compute what follows from ``row_arrays`` and is kept beside them."""
        ...


def plain_sql(sql: str) -> str:
    """``sql`` with single spaces outside of quotes: how a line is folded means nothing."""
    quoted = re.split(r"""('[^']*'|"[^"]*")""", sql)
    return "".join(
        part if index % 2 else re.sub(r"\s+", " ", part) for index, part in enumerate(quoted)
    ).strip()
