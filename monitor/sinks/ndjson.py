"""Outputs as NDJSON files: one object a line, in log order, for eyes, ``jq`` and Polars."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from detectors.incidents import Alert, Decision, IncidentUpdate, Output
from monitor.wire import DeadLetter

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["FILES", "NdjsonSink"]

FILES: Final[dict[type, str]] = {
    Alert: "alerts.ndjson",
    IncidentUpdate: "incidents.ndjson",
    Decision: "decisions.ndjson",
    DeadLetter: "dead_letters.ndjson",
}
"""The file of each kind of output. ``incidents.ndjson`` has one line per change of an incident."""


class NdjsonSink:
    """Writes into ``folder``, over the files of an earlier run; the same input, the same bytes.

    Raises:
        OSError: the folder or a file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._encoder = msgspec.json.Encoder()
        with ExitStack() as opened:
            self._files: dict[type, BinaryIO] = {
                kind: opened.enter_context((folder / name).open("wb"))
                for kind, name in FILES.items()
            }
            self._close = opened.pop_all()

    def write(self, outputs: Sequence[Output], dead_letters: Sequence[DeadLetter] = ()) -> None:
        """Append to the files; readers that follow them see whole batches."""
        by_kind: dict[type, list[Output | DeadLetter]] = {}
        for record in (*outputs, *dead_letters):
            by_kind.setdefault(type(record), []).append(record)
        for kind, records in by_kind.items():
            self._files[kind].write(self._encoder.encode_lines(records))
            self._files[kind].flush()

    def close(self) -> None:
        """Close the files."""
        self._close.close()
