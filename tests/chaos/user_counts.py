"""How many events a stage has counted for each user, asked of it by one more event of each.

Counts do not depend on the order in which topics were merged, so they show lost and doubled events
also where the exact state cannot be foretold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from detectors.batch import EventBatch
from detectors.stages import StageOutputs, UserStage
from detectors.topology import Topology
from monitor.wire import Decoder

__all__ = ["COUNTS", "Miscount", "miscount"]

COUNTS: Final = ("generations_24h", "shares_24h")
"""Features of the default pack that count events, over more time than a run simulates."""


@dataclass(frozen=True, slots=True)
class Miscount:
    """Summed over users and features: events not counted, and counted too often."""

    lost: int
    doubled: int


def miscount(
    topology: Topology,
    actual: UserStage,
    expected: UserStage,
    newest: Sequence[tuple[str, Any]],
) -> Miscount:
    """Compare two stages' counts. Both are shown one more event of each user, so use copies.

    ``newest`` has a record of each user, with its topic.
    """
    batch = _batch(topology, newest)
    counts = [
        stage._columns(batch, batch.times_ms, StageOutputs()).frame.select(COUNTS).cast(pl.Int64)
        for stage in (actual, expected)
    ]
    lost = doubled = 0
    for name in COUNTS:
        difference = counts[0][name] - counts[1][name]
        lost -= int(difference.clip(upper_bound=0).sum())
        doubled += int(difference.clip(lower_bound=0).sum())
    return Miscount(lost, doubled)


def _batch(topology: Topology, newest: Sequence[tuple[str, Any]]) -> EventBatch:
    decoder = Decoder(topology.pack.event_columns)
    frames = []
    for topic in sorted({topic for topic, _ in newest}):
        records = [record for name, record in newest if name == topic]
        decoded = decoder.decode(
            topic,
            [record.value for record in records],
            [record.offset for record in records],
            [record.timestamp for record in records],
        )
        frames.append(decoded.frame)
    return EventBatch.of(pl.concat(frames))
