"""What is wrong with a pack: every problem names file, line and entry, and says what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from detectors.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PackProblems", "Problem"]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in one place. ``line`` counts from 1; 0 where no line can be named."""

    file: str
    line: int
    entry: str
    message: str
    hint: str = ""

    @property
    def place(self) -> str:
        """``file:line``, or the file."""
        return f"{self.file}:{self.line}" if self.line else self.file

    def __str__(self) -> str:
        entry = f"{self.entry}: " if self.entry else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.place}: {entry}{self.message}{hint}"


class PackProblems(PackError):
    """Everything found wrong with a pack, in reading order; its text has one line for each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        if not self.problems:
            raise ValueError("a pack without problems is no error")
        first = self.problems[0]
        super().__init__(first.message, where=first.place, hint=first.hint)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)
