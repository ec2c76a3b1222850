"""Records decoded once for a whole run: a run reads the same ones over and over.

How a record is decoded does not depend on its neighbours (``tests/property/test_wire.py``), so the
real decoder's answer for a chunk is a part of its answer for the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from monitor.wire.decode import Decoded, Decoder

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from tests.simulation.broker import Record

__all__ = ["DecodedLogs"]


@dataclass(frozen=True, slots=True)
class _DecodedLog:
    whole: Decoded
    offsets: np.ndarray[tuple[int], np.dtype[np.int64]]
    dead_offsets: list[int]


class DecodedLogs(Decoder):
    """A decoder for chunks of ``logs`` (by source, one partition of each) and of nothing else."""

    def __init__(self, names: Collection[str], logs: Mapping[str, Sequence[Record]]) -> None:
        super().__init__(names)
        self._logs = {source: self._decoded(source, records) for source, records in logs.items()}

    def _decoded(self, source: str, records: Sequence[Record]) -> _DecodedLog:
        offsets = [record.offset for record in records]
        whole = super().decode(
            source,
            [record.value for record in records],
            offsets,
            [record.timestamp_ms for record in records],
        )
        good = np.array(offsets, dtype=np.int64)[whole.positions]
        return _DecodedLog(whole, good, [letter.offset for letter in whole.dead])

    def decode(
        self,
        source: str,
        values: Sequence[bytes | None],
        offsets: Sequence[int],
        received_ms: Sequence[int],
    ) -> Decoded:
        log = self._logs[source]
        start, stop = np.searchsorted(log.offsets, (offsets[0], offsets[-1] + 1)).tolist()
        first, last = np.searchsorted(log.dead_offsets, (offsets[0], offsets[-1] + 1)).tolist()
        places = np.searchsorted(offsets, log.offsets[start:stop])
        dead = [
            msgspec.structs.replace(letter, position=offsets.index(letter.offset))
            for letter in log.whole.dead[first:last]
        ]
        return Decoded(log.whole.frame[start:stop], places, dead)
