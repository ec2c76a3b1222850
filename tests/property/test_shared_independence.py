"""However events are cut into batches, traces and what the stage of shared keys says are equal."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.batch import EventBatch
from detectors.compiled import compile_pack
from detectors.incidents import Alert, Output
from detectors.keys import hash_strings
from detectors.shared_stage import SharedStage
from detectors.state import state_digest
from monitor.packs import load_pack
from tests.support.events import random_events
from tests.support.shared import shared_pack, traces_of

EVENTS = 1_200
SMALL = compile_pack(shared_pack())
DEFAULT = compile_pack(load_pack("default"))

cuts_of_events = st.lists(st.integers(0, EVENTS), max_size=40)


@given(seed=st.integers(0, 10_000), cuts=cuts_of_events, users=st.sampled_from([3, 12, 60]))
@settings(max_examples=15, deadline=None)
def test_any_cuts_give_the_same_traces(seed: int, cuts: list[int], users: int) -> None:
    """Ordinals, times, keys and the counts of segments; some events are two hours late."""
    batch = EventBatch.of(random_events(seed, EVENTS, users, spacing_ms=4_000))
    whole = traces_of(SMALL, [batch])
    assert traces_of(SMALL, batch.split(cuts)).equals(whole)
    assert whole["ordinal"].is_sorted()
    assert whole["order_ms"].is_sorted()


@given(seed=st.integers(0, 10_000), shares=st.lists(st.floats(0, 1), max_size=30))
@settings(max_examples=15, deadline=None)
def test_any_cuts_of_traces_give_the_same_outputs(seed: int, shares: list[float]) -> None:
    """And the same state to the byte; keys are evicted, incidents open and close."""
    batch = EventBatch.of(random_events(seed, EVENTS, 12, spacing_ms=4_000))
    traces = traces_of(SMALL, [batch])
    edges = sorted({0, len(traces), *(int(share * len(traces)) for share in shares)})
    once, often = SharedStage(SMALL, 50, 8), SharedStage(SMALL, 50, 8)
    whole = once.process(traces).outputs
    parts: list[Output] = []
    for start, end in pairwise(edges):
        parts += often.process(traces[start:end]).outputs
    assert msgspec.json.encode(parts) == msgspec.json.encode(whole)
    assert state_digest(often) == state_digest(once)
    assert {o.rule_id for o in whole if isinstance(o, Alert)} >= {"crowd"}


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_partitions_count_a_segment_together(seed: int) -> None:
    """What several partitions counted adds up to what one would have, but for late events."""
    events = random_events(seed, EVENTS, 30, spacing_ms=4_000, late_share=0.0)
    whole = counts(traces_of(SMALL, [EventBatch.of(events)]))
    batch = EventBatch.of(events)
    parts = []
    for partition in range(3):
        rows = (hash_strings(batch.keys) % 3) == partition
        parts.append(counts(traces_of(SMALL, [EventBatch.of(events.filter(rows))])))
    summed = pl.concat(parts).group_by("time_ms", "key").agg(pl.col("count").sum())
    both = whole.join(summed, on=["time_ms", "key"], how="left", suffix="_parts")
    # The newest minutes are still open in a partition whose last event was earlier.
    newest_ms = int(events["time_ms"].to_numpy().max())
    over = both.filter(pl.col("time_ms") < newest_ms - 600_000)
    assert len(over) > 100
    assert (over["count"] == over["count_parts"]).all()


def counts(traces: pl.DataFrame) -> pl.DataFrame:
    """The counts of segments among traces."""
    return traces.filter(pl.col("space") == 0).select("time_ms", "key", "count")


@given(seed=st.integers(0, 10_000), cuts=cuts_of_events)
@settings(max_examples=5, deadline=None)
def test_the_default_pack_traces_alike(seed: int, cuts: list[int]) -> None:
    """The same for the pack that users run."""
    batch = EventBatch.of(random_events(seed, EVENTS, 15, spacing_ms=4_000))
    assert traces_of(DEFAULT, batch.split(cuts)).equals(traces_of(DEFAULT, [batch]))
