"""What should have come out: one pass of a fresh stage over the order that was taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from detectors.batch import EventBatch
from detectors.state import state_digest
from monitor.kafka.dlq import dead_letter_message
from monitor.kafka.outbound import finding_messages
from monitor.pipeline import PipelineResult
from monitor.wire import Decoder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from detectors.topology import Topology
    from monitor.kafka.outbound import OutboundMessage
    from monitor.kafka.topics import TopicNames
    from tests.simulation.broker import InputLog
    from tests.simulation.history import Steps

__all__ = ["Expected", "expect"]


@dataclass(frozen=True, slots=True)
class Expected:
    """The messages of a partition, the digest of its final state, and how the order was.

    ``events`` were taken, ``records`` of the logs were not. ``in_order`` says that the order is
    that of one merge of everything.
    """

    messages: Sequence[OutboundMessage]
    digest: str
    events: int
    records_left: int
    in_order: bool


def expect(
    topology: Topology,
    partition: int,
    logs: Mapping[str, InputLog],
    names: TopicNames,
    event_source: str,
    steps: Steps,
) -> Expected:
    """Take ``logs`` (by topic, in the order of the sources) in ``steps``, in a single pass."""
    decoder = Decoder(topology.pack.event_columns)
    frames: list[pl.DataFrame] = []
    order: list[tuple[int, int, int, int]] = []
    letters: list[OutboundMessage] = []
    left = rows = 0
    for source, (topic, log) in enumerate(logs.items()):
        end = steps[-1][topic] if steps else log.start
        records = [record for record in log.records if record.offset < end]
        left += len(log.records) - len(records)
        decoded = decoder.decode(
            topic,
            [record.value for record in records],
            [record.offset for record in records],
            [record.timestamp_ms for record in records],
        )
        for letter in decoded.dead:
            record = records[letter.position]
            letters.append(
                dead_letter_message(
                    letter,
                    partition=partition,
                    timestamp_ms=record.timestamp_ms,
                    key=record.key,
                    names=names,
                )
            )
        frames.append(decoded.frame)
        keys = np.maximum.accumulate(decoded.frame["time_ms"].to_numpy()).tolist()
        ends = [step[topic] for step in steps]
        for row, (key, place) in enumerate(zip(keys, decoded.positions.tolist(), strict=True)):
            step = int(np.searchsorted(ends, records[place].offset, side="right"))
            order.append((step, key, source, rows + row))
        rows += len(decoded.frame)
    order.sort()
    taken = pl.concat(frames)[[row for _, _, _, row in order]] if order else None
    stage = topology.user_stage()
    result = PipelineResult()
    if taken is not None:
        result.outputs = stage.process(EventBatch.of(taken)).outputs
    return Expected(
        [*finding_messages(result, names, event_source), *letters],
        state_digest(stage),
        rows,
        left,
        order == sorted(order, key=lambda place: place[1:]),
    )
