"""Runbooks at hand: the page that an alert names, and what it says to look at first."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["find_runbook", "first_steps", "runbook_folders"]

_SECTION: Final = re.compile(r"^## Look first\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_STEP: Final = re.compile(r"^(?:\d+\.|[-*]) +", re.MULTILINE)
_MARKUP: Final = re.compile(r"[`*]|\[([^\]]+)\]\([^)]*\)")


def runbook_folders() -> tuple[Path, ...]:
    """Where to look: where we are, and beside the program (its source, where that is what runs)."""
    return (Path(), Path(__file__).resolve().parents[1])


def find_runbook(name: str, folders: Sequence[Path]) -> Path | None:
    """The file of a page such as ``docs/runbooks/swarm.md``; None if it is elsewhere."""
    if "://" in name:
        return None
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def first_steps(page: str) -> list[str]:
    """The points under "Look first", as plain text."""
    section = _SECTION.search(page)
    if section is None:
        return []
    points = _STEP.split(section[1])[1:]
    return [" ".join(_MARKUP.sub(r"\1", point).split()) for point in points]
