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
from monitor.pipeline import PipelineResult, RecordChunk
from monitor.trace_messages import decode_traces
from monitor.wire import Decoder
from tests.simulation.stage import pipeline_digest, row_pipeline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from detectors.topology import Topology
    from monitor.kafka.outbound import OutboundMessage
    from monitor.kafka.settings import WorkerSettings
    from tests.simulation.broker import InputLog, Record
    from tests.simulation.history import Steps

__all__ = ["Expected", "expect", "expect_of_rows", "received_rows"]


@dataclass(frozen=True, slots=True)
class Expected:
    """The messages of a partition, the digest of its final state, and how the order was.

    ``events`` were taken, ``records_left`` of the logs were not. ``in_order`` says that the order
    is that of one merge of everything. ``rows`` are for the next stage.
    """

    messages: Sequence[OutboundMessage]
    digest: str
    events: int
    records_left: int
    in_order: bool
    rows: Sequence[pl.DataFrame]


def expect(
    topology: Topology,
    partition: int,
    logs: Mapping[str, InputLog],
    settings: WorkerSettings,
    steps: Steps,
) -> Expected:
    """Take ``logs`` (by topic, in the order of the sources) in ``steps``, in a single pass."""
    decoder = Decoder(topology.pack.event_columns)
    frames: list[pl.DataFrame] = []
    order: list[tuple[int, int, int, int]] = []
    letters: list[OutboundMessage] = []
    left = rows = 0
    for source, (topic, log) in enumerate(logs.items()):
        end = steps[-1].position[topic] if steps else log.start
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
                    names=settings.topics,
                )
            )
        frames.append(decoded.frame)
        keys = np.maximum.accumulate(decoded.frame["time_ms"].to_numpy()).tolist()
        ends = [step.position[topic] for step in steps]
        for row, (key, place) in enumerate(zip(keys, decoded.positions.tolist(), strict=True)):
            step = int(np.searchsorted(ends, records[place].offset, side="right"))
            order.append((step, key, source, rows + row))
        rows += len(decoded.frame)
    order.sort()
    taken = pl.concat(frames)[[row for _, _, _, row in order]]
    result, traces, digest = _pass(topology, taken, [step for step, _, _, _ in order], steps)
    return Expected(
        [*finding_messages(result, settings.topics, settings.event_source), *letters],
        digest,
        rows,
        left,
        order == sorted(order, key=lambda place: place[1:]),
        traces,
    )


def _pass(
    topology: Topology, taken: pl.DataFrame, step_of: Sequence[int], steps: Steps
) -> tuple[PipelineResult, list[pl.DataFrame], str]:
    """Outputs, traces and digest of a stage to which n events come, at these of the steps (n,)."""
    stage = topology.user_stage()
    result = PipelineResult()
    traces: list[pl.DataFrame] = []
    start = 0
    for number, step in enumerate(steps):
        for models in step.switches:
            stage.use_models(models)
        if number + 1 < len(steps) and not steps[number + 1].switches:
            continue  # cuts make no difference
        end = int(np.searchsorted(step_of, number, side="right"))
        outputs = stage.process(EventBatch.of(taken[start:end]))
        result.outputs += outputs.outputs
        if outputs.traces is not None:
            traces.append(outputs.traces)
        start = end
    return result, traces, state_digest(stage)


def expect_of_rows(
    topology: Topology, log: InputLog, settings: WorkerSettings, steps: Steps
) -> Expected:
    """Take the log of a stage after the first in a single pass."""
    (topic,) = settings.inputs
    end = steps[-1].position[topic] if steps else log.start
    records = [record for record in log.records if record.offset < end]
    pipeline = row_pipeline(topology, settings)
    result = PipelineResult()
    rows: list[pl.DataFrame] = []
    if records:
        pipeline.push(_chunk(topic, records))
    while pipeline.buffered(topic):
        step = pipeline.process((), 1_000_000)
        result.outputs += step.outputs
        if step.traces is not None and len(step.traces.frame):
            rows.append(step.traces.frame)
    return Expected(
        finding_messages(result, settings.topics, settings.event_source),
        pipeline_digest(pipeline),
        0,
        len(log.records) - len(records),
        in_order=True,
        rows=rows,
    )


def received_rows(
    topology: Topology, log: InputLog, settings: WorkerSettings
) -> tuple[list[pl.DataFrame], list[str]]:
    """What the merge makes of a log of rows, and what is wrong with the log, in words."""
    merge = row_pipeline(topology, settings).merge
    frames: list[pl.DataFrame] = []
    for record in log.records:
        merge.add(decode_traces(record.value), record.timestamp_ms)
        taken = merge.take()
        if taken is not None:
            frames.append(taken)
    found = {"missing": merge.missing, "forced": merge.forced, "waiting": merge.waiting}
    return frames, [f"{count} rows {what}" for what, count in found.items() if count]


def _chunk(topic: str, records: Sequence[Record]) -> RecordChunk:
    values, offsets = [r.value for r in records], [r.offset for r in records]
    return RecordChunk(topic, 0, values, offsets, [r.timestamp_ms for r in records])
