"""Alerts as OCSF Detection Findings, each in a CloudEvent: one a line, for a SIEM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from detectors.incidents import Alert, Output
from monitor.cloudevents import encode_event, finding_event

if TYPE_CHECKING:
    from monitor.wire import DeadLetter

__all__ = ["FINDINGS", "FindingSink"]

FINDINGS: Final = "findings.ndjson"


class FindingSink:
    """Writes ``findings.ndjson`` into ``folder``, over that of an earlier run.

    ``source`` is the CloudEvents source.

    Raises:
        OSError: the folder or the file cannot be written.
    """

    def __init__(self, folder: Path, source: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / FINDINGS).open("wb")
        self._source = source

    def write(self, outputs: Sequence[Output], dead_letters: Sequence[DeadLetter] = ()) -> None:
        """Append the alerts among ``outputs``; the rest is not a finding."""
        del dead_letters
        for output in outputs:
            if isinstance(output, Alert):
                self._file.write(encode_event(finding_event(output, self._source)) + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
