"""However a partition's records are cut into batches, the outputs are byte-identical."""

from __future__ import annotations

import msgspec
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.batch import EventBatch
from detectors.compiled import CompiledPack, compile_pack
from detectors.incidents import Output
from detectors.topology import Topology
from monitor.packs import load_pack
from tests.support.events import random_events, small_pack

EVENTS = 1_500
SMALL = compile_pack(small_pack())
DEFAULT = compile_pack(load_pack("default"))


def run(pack: CompiledPack, batch: EventBatch, cuts: list[int], max_users: int) -> bytes:
    """All outputs and the final counts of one pass, as bytes."""
    stage = Topology(pack, max_users).user_stage()
    outputs: list[Output] = []
    late, skipped = 0, 0
    for part in batch.split(cuts):
        result = stage.process(part)
        outputs += result.outputs
        late += result.late
        skipped += result.skipped
    counts = (late, skipped, stage.keys.evicted, len(stage.keys), stage.watermark_ms)
    return msgspec.json.encode([outputs, counts])


@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(0, EVENTS), max_size=60),
    users=st.sampled_from([3, 12, 60]),
    max_users=st.sampled_from([2, 8, 100]),
)
@settings(max_examples=40, deadline=None)
def test_any_cuts_give_the_same_outputs(
    seed: int, cuts: list[int], users: int, max_users: int
) -> None:
    """Late events, evictions in the middle of a batch, duplicates of keys: nothing shows."""
    batch = EventBatch.of(random_events(seed, EVENTS, users))
    assert run(SMALL, batch, cuts, max_users) == run(SMALL, batch, [], max_users)


@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(0, EVENTS), max_size=20))
@settings(max_examples=10, deadline=None)
def test_the_default_pack_is_batch_independent(seed: int, cuts: list[int]) -> None:
    """The same for the pack that users run."""
    batch = EventBatch.of(random_events(seed, EVENTS, 15))
    assert run(DEFAULT, batch, cuts, 10) == run(DEFAULT, batch, [], 10)


def pause(events: pl.DataFrame) -> pl.DataFrame:
    """The second half two hours later, so that incidents close and open again."""
    later = pl.int_range(pl.len()) >= pl.len() // 2
    return events.with_columns(pl.col("time_ms") + later.cast(pl.Int64) * 7_200_000)


def test_one_event_a_batch_and_all_outputs_present() -> None:
    """The extreme cut; and the workload of these tests does make every kind of output."""
    batch = EventBatch.of(pause(random_events(1, 600, 3, spacing_ms=2_000)))
    whole = run(SMALL, batch, [], 100)
    assert run(SMALL, batch, list(range(600)), 100) == whole
    for expected in (b'"opened"', b'"updated"', b'"closed"', b'"limit:', b'"rule:', b'"alr_'):
        assert expected in whole
