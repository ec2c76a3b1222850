"""The errors of the core: each says what was wrong, where, and what to do."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DetectorError", "ExpressionError", "PackError", "StateError", "near_match"]


class DetectorError(Exception):
    """Base of all errors raised by ``detectors``."""


class PackError(DetectorError):
    """A pack that cannot be used: ``where`` names the entry, ``hint`` says what to do."""

    def __init__(self, message: str, *, where: str, hint: str = "") -> None:
        self.message = message
        self.where = where
        self.hint = hint
        super().__init__(f"{where}: {message}" + (f" ({hint})" if hint else ""))


class StateError(DetectorError):
    """A saved state that cannot be taken over: ``where`` names the block, ``hint`` what to do."""

    def __init__(self, message: str, *, where: str, hint: str = "") -> None:
        self.message = message
        self.where = where
        self.hint = hint
        super().__init__(f"{where}: {message}" + (f" ({hint})" if hint else ""))


class ExpressionError(DetectorError):
    """SQL that cannot be used: ``position`` is the offset (characters) of what is wrong.

    ``unknown_column`` names the column that the schema lacks, where that is what is wrong.
    """

    def __init__(
        self,
        message: str,
        *,
        sql: str,
        position: int = 0,
        hint: str = "",
        unknown_column: str = "",
    ) -> None:
        self.message = message
        self.unknown_column = unknown_column
        self.sql = sql
        self.position = position
        self.hint = hint
        super().__init__(
            f"{message} at character {position + 1} of {sql!r}" + (f" ({hint})" if hint else "")
        )


def near_match(name: str, known: Iterable[str], *, what: str = "did you mean") -> str:
    """``"did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"{what} {close[0]!r}?" if close else ""
