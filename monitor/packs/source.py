"""A pack together with the files it was read from, so that its errors can name lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from detectors.pack import Pack
    from monitor.packs.document import Document, EntryPath
    from monitor.packs.problems import Problem

__all__ = ["PackSource"]


@dataclass(frozen=True, slots=True)
class PackSource:
    """``documents`` by the name of the file in the pack: features, rules, limits."""

    pack: Pack
    documents: Mapping[str, Document]

    def problem(self, file: str, path: EntryPath, message: str, hint: str = "") -> Problem:
        """A problem at an entry of one of the files."""
        return self.documents[file].problem(path, message, hint)
