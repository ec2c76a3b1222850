"""The detection of one partition of shared keys: a function of the log of traces alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.batch import EventBatch
from detectors.compiled import compile_pack
from detectors.incidents import Alert, Output
from detectors.keys import hash_strings
from detectors.state import state_digest
from detectors.topology import Topology
from monitor.pipeline import PipelineResult, RecordChunk
from monitor.shared_pipeline import SharedPipeline
from monitor.trace_messages import Outgoing, encode_traces
from monitor.wire import Reason
from tests.support.events import random_events
from tests.support.shared import shared_pack, traces_of
from tests.support.state import Composed

TOPIC: Final = "traces"
SPACES: Final = ("asset", "device", "network")
SOURCES: Final = 3
TARGETS: Final = 2
EVENTS: Final = 900
TOPOLOGY: Final = Topology(
    compile_pack(shared_pack()), max_users=1_000, block_rows=8, max_shared_keys=64
)


@cache
def trace_log() -> tuple[bytes, ...]:
    """The log of one target: what three partitions of users said, mixed, some of it twice."""
    rng = random.Random(5)
    events = random_events(2, EVENTS, 12, spacing_ms=4_000)
    source_of = hash_strings(events["user_id"]) % np.uint64(SOURCES)
    said: list[list[bytes]] = []
    for source in range(SOURCES):
        part = EventBatch.of(events.filter(source_of == source))
        messages = steps(traces_of(TOPOLOGY.pack, [part]), source, rng)
        said.append(messages[::-1])
    mixed = []
    while any(said):
        mixed.append(rng.choice([messages for messages in said if messages]).pop())
    return tuple(mixed)


def steps(traces: pl.DataFrame, source: int, rng: random.Random) -> list[bytes]:
    """The messages for target 0: first that the source is there, some steps twice, then idle."""
    messages = [outgoing(traces, 0, 0)]
    start = 0
    while start < len(traces):
        end = min(len(traces), start + rng.randint(1, 40))
        messages.append(outgoing(traces, start, end))
        start = max(0, end - rng.choice((0, 0, 0, 12)))
        if end == len(traces):
            break
    messages.append(outgoing(traces, len(traces), len(traces), idle=True))
    return [next(encode_traces(one, source, SOURCES, "1-w", TARGETS)) for one in messages]


def outgoing(traces: pl.DataFrame, start: int, end: int, *, idle: bool = False) -> Outgoing:
    """A step of a source."""
    newest_ms = -1 if end == 0 else int(traces["order_ms"][end - 1])
    return Outgoing(traces[start:end], SPACES, start, end, newest_ms, idle=idle)


@dataclass
class Reader:
    """A pipeline, and all that came out of it."""

    pipeline: SharedPipeline

    def __post_init__(self) -> None:
        self.outputs: list[Output] = []
        self.meetings: list[pl.DataFrame] = []
        self.told = 0

    @staticmethod
    def new() -> Reader:
        """With nothing read yet."""
        return Reader(SharedPipeline(TOPOLOGY, TOPIC))

    def read(self, start: int, values: Sequence[bytes | None], limit: int = 1_000) -> None:
        """Take messages in from offset ``start`` on, all at once."""
        push(self.pipeline, start, values)
        while self.pipeline.buffered(TOPIC):
            self.keep(self.pipeline.process((), limit))

    def keep(self, result: PipelineResult) -> None:
        """Note what a step gave; what it tells the next stage follows what was told before."""
        self.outputs += result.outputs
        told = result.traces
        if told is not None:
            assert (told.start, told.end - told.start) == (self.told, len(told.frame))
            self.told = told.end
            self.meetings += [told.frame] if len(told.frame) else []

    def end(self) -> tuple[str, bytes, bytes, str]:
        """What it came to: the state of the stage and of the merge, outputs, and meetings."""
        block = self.pipeline.merge.block()
        arrays = b"".join(array.tobytes() for array in block.arrays.values())
        met = pl.concat(self.meetings).write_json() if self.meetings else ""
        return state_digest(self.pipeline.stage), arrays, msgspec.json.encode(self.outputs), met


def push(pipeline: SharedPipeline, start: int, values: Sequence[bytes | None]) -> None:
    """A chunk of the log."""
    offsets = list(range(start, start + len(values)))
    pipeline.push(RecordChunk(TOPIC, 0, list(values), offsets, [0] * len(values)))


@cache
def whole() -> Reader:
    """All of the log, read as one chunk."""
    reader = Reader.new()
    reader.read(0, trace_log())
    return reader


def test_there_is_something_to_see() -> None:
    """Or the other tests would compare nothing with nothing."""
    reader = whole()
    merge = reader.pipeline.merge
    assert (merge.waiting, merge.missing, merge.forced) == (0, 0, 0)
    assert merge.repeated > 100
    assert {o.rule_id for o in reader.outputs if isinstance(o, Alert)} >= {"crowd"}
    assert reader.told > 100


@given(
    shares=st.lists(st.floats(0, 1), max_size=12),
    limit=st.sampled_from([1, 7, 100, 10_000]),
)
@settings(max_examples=8, deadline=None)
def test_any_chunks_and_limits_give_the_same(shares: list[float], limit: int) -> None:
    """State, outputs and what the next stage is told, byte for byte."""
    log = trace_log()
    edges = sorted({0, len(log), *(int(share * len(log)) for share in shares)})
    reader = Reader.new()
    for start, end in pairwise(edges):
        reader.read(start, log[start:end], limit)
    assert reader.end() == whole().end()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4), st.sampled_from([3, 60, 10_000]))
@settings(max_examples=8, deadline=None)
def test_a_snapshot_at_any_message_goes_on_exactly(shares: list[float], limit: int) -> None:
    """A chain of them, each with what changed since the one before, as checkpoints are."""
    log = trace_log()
    kept = Composed()
    reader = Reader.new()
    start = 0
    for end in sorted({int(share * len(log)) for share in shares} | {len(log)}):
        reader.read(start, log[start:end], limit)
        snapshot = reader.pipeline.snapshot()
        assert snapshot.merged_ms == {}
        assert snapshot.pack_version == TOPOLOGY.pack.version
        kept.add(snapshot.state)
        again = SharedPipeline(TOPOLOGY, TOPIC)
        restored = again.restore({TOPIC: end}, {}, (kept.layout, kept.blocks.values()))
        assert restored.complete
        assert again.process((), 1).applied == {TOPIC: end}
        reader.pipeline = again
        start = end
    assert reader.end() == whole().end()


def test_it_starts_empty_where_it_is_told_to() -> None:
    """A position without a state: offsets that an operator has moved."""
    reader = Reader.new()
    restored = reader.pipeline.restore({TOPIC: 4}, {}, None)
    assert (restored.rows, restored.complete) == (0, False)
    assert reader.pipeline.process((), 10).applied == {TOPIC: 4}
    fresh = Reader.new()
    assert fresh.pipeline.process((), 10).applied == {}, "nothing is known of a new topic"


@pytest.mark.parametrize("bound", [0, 1, 20, 41])
def test_nothing_at_or_beyond_the_bound_is_taken(bound: int) -> None:
    """So that what was taken before is taken again, and no more."""
    log = trace_log()[:60]
    reader = Reader.new()
    reader.pipeline.restore({TOPIC: 0}, {}, None)
    push(reader.pipeline, 0, log)
    applied = 0
    while True:
        result = reader.pipeline.process((), 1, {TOPIC: bound})
        reader.keep(result)
        if result.applied == {TOPIC: applied}:
            break
        applied = result.applied[TOPIC]
    assert applied == bound
    assert reader.pipeline.buffered(TOPIC) == len(log) - bound
    there = Reader.new()
    there.read(0, log[:bound])
    assert reader.end() == there.end()


def test_what_is_no_message_is_a_dead_letter() -> None:
    """By its offset, with its bytes; what comes after it is processed."""
    log = list(trace_log())
    damaged = bytearray(log[8])
    damaged[-1] ^= 1
    pipeline = SharedPipeline(TOPOLOGY, TOPIC)
    push(pipeline, 100, [*log[:8], bytes(damaged), None, *log[8:]])
    letters = []
    while pipeline.buffered(TOPIC):
        letters += pipeline.process((), 50).dead_letters
    assert [(letter.source, letter.offset, letter.reason, letter.raw) for letter in letters] == [
        (TOPIC, 108, Reason.NOT_TRACES, bytes(damaged)),
        (TOPIC, 109, Reason.NOT_TRACES, None),
    ]
    assert pipeline.merge.missing == 0
    assert state_digest(pipeline.stage) == state_digest(whole().pipeline.stage)
